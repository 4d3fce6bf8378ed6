"""Storage associations over sockets: peers that keep to the standard in every odd way, and peers that do not."""

from __future__ import annotations

import contextlib
import itertools
import logging
import socket
import struct
import threading
import time
from collections.abc import Iterator

import pytest

from dicom_node.scp.negotiation import WIDEST_WINDOW
from storage.errors import DiskFull, IndexUnavailable, SopClassMismatch, UnreadableInstance
from tests.builders.dimse import (
    CT_IMAGE_STORAGE,
    EXPLICIT,
    IMPLICIT,
    VERIFICATION,
    Listening,
    RememberingDoor,
    a_peer,
    associate_rq,
    await_that,
    command_set,
    item,
    listening,
    p_data,
    p_data_of,
    pdv,
    raw_connection,
    read_pdu,
    status_in,
    store_rq,
)

RELEASE_RQ, RELEASE_RP = struct.pack(">BxL4x", 5, 4), 6
ABORT = 7
MR = "1.2.840.10008.5.1.4.1.1.4"


@pytest.fixture
def here() -> Iterator[Listening]:
    with listening() as receiver:
        yield receiver


def associated(connection: socket.socket, request: bytes | None = None) -> bytes:
    """Have an association; give the content of the A-ASSOCIATE-AC."""
    connection.sendall(request or associate_rq())
    kind, content = read_pdu(connection)
    assert kind == 2
    return content


def answer(connection: socket.socket) -> tuple[int, int]:
    """Read a response: the Message ID that it answers, and its Status."""
    kind, content = read_pdu(connection)
    assert kind == 4, (kind, content)
    at = content.index(struct.pack("<HHL", 0, 0x0120, 2)) + 8
    return int.from_bytes(content[at : at + 2], "little"), status_in(content)


def store(connection: socket.socket, data_set: bytes, **names: str | None) -> int:
    connection.sendall(
        p_data(store_rq(**names), command=True, last=True)  # type: ignore[arg-type]
        + p_data(data_set, command=False, last=True)
    )
    return answer(connection)[1]


def ended_by_abort(connection: socket.socket) -> tuple[int, int]:
    """Read the A-ABORT that the node sends: its source and reason."""
    kind, content = read_pdu(connection)
    assert kind == ABORT, kind
    return content[2], content[3]


def test_an_instance_is_kept_before_its_answer_and_the_association_released(here: Listening) -> None:
    with raw_connection(here.port) as connection:
        associated(connection)
        assert store(connection, b"data set") == 0x0000
        (arrived,) = here.door.kept
        assert arrived.data_set == b"data set"
        assert arrived.origin.calling_ae_title == "CT1"
        connection.sendall(RELEASE_RQ)
        assert read_pdu(connection)[0] == RELEASE_RP
        await_that(lambda: list(here.rows.ends.values()) == ["released"])


def test_the_place_of_a_released_association_is_free_when_its_peer_hears_of_it() -> None:
    with listening(peers={"ct1": a_peer(caps={"associations": 1})}) as here:
        for _ in range(20):
            with raw_connection(here.port) as connection:
                associated(connection)
                connection.sendall(RELEASE_RQ)
                assert read_pdu(connection)[0] == RELEASE_RP


# Odd, and legal


@pytest.mark.parametrize("size", [1, 2, 7, 500, 70_000, 131_000])
def test_a_data_set_cut_anyhow_arrives_whole(here: Listening, size: int) -> None:
    data_set = bytes(range(256)) * (3 if size < 10 else 1000)
    parts = [data_set[at : at + size] for at in range(0, len(data_set), size)]
    with raw_connection(here.port) as connection:
        associated(connection)
        connection.sendall(p_data(store_rq(), command=True, last=True))
        for number, part in enumerate(parts, 1):
            connection.sendall(p_data(part, command=False, last=number == len(parts)))
        assert answer(connection) == (7, 0x0000)
    assert here.door.kept[0].data_set == data_set


def test_a_fragmented_command_is_put_together(here: Listening) -> None:
    command = store_rq()
    with raw_connection(here.port) as connection:
        associated(connection)
        for at in range(len(command)):
            connection.sendall(p_data(command[at : at + 1], command=True, last=at == len(command) - 1))
        connection.sendall(p_data(b"abc", command=False, last=True))
        assert answer(connection) == (7, 0x0000)


