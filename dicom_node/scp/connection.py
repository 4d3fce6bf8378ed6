"""A connection to a peer with bounds: how long a PDU may be, how long it may take, how much a message may hold.

pynetdicom reads whatever length a peer claims, 4 kB at a time, and waits for ever; it reads through this.
"""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass

from dicom_node.platform import acknowledge_at_once, answer_without_delay

_HEADER = struct.Struct(">BxL")
_P_DATA_TF = 0x04
_ASSOCIATE = (0x01, 0x02)
#: Bytes that an A-ASSOCIATE PDU may have: 128 contexts with dozens of syntaxes each need a tenth of it.
_LONGEST_ASSOCIATE = 1 << 20
#: Release, abort and reject PDUs have 4 bytes.
_LONGEST_OTHER = 1 << 10
#: Some peers count the PDU's or the PDV's own header out of the maximum.
_MARGIN = 1 << 10
_READ_SIZE = 1 << 18


@dataclass(frozen=True)
class Bounds:
    """What one connection may cost."""

    maximum_pdu_size: int
    """Bytes of a P-DATA-TF PDU, as negotiated."""
    maximum_message: int
    """Bytes of one message with its data set."""
    first_pdu_within_s: float
    """Seconds from the connection to the end of the association request."""
    pdu_within_s: float
    """Seconds from the first to the last byte of any later PDU."""
    send_within_s: float
    """Seconds for which the peer may take nothing of what is sent to it."""


class BoundedConnection:
    """What pynetdicom uses of a socket, within bounds; one past them ends the connection."""

    def __init__(
        self, connection: socket.socket, bounds: Bounds, *, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        answer_without_delay(connection)
        self._socket = connection
        self._bounds = bounds
        self._monotonic = monotonic
        self._header = bytearray()
        self._body_left = 0
        self._read = memoryview(b"")
        self._deadline: float | None = monotonic() + bounds.first_pdu_within_s
        self._message = 0
        self.received = 0
        """Bytes in all; grows while there is traffic."""
        self.broken_rule = ""
        """Why the connection was ended from this side; empty where it was not."""
        self.closed = False

    @property
    def in_message(self) -> bool:
        """Whether a message has begun and not yet ended."""
        return self._message > 0

    def message_ended(self) -> None:
        """Take note that a whole message has arrived."""
        self._message = 0

    def recv(self, size: int) -> bytes:
        """Read up to `size` bytes, never beyond the end of a PDU.

        Raises
        ------
        OSError
            The connection broke, the peer is too slow, or it claims more than its bounds.
        """
        if not self._read:
            self._read = memoryview(self._receive(self._wanted()))
        chunk = bytes(self._read[:size])
        self._read = self._read[size:]
        return chunk

    def _wanted(self) -> int:
        if self._body_left:
            return min(self._body_left, _READ_SIZE)
        if not self._header and self._deadline is None:
            self._deadline = self._monotonic() + self._bounds.pdu_within_s
        return _HEADER.size - len(self._header)

    def _receive(self, size: int) -> bytes:
        left_s = (self._deadline or 0.0) - self._monotonic()
        if left_s <= 0:
            raise self._break("a PDU took too long")
        self._socket.settimeout(left_s)
        try:
            chunk = self._socket.recv(size)
        except TimeoutError:
            raise self._break("a PDU took too long") from None
        self.received += len(chunk)
        if not chunk:
            return chunk
        acknowledge_at_once(self._socket)
        if self._body_left:
            self._body_left -= len(chunk)
        else:
            self._header += chunk
            if len(self._header) < _HEADER.size:
                return chunk
            self._begin_pdu(*_HEADER.unpack(self._header))
        if not self._body_left:
            self._header.clear()
            self._deadline = None
        return chunk

    def _begin_pdu(self, pdu_type: int, length: int) -> None:
        longest = _LONGEST_OTHER
        if pdu_type == _P_DATA_TF:
            longest = self._bounds.maximum_pdu_size + _MARGIN
            self._message += length
        elif pdu_type in _ASSOCIATE:
            longest = _LONGEST_ASSOCIATE
        if length > longest:
            raise self._break("a PDU claims to be longer than agreed")
        if self._message > self._bounds.maximum_message:
            raise self._break("an instance is larger than dimse.maximum_instance_mb")
        self._body_left = length

    def _break(self, rule: str) -> OSError:
        self.broken_rule = rule
        return ConnectionAbortedError(rule)

    def send(self, data: bytes) -> int:
        """Send some of `data`; give how much was taken."""
        self._socket.settimeout(self._bounds.send_within_s)
        return self._socket.send(data)

    def fileno(self) -> int:
        """Give the descriptor, for `select`."""
        return self._socket.fileno()

    def shutdown(self, how: int) -> None:
        """End sending, receiving or both; a connection that broke before is no error."""
        try:
            self._socket.shutdown(how)
        except OSError:
            return

    def close(self) -> None:
        """Let the descriptor go."""
        self.closed = True
        self._socket.close()
