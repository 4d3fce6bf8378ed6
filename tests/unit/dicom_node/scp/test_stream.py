from __future__ import annotations

from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dicom_node.scp.connection import BeyondBounds, BoundedConnection, Bounds, TooSlow
from dicom_node.scp.pdus import MalformedPdu
from dicom_node.scp.stream import BUFFER, PduStream, PeerClosed
from tests.builders.dimse import p_data_of, pdv

BOUNDS = Bounds(
    maximum_pdu_size=1 << 20,
    maximum_message=1 << 22,
    maximum_in_memory=1 << 20,
    maximum_association=1 << 30,
    first_pdu_within_s=30,
    pdu_within_s=600,
    send_within_s=30,
)


class Wire:
    """A connection that gives what it holds, at most `piece` bytes at a time."""

    def __init__(self, content: bytes, piece: int = 1 << 30, *, step_s: float = 0.0) -> None:
        self.content, self.piece, self.step_s = memoryview(content), piece, step_s
        self.now = 0.0
        self.most = 0

    def setsockopt(self, *_: Any) -> None: ...

    def recv_into(self, view: memoryview) -> int:
        self.now += self.step_s
        self.most = max(self.most, len(view))
        count = min(len(view), self.piece, len(self.content))
        view[:count] = self.content[:count]
        self.content = self.content[count:]
        if not count and self.step_s:
            raise BlockingIOError
        return count

    def stream(self) -> PduStream:
        connection = BoundedConnection(cast(Any, self), BOUNDS, monotonic=lambda: self.now)
        return PduStream(connection, monotonic=lambda: self.now)


def read_all(stream: PduStream) -> tuple[bytes, list[int]]:
    """Read until the last fragment: all content, and the sizes of the pieces that it was given in."""
    content, pieces = bytearray(), []

    def take(view: memoryview) -> None:
        content.extend(view)
        pieces.append(len(view))

    while True:
        _, length = stream.next_pdu()
        for fragment in stream.fragments(length):
            stream.pass_on(fragment.length, take)
            if fragment.is_last:
                stream.deliver()
                stream.message_ended()
                return bytes(content), pieces


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.lists(st.integers(0, 3000), min_size=1, max_size=4), min_size=1, max_size=6),
    st.integers(1, 5000),
)
def test_content_comes_through_however_it_is_cut_and_carried(pdus: list[list[int]], piece: int) -> None:
    whole = bytes(index % 251 for index in range(sum(map(sum, pdus))))
    sent, at = b"", 0
    for number, sizes in enumerate(pdus):
        pdvs = []
        for position, size in enumerate(sizes):
            last = number == len(pdus) - 1 and position == len(sizes) - 1
            pdvs.append(pdv(whole[at : at + size], command=False, last=last))
            at += size
        sent += p_data_of(*pdvs)
    content, _ = read_all(Wire(sent, piece).stream())
    assert content == whole


def test_many_small_pdvs_are_given_on_in_one_piece() -> None:
    parts = [pdv(bytes([number]) * 100, command=False, last=number == 199) for number in range(200)]
    content, pieces = read_all(Wire(b"".join(p_data_of(part) for part in parts)).stream())
    assert content == b"".join(bytes([number]) * 100 for number in range(200))
    assert pieces == [20_000]


def test_a_pdu_larger_than_the_buffer_takes_no_more_memory() -> None:
    wire = Wire(p_data_of(pdv(bytes(BUFFER + 300_000), command=False, last=True)))
    content, _ = read_all(wire.stream())
    assert len(content) == BUFFER + 300_000
    assert wire.most <= BUFFER


def test_a_short_pdu_is_read_whole_and_what_follows_is_not() -> None:
    stream = Wire(b"\x05\0\0\0\0\x04abcd" + b"\x06\0\0\0\0\x04efgh").stream()
    assert stream.next_pdu() == (5, 4)
    assert stream.content(4) == b"abcd"
    assert stream.next_pdu() == (6, 4)


def test_the_end_of_the_connection_is_no_pdu() -> None:
    with pytest.raises(PeerClosed):
        Wire(b"\x04\0\0").stream().next_pdu()


def test_a_pdu_that_claims_too_much_is_not_read() -> None:
    with pytest.raises(BeyondBounds):
        Wire(b"\x04\0\xff\xff\xff\xff").stream().next_pdu()


@pytest.mark.parametrize("content", [b"abc", b"\0\0\0\1\1\1", b"\0\0\0\x09\1\1abc", b"\xff\xff\xff\xff\1\1"])
def test_a_pdv_that_does_not_fill_its_pdu_is_malformed(content: bytes) -> None:
    with pytest.raises(MalformedPdu):
        read_all(Wire(b"\x04\0" + len(content).to_bytes(4, "big") + content).stream())


def test_a_message_that_grows_too_large_is_not_read_on() -> None:
    part = p_data_of(pdv(bytes(1 << 19), command=False, last=False))
    with pytest.raises(BeyondBounds, match="maximum_instance_mb"):
        read_all(Wire(part * 9).stream())


def test_a_silent_peer_is_cut() -> None:
    with pytest.raises(TooSlow):
        Wire(b"\x04\0\0", step_s=5).stream().next_pdu()


def test_a_dripping_pdu_is_cut() -> None:
    with pytest.raises(TooSlow):
        read_all(Wire(p_data_of(pdv(bytes(1000), command=False, last=True)), 1, step_s=1).stream())


def test_a_message_that_drips_in_whole_pdus_is_cut() -> None:
    part = p_data_of(pdv(b"a", command=False, last=False))
    with pytest.raises(TooSlow, match="drips"):
        read_all(Wire(part * 100, len(part), step_s=100).stream())


def test_a_slow_line_is_borne_with() -> None:
    part = p_data_of(pdv(bytes(8000), command=False, last=False))
    end = p_data_of(pdv(b"", command=False, last=True))
    content, _ = read_all(Wire(part * 500 + end, 8000, step_s=1).stream())  # 64 kbit/s
    assert len(content) == 4_000_000