def test_command_and_data_in_one_pdu_several_pdvs_and_empty_ones(here: Listening) -> None:
    with raw_connection(here.port) as connection:
        associated(connection)
        connection.sendall(
            p_data_of(
                pdv(store_rq()[:20], command=True, last=False),
                pdv(store_rq()[20:], command=True, last=True),
                pdv(b"ab", command=False, last=False),
                pdv(b"", command=False, last=False),
                pdv(b"cd", command=False, last=False),
                pdv(b"", command=False, last=True),
            )
        )
        assert answer(connection) == (7, 0x0000)
    assert here.door.kept[0].data_set == b"abcd"


def test_bytes_that_come_one_by_one_are_understood(here: Listening) -> None:
    with raw_connection(here.port) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in associate_rq():
            connection.sendall(bytes((byte,)))
        assert read_pdu(connection)[0] == 2
        for byte in p_data(store_rq(), command=True, last=True) + p_data(b"abc", command=False, last=True):
            connection.sendall(bytes((byte,)))
        assert answer(connection) == (7, 0x0000)
    assert here.door.kept[0].data_set == b"abc"


def test_an_answer_is_cut_to_the_peer_s_maximum(here: Listening) -> None:
    with raw_connection(here.port) as connection:
        associated(connection, associate_rq(maximum_length=64))
        connection.sendall(p_data(store_rq(), command=True, last=True) + p_data(b"abc", command=False, last=True))
        command, last = b"", False
        while not last:
            kind, content = read_pdu(connection)
            assert kind == 4
            assert len(content) <= 64
            command += content[6:]
            last = bool(content[5] & 2)
        assert status_in(command) == 0x0000


def test_an_answer_leaves_in_one_piece_for_a_peer_without_a_maximum(here: Listening) -> None:
    with raw_connection(here.port) as connection:
        associated(connection, associate_rq(maximum_length=0))
        connection.sendall(
            p_data(command_set(field=1, e0002=CT_IMAGE_STORAGE, e0110=3, e0800=1, e1000="1.2"), command=True, last=True)
            + p_data(b"a", command=False, last=True)
        )
        time.sleep(0.2)
        received = connection.recv(4096)
        assert struct.unpack(">BxL", received[:6])[1] == len(received) - 6


def test_echo_and_store_on_one_association(here: Listening) -> None:
    contexts = {1: (VERIFICATION, [IMPLICIT]), 3: (CT_IMAGE_STORAGE, [EXPLICIT])}
    with raw_connection(here.port) as connection:
        associated(connection, associate_rq(contexts=contexts))
        echo = command_set(field=0x0030, e0002=VERIFICATION, e0110=1, e0800=0x0101)
        connection.sendall(p_data(echo, command=True, last=True))
        assert answer(connection) == (1, 0x0000)
        connection.sendall(
            p_data(store_rq(), command=True, last=True, context_id=3)
            + p_data(b"abc", command=False, last=True, context_id=3)
        )
        assert answer(connection) == (7, 0x0000)


def test_a_cancel_that_comes_too_late_is_passed_over(here: Listening) -> None:
    with raw_connection(here.port) as connection:
        associated(connection)
        connection.sendall(p_data(command_set(field=0x0FFF, e0120=7, e0800=0x0101), command=True, last=True))
        assert store(connection, b"abc") == 0x0000


# Negotiation


def results(content: bytes) -> dict[int, tuple[int, str]]:
    """Context ID → (result, transfer syntax) of an A-ASSOCIATE-AC."""
    found, at = {}, 68
    while at < len(content):
        kind, length = struct.unpack_from(">BxH", content, at)
        if kind == 0x21:
            body = content[at + 4 : at + 4 + length]
            found[body[0]] = (body[2], body[8:].decode())
        at += 4 + length
    return found


