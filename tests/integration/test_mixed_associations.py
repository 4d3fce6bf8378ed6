"""Associations that ask for more than storage: what is odd and legal is understood, what is hostile ends alone."""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Iterator

import pytest

from storage.blobs import LocalBlobs
from storage.database import Database
from tests.builders.ct import make_ct_instance
from tests.builders.dimse import (
    CT_IMAGE_STORAGE,
    EXPLICIT,
    Listening,
    associate_rq,
    await_that,
    command_set,
    p_data_of,
    pdv,
    raw_connection,
    read_pdu,
    status_in,
    store_rq,
)
from tests.builders.queries import STUDY_ROOT_FIND, answering_queries, identifier
from tests.builders.wire import bare

FIND_RQ = command_set(field=0x0020, e0002=STUDY_ROOT_FIND, e0110=7, e0700=0, e0800=1)
CONTEXTS = {1: (STUDY_ROOT_FIND, [EXPLICIT]), 3: (CT_IMAGE_STORAGE, [EXPLICIT])}


@pytest.fixture
def here(sqlite_database: Database, blobs: LocalBlobs) -> Iterator[Listening]:
    with answering_queries(sqlite_database, blobs, answer_within_s=2, idle_after_s=2) as up:
        yield up


@pytest.fixture
def connection(here: Listening) -> Iterator[socket.socket]:
    with raw_connection(here.port) as opened:
        opened.sendall(associate_rq(contexts=CONTEXTS, maximum_length=0))
        assert read_pdu(opened)[0] == 0x02
        yield opened


def cut(content: bytes, size: int, *, command: bool, context_id: int) -> list[bytes]:
    """Cut a command or data set into PDVs; an empty one goes before the last."""
    pieces = [content[at : at + size] for at in range(0, len(content), size)]
    pieces.insert(-1, b"")
    last = len(pieces) - 1
    return [pdv(each, command=command, last=at == last, context_id=context_id) for at, each in enumerate(pieces)]


def answered(connection: socket.socket) -> int:
    kind, content = read_pdu(connection)
    assert kind == 0x04, kind
    return status_in(content)


def a_query() -> bytes:
    return bare(identifier("STUDY", StudyInstanceUID="1.2.3"))


@pytest.mark.parametrize("size", [2, 7, 64, 4096])
@pytest.mark.parametrize("together", [True, False], ids=["one PDU", "a PDU each"])
def test_messages_cut_anyhow_are_put_together(
    connection: socket.socket, here: Listening, size: int, together: bool
) -> None:
    made = make_ct_instance(1)
    store = store_rq(sop_instance_uid=str(made.SOPInstanceUID))
    for command, data_set, context_id in ((FIND_RQ, a_query(), 1), (store, bare(made), 3)):
        parts = cut(command, size, command=True, context_id=context_id)
        parts += cut(data_set, max(size, 64), command=False, context_id=context_id)
        connection.sendall(p_data_of(*parts) if together else b"".join(p_data_of(part) for part in parts))
        assert answered(connection) == 0x0000
    assert [each.data_set for each in here.door.kept] == [bare(made)]


HOSTILE = {
    "a PDU of 4 GB": struct.pack(">BxL", 0x04, 0xFFFFFFFF),
    "a PDV that leads out of its PDU": struct.pack(">BxLLBB", 0x04, 6, 0xFFFFFF, 1, 3),
    "a release of 1 MB": struct.pack(">BxL", 0x05, 1 << 20),
    "garbage": b"GET / HTTP/1.1\r\nHost: node\r\n\r\n" * 8,
    "a command that is none": p_data_of(pdv(b"\xff" * 40, command=True, last=True)),
    "a command without a field": p_data_of(pdv(b"\0\0\0\x01\2\0\0\0\1\0", command=True, last=True)),
    "a PDV of nothing": struct.pack(">BxLLB", 0x04, 5, 1, 1),
    "an unknown command": p_data_of(pdv(command_set(field=0x7777, e0110=1, e0800=0x0101), command=True, last=True)),
    "a second request": associate_rq(contexts=CONTEXTS),
}


@pytest.mark.filterwarnings("ignore:End of file reached before delimiter:UserWarning")
@pytest.mark.parametrize("sent", [pytest.param(sent, id=name) for name, sent in HOSTILE.items()])
def test_what_breaks_the_rules_ends_its_association_alone(
    connection: socket.socket, here: Listening, sent: bytes
) -> None:
    connection.sendall(sent)
    kind, _ = read_pdu(connection)
    assert kind in (0x00, 0x07)
    await_that(lambda: len(here.rows.ends) == 1, within_s=10)
    with raw_connection(here.port) as another:
        another.sendall(associate_rq(contexts=CONTEXTS))
        assert read_pdu(another)[0] == 0x02


@pytest.mark.parametrize("begun", [b"", struct.pack(">BxL", 0x04, 100) + b"\0\0"], ids=["idle", "half a PDU"])
def test_a_peer_that_says_no_more_is_ended_in_time(connection: socket.socket, here: Listening, begun: bytes) -> None:
    connection.sendall(begun)
    began = time.monotonic()
    assert read_pdu(connection)[0] in (0x00, 0x07)
    assert time.monotonic() - began < 8
    await_that(lambda: len(here.rows.ends) == 1, within_s=10)
