"""What an established association brings, PDU by PDU, out of one buffer: bytes are read, hashed and written once.

Payload is never copied out of the buffer. What follows a header is moved up against what is there already, so that
whoever takes it gets one piece for many PDVs.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

from dicom_node.scp.connection import SLOWEST_RATE, BoundedConnection, TooSlow
from dicom_node.scp.pdus import MalformedPdu

_PDU = struct.Struct(">BxL")
_PDV = struct.Struct(">LBB")
#: Bytes of the buffer: a few PDUs of the usual sizes.
BUFFER = 1 << 19


class PeerClosed(ConnectionError):
    """The peer ended the connection."""


class Fragment(NamedTuple):
    """One presentation data value, its content still to be read."""

    context_id: int
    is_command: bool
    is_last: bool
    length: int


class PduStream:
    """Reads one association's PDUs, within the bounds of its connection."""

    def __init__(self, connection: BoundedConnection, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._connection = connection
        self._bounds = connection.bounds
        self._monotonic = monotonic
        self._buffer = memoryview(bytearray(BUFFER))
        self._begin = self._end = 0
        self._held_begin = self._held_end = 0
        self._take: Callable[[memoryview], None] | None = None
        self._pdu_deadline = monotonic() + self._bounds.pdu_within_s
        self._message_began: float | None = None
        self._message = 0

    @property
    def in_message(self) -> bool:
        """Whether a message has begun and not yet ended."""
        return self._message_began is not None

    def message_ended(self) -> None:
        """Take note that a whole message has arrived."""
        self._message_began = None
        self._message = 0

    def next_pdu(self) -> tuple[int, int]:
        """Wait for a PDU; give its type and the length of its content, which is to be read next.

        Raises
        ------
        PeerClosed, TooSlow, BeyondBounds, OSError
            There will be none.
        """
        self._pdu_deadline = self._monotonic() + self._bounds.pdu_within_s
        if self._end - self._begin < _PDU.size:
            self._need(_PDU.size)
        kind, length = _PDU.unpack_from(self._buffer, self._begin)
        self._begin += _PDU.size
        self._connection.check_length(kind, length)
        return kind, length

    def content(self, length: int) -> bytes:
        """Read the content of a short PDU."""
        content = bytearray()
        self.pass_on(length, content.extend)
        self.deliver()
        return bytes(content)

    def fragments(self, length: int) -> Iterator[Fragment]:
        """Walk over the PDVs of a P-DATA-TF; the content of each must be read before the next.

        Raises
        ------
        MalformedPdu
            A length leads out of the PDU.
        BeyondBounds, TooSlow
            The message is too large, or drips.
        """
        self._count(length)
        left = length
        while left:
            if left < _PDV.size:
                raise MalformedPdu("a P-DATA-TF ends within a PDV header")
            if self._end - self._begin < _PDV.size:
                self._need(_PDV.size)
            pdv_length, context_id, control = _PDV.unpack_from(self._buffer, self._begin)
            self._begin += _PDV.size
            size = pdv_length - 2
            left -= _PDV.size + size
            if size < 0 or left < 0:
                raise MalformedPdu("a PDV claims more than its PDU holds")
            yield Fragment(context_id, bool(control & 1), bool(control & 2), size)

    def pass_on(self, length: int, take: Callable[[memoryview], object]) -> None:
        """Read bytes and give them on, in pieces and not before the buffer is needed again; see `deliver`."""
        if take is not self._take:
            self.deliver()
            self._take = take  # type: ignore[assignment]
        while length:
            if self._begin == self._end:
                self._fill()
            count = min(length, self._end - self._begin)
            self._hold(count)
            length -= count

    def deliver(self) -> None:
        """Give on what is held back."""
        begin, end = self._held_begin, self._held_end
        if end > begin and self._take is not None:
            self._held_begin = self._held_end = 0
            self._take(self._buffer[begin:end])

    def _hold(self, count: int) -> None:
        begin = self._begin
        self._begin = begin + count
        if self._held_begin == self._held_end:
            self._held_begin, self._held_end = begin, begin + count
            return
        held = self._held_end
        if held != begin:
            self._buffer[held : held + count] = self._buffer[begin : begin + count]
        self._held_end = held + count

    def _need(self, count: int) -> None:
        while self._end - self._begin < count:
            self._fill()

    def _fill(self) -> None:
        """Receive more; what is held back goes first, for its room is needed."""
        self.deliver()
        left = self._end - self._begin  # never more than a header
        self._buffer[:left] = self._buffer[self._begin : self._end]
        self._begin, self._end = 0, left
        while True:
            try:
                count = self._connection.receive_into(self._buffer[left:])
            except (TimeoutError, BlockingIOError):
                count = -1
            if not count:
                raise PeerClosed
            if self._monotonic() > self._pdu_deadline:
                raise self._connection.end_with("a PDU took too long", TooSlow)
            if count > 0:
                self._end += count
                return

    def _count(self, length: int) -> None:
        """Take a PDU into the account of its message."""
        now = self._monotonic()
        if self._message_began is None:
            self._message_began = now
        self._message += length
        if self._message > self._bounds.maximum_message:
            raise self._connection.end_with("an instance is larger than dimse.maximum_instance_mb")
        if now - self._message_began > self._bounds.pdu_within_s + self._message / SLOWEST_RATE:
            raise self._connection.end_with("a message drips", TooSlow)