def test_contexts_are_answered_one_by_one(here: Listening) -> None:
    contexts = {
        1: (CT_IMAGE_STORAGE, ["1.2.840.10008.1.2.4.50", IMPLICIT, EXPLICIT]),
        3: (CT_IMAGE_STORAGE, ["1.2.3.4.5"]),
        5: ("1.2.840.10008.5.1.4.34.6.1", [EXPLICIT]),
        7: ("1.3.12.2.1107.5.9.1", [IMPLICIT]),  # a private storage class
    }
    with raw_connection(here.port) as connection:
        assert results(associated(connection, associate_rq(contexts=contexts))) == {
            1: (0, EXPLICIT),
            3: (4, "1.2.3.4.5"),
            5: (3, EXPLICIT),
            7: (0, IMPLICIT),
        }


def test_128_contexts_are_answered(here: Listening) -> None:
    contexts = {number: (f"1.2.3.{number}", [EXPLICIT]) for number in range(1, 256, 2)}
    with raw_connection(here.port) as connection:
        answered = results(associated(connection, associate_rq(contexts=contexts)))
    assert answered == dict.fromkeys(contexts, (0, EXPLICIT))


def test_roles_extended_negotiation_and_window_are_answered(here: Listening) -> None:
    name = CT_IMAGE_STORAGE.encode()
    role = item(0x54, struct.pack(">H", len(name)) + name + b"\x01\x01")
    extended = item(0x56, struct.pack(">H", len(name)) + name + bytes((2, 0, 0, 0, 1, 0)))
    window = item(0x53, struct.pack(">HH", 0, 0))
    with raw_connection(here.port) as connection:
        content = associated(connection, associate_rq(more=role + extended + window))
    assert item(0x54, struct.pack(">H", len(name)) + name + b"\x01\x00") in content
    assert item(0x56, struct.pack(">H", len(name)) + name + bytes((2, 0, 3, 0, 0, 0))) in content
    assert item(0x53, struct.pack(">HH", WIDEST_WINDOW, 1)) in content


@pytest.mark.parametrize(
    ("request_", "rejection"),
    [
        ({"version": 2}, (1, 2, 2)),
        ({"application_context": b"1.2.3"}, (1, 1, 2)),
        ({"called": "OTHER"}, (1, 1, 7)),
        ({"calling": "bad\\title"}, (1, 1, 3)),
    ],
)
def test_a_request_that_cannot_be_met_is_rejected_with_its_reason(
    here: Listening, request_: dict[str, str], rejection: tuple[int, int, int]
) -> None:
    with raw_connection(here.port) as connection:
        connection.sendall(associate_rq(**request_))  # type: ignore[arg-type]
        kind, content = read_pdu(connection)
        assert (kind, tuple(content[1:])) == (3, rejection)


def test_a_stranger_is_rejected_and_remembered() -> None:
    with listening(peers={"ct1": a_peer(ae_title="CT1")}) as here, raw_connection(here.port) as connection:
        connection.sendall(associate_rq(calling="STRANGER"))
        kind, content = read_pdu(connection)
        assert (kind, tuple(content[1:])) == (3, (1, 1, 3))
        await_that(lambda: [refusal[0] for refusal in here.rows.refusals] == ["STRANGER"])


def test_an_association_beyond_the_limit_is_rejected_for_now() -> None:
    with (
        listening(maximum_associations=1) as here,
        raw_connection(here.port) as first,
        raw_connection(here.port) as second,
    ):
        associated(first)
        second.sendall(associate_rq())
        kind, content = read_pdu(second)
        assert (kind, tuple(content[1:])) == (3, (2, 3, 2))


# Each Status


@pytest.mark.parametrize(
    ("failure", "status"),
    [
        (DiskFull("full"), 0xA700),
        (IndexUnavailable("gone"), 0xA700),
        (SopClassMismatch("other"), 0xA900),
        (UnreadableInstance("broken"), 0xC000),
        (RuntimeError("bug"), 0x0110),
    ],
)
def test_what_was_not_kept_is_answered_by_its_status_and_the_association_goes_on(
    failure: Exception, status: int
) -> None:
    door = RememberingDoor(failure=failure)
    with listening(door=door) as here, raw_connection(here.port) as connection:
        associated(connection)
        assert store(connection, b"abc") == status
        door.failure = None
        assert store(connection, b"abc") == 0x0000
        assert door.left == 2


