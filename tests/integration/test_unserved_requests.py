"""Requests that lack what they must say, or that nobody serves: each is answered, and the association goes on."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from typing import Any

import pytest

from dicom_node.scp.announcing import AnnouncementService
from dicom_node.scp.commitment import CommitmentService
from dicom_node.scp.query_retrieve import QueryService
from dicom_node.scu.transcoding import NativeTranscoder
from storage.announcements import Announcements
from storage.blobs import LocalBlobs
from storage.commitments import Commitments
from storage.confirmations import Confirmations
from storage.database import Database
from tests.builders.ct import encode, make_ct_series
from tests.builders.dimse import (
    CT_IMAGE_STORAGE,
    EXPLICIT,
    VERIFICATION,
    Listening,
    a_peer,
    associate_rq,
    await_that,
    command_set,
    listening,
    p_data,
    raw_connection,
    read_pdu,
    status_in,
    store_rq,
)
from tests.builders.queries import query_parts

FIND, MOVE, GET = (f"1.2.840.10008.5.1.4.1.2.2.{number}" for number in (1, 2, 3))
COMMIT, COMMIT_INSTANCE = "1.2.840.10008.1.20.1", "1.2.840.10008.1.20.1.1"
MPPS, IAN = "1.2.840.10008.3.1.2.3.3", "1.2.840.10008.5.1.4.33"
CONTEXTS = {
    2 * number + 1: (syntax, [EXPLICIT])
    for number, syntax in enumerate((VERIFICATION, CT_IMAGE_STORAGE, FIND, MOVE, GET, COMMIT, MPPS, IAN))
}
ID_OF = {syntax: context_id for context_id, (syntax, _) in CONTEXTS.items()}
C_STORE, C_FIND, C_GET, C_MOVE, C_ECHO = 0x0001, 0x0020, 0x0010, 0x0021, 0x0030
N_EVENT_REPORT, N_GET, N_SET, N_ACTION, N_CREATE, N_DELETE = 0x0100, 0x0110, 0x0120, 0x0130, 0x0140, 0x0150
NOTHING = 0x0101

Said = dict[str, Any]


@pytest.fixture
def here(sqlite_database: Database, blobs: LocalBlobs) -> Iterator[Listening]:
    """A receiver with all services."""
    services = [
        QueryService(query_parts(sqlite_database, blobs, NativeTranscoder())),
        CommitmentService(Commitments(sqlite_database, blobs), Confirmations(sqlite_database)),
        AnnouncementService(Announcements(sqlite_database)),
    ]
    peers = {"any": a_peer(accept=["echo", "store", "find", "move", "get", "commit", "mpps", "ian"])}
    with listening(peers=peers, services=services) as up:
        yield up


@pytest.fixture
def connection(here: Listening) -> Iterator[socket.socket]:
    with raw_connection(here.port) as opened:
        opened.sendall(associate_rq(contexts=CONTEXTS))
        assert read_pdu(opened)[0] == 0x02
        yield opened


def say(connection: socket.socket, syntax: str, command: bytes, data_set: bytes | None = None) -> None:
    connection.sendall(p_data(command, command=True, last=True, context_id=ID_OF[syntax]))
    if data_set is not None:
        connection.sendall(p_data(data_set, command=False, last=True, context_id=ID_OF[syntax]))


def heard(connection: socket.socket) -> tuple[int, int, int]:
    """Give command field, message ID and Status of the answer."""
    kind, content = read_pdu(connection)
    assert kind == 0x04, kind
    values = []
    for element in (0x0100, 0x0120):
        at = content.index(struct.pack("<HHL", 0, element, 2))
        values.append(int.from_bytes(content[at + 8 : at + 10], "little"))
    return values[0], values[1], status_in(content)


@pytest.mark.parametrize(
    ("syntax", "field", "said", "status"),
    [
        (VERIFICATION, C_STORE, {"e0002": CT_IMAGE_STORAGE, "e1000": "1.2.3"}, 0x0122),
        (FIND, C_ECHO, {"e0002": VERIFICATION}, 0x0122),
        (CT_IMAGE_STORAGE, C_STORE, {"e0002": CT_IMAGE_STORAGE}, 0x0117),
        (CT_IMAGE_STORAGE, C_STORE, {"e1000": "1.2.3"}, 0x0117),
        (FIND, C_FIND, {}, 0x0122),
        (GET, C_GET, {}, 0x0122),
        (MOVE, C_MOVE, {"e0600": "DEST"}, 0x0122),
        (MOVE, C_MOVE, {"e0002": MOVE}, 0xA801),
        (COMMIT, N_ACTION, {"e1001": COMMIT_INSTANCE, "e1008": 1}, 0x0118),
        (COMMIT, N_ACTION, {"e0003": COMMIT, "e1008": 1}, 0x0112),
        (COMMIT, N_ACTION, {"e0003": COMMIT, "e1001": COMMIT_INSTANCE}, 0x0123),
        (MPPS, N_CREATE, {"e1000": "1.2.3"}, 0x0118),
        (IAN, N_CREATE, {"e1000": "1.2.3"}, 0x0118),
        (MPPS, N_SET, {"e1001": "1.2.3"}, 0x0118),
        (MPPS, N_SET, {"e0003": MPPS}, 0x0117),
    ],
)
def test_a_request_that_lacks_what_it_must_say_is_answered_so(
    connection: socket.socket, syntax: str, field: int, said: Said, status: int
) -> None:
    priority = {"e0700": 0} if field < N_EVENT_REPORT else {}
    say(connection, syntax, command_set(field=field, e0110=7, e0800=1, **priority, **said), b"\x08\0\x52\0CS\0\0")
    assert heard(connection) == (field | 0x8000, 7, status)
    say(connection, VERIFICATION, command_set(field=C_ECHO, e0002=VERIFICATION, e0110=8, e0800=NOTHING))
    assert heard(connection) == (0x8030, 8, 0x0000)


@pytest.mark.parametrize(
    ("syntax", "field", "said"),
    [
        (FIND, C_MOVE, {"e0002": FIND, "e0600": "DEST", "e0700": 0}),
        (CT_IMAGE_STORAGE, C_FIND, {"e0002": FIND, "e0700": 0}),
        (MPPS, N_EVENT_REPORT, {"e0002": MPPS, "e1000": "1.2.3", "e1002": 1}),
        (COMMIT, N_DELETE, {"e0003": COMMIT, "e1001": COMMIT_INSTANCE}),
        (MPPS, N_GET, {"e0003": MPPS, "e1001": "1.2.3"}),
        (MPPS, N_ACTION, {"e0003": MPPS, "e1001": "1.2.3", "e1008": 1}),
        (IAN, N_SET, {"e0003": IAN, "e1001": "1.2.3"}),
    ],
)
def test_a_request_that_its_context_has_no_service_for_is_an_unrecognized_operation(
    connection: socket.socket, syntax: str, field: int, said: Said
) -> None:
    say(connection, syntax, command_set(field=field, e0110=7, e0800=NOTHING, **said))
    assert heard(connection) == (field | 0x8000, 7, 0x0211)
    say(connection, VERIFICATION, command_set(field=C_ECHO, e0002=VERIFICATION, e0110=8, e0800=NOTHING))
    assert heard(connection) == (0x8030, 8, 0x0000)


def test_a_store_without_a_data_set_is_a_mistyped_argument(connection: socket.socket) -> None:
    say(connection, CT_IMAGE_STORAGE, store_rq(data_set=False))
    assert heard(connection) == (0x8001, 7, 0x0212)


def test_a_priority_that_is_left_out_is_taken_as_medium(connection: socket.socket, here: Listening) -> None:
    (slice_,) = make_ct_series(1)
    part10 = encode(slice_)
    data_set = part10[144 + int.from_bytes(part10[140:144], "little") :]
    named = {"e0002": CT_IMAGE_STORAGE, "e1000": str(slice_.SOPInstanceUID)}
    say(connection, CT_IMAGE_STORAGE, command_set(field=C_STORE, e0110=7, e0800=1, **named), data_set)
    assert heard(connection) == (0x8001, 7, 0x0000)
    assert [each.sop_instance_uid for each in here.door.kept] == [slice_.SOPInstanceUID]


def test_an_echo_that_names_no_class_is_answered(connection: socket.socket) -> None:
    say(connection, VERIFICATION, command_set(field=C_ECHO, e0110=7, e0800=NOTHING))
    assert heard(connection) == (0x8030, 7, 0x0000)


@pytest.mark.parametrize("syntax", [CT_IMAGE_STORAGE, COMMIT])
def test_a_request_that_cannot_be_answered_ends_its_association(
    connection: socket.socket, here: Listening, syntax: str
) -> None:
    """Without a Message ID there is nothing to answer to."""
    say(connection, syntax, command_set(field=C_ECHO, e0002=VERIFICATION, e0800=NOTHING))
    assert read_pdu(connection)[0] == 0x07
    await_that(lambda: list(here.rows.ends.values()) == ["aborted"])
