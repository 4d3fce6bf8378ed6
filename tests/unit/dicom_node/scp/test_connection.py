from __future__ import annotations

import select
import socket
import struct
from typing import Any, cast

import pytest

from dicom_node.scp.connection import BoundedConnection, Bounds

BOUNDS = Bounds(
    maximum_pdu_size=16384,
    maximum_message=100_000,
    maximum_in_memory=50_000,
    maximum_association=1_000_000,
    first_pdu_within_s=30,
    pdu_within_s=600,
    send_within_s=30,
)


class Wire:
    """What the kernel would give, in pieces."""

    def __init__(self, *pieces: bytes) -> None:
        self.pieces = list(pieces)
        self.timeouts: list[float] = []
        self.now = 0.0
        self.closed = False

    def recv(self, size: int) -> bytes:
        if not self.pieces:
            raise TimeoutError
        piece, self.pieces[0] = self.pieces[0][:size], self.pieces[0][size:]
        if not self.pieces[0]:
            self.pieces.pop(0)
        return piece

    def settimeout(self, seconds: float) -> None:
        self.timeouts.append(seconds)

    def setsockopt(self, *_: Any) -> None:
        pass

    def shutdown(self, _how: int) -> None:
        raise OSError("not connected")

    def close(self) -> None:
        self.closed = True

    def through(self) -> BoundedConnection:
        return BoundedConnection(cast(socket.socket, self), BOUNDS, monotonic=lambda: self.now)


def pdu(kind: int, length: int) -> bytes:
    return struct.pack(">BxL", kind, length) + bytes(length)


def read(connection: BoundedConnection, count: int) -> bytes:
    """As pynetdicom does it."""
    taken = b""
    while len(taken) < count:
        chunk = connection.recv(min(4096, count - len(taken)))
        if not chunk:
            break
        taken += chunk
    return taken


def test_pdus_come_through_as_they_are_however_they_were_cut() -> None:
    sent = pdu(1, 200) + pdu(4, 10_000) + pdu(5, 4)
    connection = Wire(*(sent[at : at + 7] for at in range(0, len(sent), 7))).through()
    received = b""
    for length in (200, 10_000, 4):
        received += read(connection, 6) + read(connection, length)
    assert received == sent
    assert connection.received == len(sent)


def test_nothing_is_read_beyond_the_end_of_a_pdu() -> None:
    wire = Wire(pdu(4, 100) + pdu(4, 50))
    connection = wire.through()
    read(connection, 6)
    read(connection, 100)
    assert wire.pieces == [pdu(4, 50)]


@pytest.mark.parametrize(
    ("kind", "length"), [(0x01, 0xFFFFFFFF), (0x04, 0xFFFFFFFF), (0x04, 18_000), (0x05, 5_000), (0x07, 1 << 31)]
)
def test_a_pdu_that_claims_too_much_is_not_read(kind: int, length: int) -> None:
    connection = Wire(struct.pack(">BxL", kind, length)).through()
    with pytest.raises(OSError, match="longer than agreed"):
        connection.recv(6)
    assert connection.broken_rule


def test_a_peer_that_counts_the_header_out_of_the_maximum_is_borne_with() -> None:
    connection = Wire(pdu(4, 16384 + 6)).through()
    read(connection, 6)
    assert len(read(connection, 16384 + 6)) == 16384 + 6


def test_a_message_that_grows_too_large_ends_the_connection() -> None:
    connection = Wire(*(pdu(4, 16_000) for _ in range(4))).through()
    for _ in range(3):
        read(connection, 6)
        read(connection, 16_000)
    assert connection.in_message
    with pytest.raises(OSError, match="held in memory"):
        read(connection, 6)


def test_messages_are_counted_one_by_one() -> None:
    connection = Wire(*(pdu(4, 16_000) for _ in range(8))).through()
    for _ in range(8):
        read(connection, 6)
        read(connection, 16_000)
        connection.message_ended()
    assert not connection.in_message


def test_a_dripping_peer_gets_one_deadline_for_its_whole_request() -> None:
    wire = Wire(*([b"\x01"] * 6))
    connection = wire.through()
    for _ in range(3):
        connection.recv(6)
        wire.now += 12
    with pytest.raises(OSError, match="too long"):
        connection.recv(6)
    assert wire.timeouts == [30, 18, 6]


def test_an_association_may_be_idle_between_pdus_and_then_begins_a_new_deadline() -> None:
    wire = Wire(pdu(5, 4), pdu(5, 4))
    connection = wire.through()
    read(connection, 6)
    read(connection, 4)
    wire.now += 10_000
    assert read(connection, 6) == pdu(5, 4)[:6]
    assert wire.timeouts[-1] == 600


def test_a_silent_peer_breaks_the_connection() -> None:
    with pytest.raises(OSError, match="too long"):
        Wire().through().recv(6)


def test_garbage_that_claims_to_be_long_breaks_the_connection() -> None:
    connection = Wire(b"GET / HTTP/1.1\r\n").through()
    with pytest.raises(ConnectionAbortedError):
        connection.recv(6)


def test_a_connection_that_broke_is_shut_down_without_an_error_and_closed() -> None:
    wire = Wire()
    connection = wire.through()
    connection.shutdown(socket.SHUT_RDWR)
    connection.close()
    assert wire.closed
    assert connection.closed


def test_what_was_looked_at_is_read_again_by_whoever_gets_the_connection() -> None:
    wire = Wire(pdu(1, 200) + pdu(4, 50))
    connection = wire.through()
    assert connection.read_pdu() == (1, bytes(200))
    connection.replay(pdu(1, 200))
    assert read(connection, 6) + read(connection, 200) == pdu(1, 200)
    assert read(connection, 6) == pdu(4, 50)[:6]


def test_a_connection_that_ends_within_a_pdu_gave_none() -> None:
    assert Wire(pdu(1, 200)[:100], b"").through().read_pdu() == (0, b"")


def test_bytes_that_were_read_and_not_given_make_the_connection_readable() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening, socket.create_connection(listening.getsockname()) as ours:
        connection = BoundedConnection(ours, BOUNDS)
        connection.replay(pdu(1, 8))
        assert select.select([connection], [], [], 0)[0]
        read(connection, 14)
        assert not select.select([connection], [], [], 0)[0]


def test_an_association_that_brings_more_than_its_share_is_ended() -> None:
    connection = Wire(*(pdu(4, 16_000) for _ in range(70))).through()

    def read_all() -> None:
        for _ in range(70):
            read(connection, 6)
            read(connection, 16_000)
            connection.message_ended()

    with pytest.raises(OSError, match="maximum_association_gb"):
        read_all()