@pytest.mark.parametrize(
    ("command", "has_data_set", "status"),
    [
        (store_rq(sop_instance_uid=None), True, 0x0117),
        (store_rq(sop_instance_uid="no.uid"), True, 0x0117),
        (store_rq(sop_class_uid=MR), True, 0xA900),
        (store_rq(data_set=False), False, 0x0212),
        (command_set(field=0x0020, e0002=CT_IMAGE_STORAGE, e0110=7, e0700=0, e0800=1), True, 0x0211),
        (command_set(field=0x0030, e0002=VERIFICATION, e0110=7, e0800=0x0101), False, 0x0122),
    ],
)
def test_a_request_that_cannot_be_served_is_answered_so(
    here: Listening, command: bytes, has_data_set: bool, status: int
) -> None:
    with raw_connection(here.port) as connection:
        associated(connection)
        connection.sendall(p_data(command, command=True, last=True))
        if has_data_set:
            connection.sendall(p_data(b"abc" * 1000, command=False, last=True))
        assert answer(connection) == (7, status)
        assert store(connection, b"abc") == 0x0000


def test_a_node_that_stops_refuses_what_comes_and_aborts_its_associations() -> None:
    hold = threading.Event()
    door = RememberingDoor(hold=hold)
    with listening(door=door) as here, raw_connection(here.port) as connection:
        associated(connection)
        connection.sendall(p_data(store_rq(), command=True, last=True) + p_data(b"a", command=False, last=True))
        assert door.entered.wait(5)
        stopping = threading.Thread(target=here.receiver.stop)
        stopping.start()
        time.sleep(0.1)
        hold.set()
        assert answer(connection) == (7, 0x0000)  # what was being kept is kept, and said so
        assert ended_by_abort(connection) == (0, 0)
        stopping.join()


# Windows


def test_a_peer_with_a_window_has_several_instances_under_way_and_each_answer_as_it_comes() -> None:
    hold = threading.Event()
    door = RememberingDoor(hold=hold)
    with listening(door=door) as here, raw_connection(here.port) as connection:
        associated(connection, associate_rq(more=item(0x53, struct.pack(">HH", 4, 1))))
        for message_id in range(1, 5):
            connection.sendall(
                p_data(store_rq(message_id=message_id, sop_instance_uid=f"1.2.{message_id}"), command=True, last=True)
                + p_data(b"abc", command=False, last=True)
            )
        await_that(lambda: door.entries == 4)
        assert not door.kept
        hold.set()
        assert {answer(connection) for _ in range(4)} == {(number, 0x0000) for number in range(1, 5)}
        connection.sendall(RELEASE_RQ)
        assert read_pdu(connection)[0] == RELEASE_RP


def test_a_message_id_that_waits_for_its_answer_is_not_taken_twice() -> None:
    hold = threading.Event()
    door = RememberingDoor(hold=hold)
    with listening(door=door) as here, raw_connection(here.port) as connection:
        associated(connection, associate_rq(more=item(0x53, struct.pack(">HH", 4, 1))))
        both = p_data(store_rq(), command=True, last=True) + p_data(b"abc", command=False, last=True)
        connection.sendall(both)
        assert door.entered.wait(5)
        connection.sendall(both)
        assert answer(connection) == (7, 0x0210)
        hold.set()
        assert answer(connection) == (7, 0x0000)


def test_a_release_waits_for_the_answers_that_are_due() -> None:
    hold = threading.Event()
    door = RememberingDoor(hold=hold)
    with listening(door=door) as here, raw_connection(here.port) as connection:
        associated(connection, associate_rq(more=item(0x53, struct.pack(">HH", 4, 1))))
        connection.sendall(p_data(store_rq(), command=True, last=True) + p_data(b"abc", command=False, last=True))
        assert door.entered.wait(5)
        connection.sendall(RELEASE_RQ)
        time.sleep(0.1)
        hold.set()
        assert answer(connection) == (7, 0x0000)
        assert read_pdu(connection)[0] == RELEASE_RP


# Hostile


@pytest.mark.parametrize(
    ("sent", "abort"),
    [
        (struct.pack(">BxL", 0x04, 0xFFFFFFFF), (2, 6)),  # a P-DATA-TF of 4 GB
        (p_data(b"", command=True, last=True)[:6] + struct.pack(">LBB", 0xFFFFFFFF, 1, 1), (2, 6)),  # a PDV of 4 GB
        (struct.pack(">BxLLBB", 0x04, 6, 0, 1, 1), (2, 6)),  # a PDV without its own header
        (struct.pack(">BxL", 0x04, 3) + b"abc", (2, 6)),  # no room for a PDV
        (p_data(b"abc", command=False, last=True), (2, 5)),  # a data set without a command
        (p_data(store_rq(), command=True, last=True, context_id=3), (2, 5)),  # a context that was not asked for
        (p_data(store_rq(), command=True, last=True) * 2, (2, 5)),  # a command where the data set should be
        (
            p_data(store_rq(), command=True, last=True)
            + p_data(b"ab", command=False, last=False)
            + p_data(store_rq(), command=True, last=True),
            (2, 5),
        ),
        (p_data(store_rq(), command=True, last=True) + RELEASE_RQ, (2, 5)),
        (associate_rq(), (2, 2)),
        (struct.pack(">BxL", 0x02, 4) + bytes(4), (2, 2)),
        (struct.pack(">BxL", 0x06, 4) + bytes(4), (2, 2)),
        (struct.pack(">BxL", 0x99, 4) + bytes(4), (2, 1)),  # a PDU that the standard does not know
        (b"GET / HTTP/1.1\r\n\r\n", (2, 6)),
        (p_data(b"\x00" * 20000, command=True, last=False), (0, 0)),  # a command that does not end
        (p_data(b"\xff" * 40, command=True, last=True), (0, 0)),  # a command that is none
        (p_data(command_set(field=0x8001, e0120=1, e0800=0x0101, e0900=0), command=True, last=True), (0, 0)),
        (p_data(command_set(field=0x0001, e0800=1), command=True, last=True), (0, 0)),  # no Message ID
    ],
)
def test_what_breaks_the_rules_ends_its_association_alone(here: Listening, sent: bytes, abort: tuple[int, int]) -> None:
    with raw_connection(here.port) as other, raw_connection(here.port) as connection:
        associated(other)
        associated(connection)
        connection.sendall(sent)
        assert ended_by_abort(connection) == abort
        assert read_pdu(connection)[0] == 0
        await_that(lambda: list(here.rows.ends.values()) == ["aborted"])
        assert store(other, b"abc") == 0x0000
    assert [arrived.data_set for arrived in here.door.kept] == [b"abc"]


@pytest.mark.parametrize(
    "sent",
    [
        p_data(store_rq(), command=True, last=True),
        RELEASE_RQ,
        b"\x99\x00\x00\x00\x00\x04abcd",
        struct.pack(">BxL", 0x01, 0xFFFFFFFF),
        struct.pack(">BxL", 0x01, 10) + bytes(10),
        associate_rq()[:6] + b"\xff" * (len(associate_rq()) - 6),
        associate_rq(contexts={2: (CT_IMAGE_STORAGE, [EXPLICIT])}),
        associate_rq(contexts={1: (CT_IMAGE_STORAGE, [])}),
        associate_rq(contexts={1: ("1" * 5000, [EXPLICIT])}),
        associate_rq(more=item(0x51, b"\0")),
        associate_rq(more=item(0x54, struct.pack(">H", 4000) + b"1.2")),
    ],
)
def test_what_is_no_sound_request_is_aborted(here: Listening, sent: bytes) -> None:
    with raw_connection(here.port) as connection:
        connection.sendall(sent)
        assert ended_by_abort(connection) == (0, 0)
    with raw_connection(here.port) as connection:
        associated(connection)
        assert store(connection, b"abc") == 0x0000


def test_a_connection_without_a_request_is_cut_in_time() -> None:
    with listening(answer_within_s=0.3) as here, raw_connection(here.port) as connection:
        began = time.monotonic()
        assert connection.recv(1) == b""
        assert 0.2 < time.monotonic() - began < 10


def test_a_dripping_request_is_cut_in_time() -> None:
    with listening(answer_within_s=0.4) as here, raw_connection(here.port) as connection:
        cut = _drip(connection, associate_rq(), every_s=0.05)
        assert 0.2 < cut < 3


def test_a_dripping_pdu_is_cut_in_time() -> None:
    with listening(idle_after_s=0.5) as here, raw_connection(here.port) as connection:
        associated(connection)
        cut = _drip(connection, p_data(bytes(100_000), command=True, last=True), every_s=0.05)
        assert 0.3 < cut < 4
        await_that(lambda: list(here.rows.ends.values()) == ["aborted"])


def test_a_message_that_drips_in_whole_pdus_is_cut_in_time() -> None:
    with listening(idle_after_s=0.5) as here, raw_connection(here.port) as connection:
        associated(connection)
        connection.sendall(p_data(store_rq(), command=True, last=True))
        began = time.monotonic()
        with contextlib.suppress(OSError):
            while time.monotonic() - began < 8:
                connection.sendall(p_data(b"a", command=False, last=False))
                time.sleep(0.05)
        assert time.monotonic() - began < 8
        assert here.door.left == 1


def test_an_idle_association_is_ended_by_an_abort() -> None:
    with listening(idle_after_s=0.3) as here, raw_connection(here.port) as connection:
        associated(connection)
        assert ended_by_abort(connection) == (0, 0)


def _drip(connection: socket.socket, content: bytes, *, every_s: float) -> float:
    """Send byte by byte until the node ends the connection; give the seconds until then."""
    began = time.monotonic()
    connection.settimeout(every_s)
    for byte in itertools.islice(itertools.cycle(content), 400):
        try:
            connection.sendall(bytes((byte,)))
            answer = connection.recv(1)
        except TimeoutError:
            continue
        except OSError:
            break
        if not answer or answer == bytes((ABORT,)):
            break
    return time.monotonic() - began


@pytest.mark.parametrize("cut", range(1, len(p_data(store_rq(), command=True, last=True)) + 30, 23))
def test_a_connection_that_ends_anywhere_leaves_nothing_behind(here: Listening, cut: int) -> None:
    whole = p_data(store_rq(), command=True, last=True) + p_data(b"a" * 20, command=False, last=True)
    with raw_connection(here.port) as connection:
        associated(connection)
        connection.sendall(whole[:cut])
    await_that(lambda: list(here.rows.ends.values()) == ["lost"])
    assert not here.door.kept


@pytest.mark.parametrize(("source", "end"), [(0, "aborted"), (2, "lost")])
def test_a_peer_may_abort_within_a_data_set(here: Listening, source: int, end: str) -> None:
    with raw_connection(here.port) as connection:
        associated(connection)
        connection.sendall(p_data(store_rq(), command=True, last=True) + p_data(b"a", command=False, last=False))
        connection.sendall(struct.pack(">BxLxxBB", 0x07, 4, source, 0))
        assert read_pdu(connection)[0] == 0
    await_that(lambda: list(here.rows.ends.values()) == [end])
    assert not here.door.kept
    assert here.door.left == 1


def test_an_instance_larger_than_allowed_ends_its_association() -> None:
    with listening(maximum_instance_mb=0.5) as here, raw_connection(here.port) as connection:
        associated(connection)
        connection.sendall(p_data(store_rq(), command=True, last=True))
        for _ in range(6):
            connection.sendall(p_data(bytes(100_000), command=False, last=False))
        assert ended_by_abort(connection) == (2, 6)
        assert not here.door.kept


def test_a_peer_that_sends_without_reading_its_answers_is_borne_with_and_bounded(here: Listening) -> None:
    with raw_connection(here.port) as connection:
        associated(connection)
        for number in range(1, 201):
            connection.sendall(
                p_data(store_rq(message_id=number), command=True, last=True) + p_data(b"abc", command=False, last=True)
            )
        assert [answer(connection)[0] for _ in range(200)] == list(range(1, 201))


def test_the_log_says_why_an_association_was_ended_and_nothing_of_its_data(
    here: Listening, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "dicom_node"), raw_connection(here.port) as connection:
        associated(connection)
        connection.sendall(p_data(b"Test^Quiet", command=False, last=True))
        ended_by_abort(connection)
        await_that(lambda: bool(here.rows.ends))
        await_that(lambda: any("ended without" in record.getMessage() for record in caplog.records))
    record = next(record for record in caplog.records if "ended without" in record.getMessage())
    assert vars(record)["why"] == "a data set without a command"
    assert "Quiet" not in caplog.text
