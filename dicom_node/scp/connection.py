"""A connection to a peer with bounds: how long a PDU may be, how long it may take, how much a message may hold.

Storage associations read from it by `receive_into`, under the bounds of `stream.PduStream`. All others belong to
pynetdicom, which reads whatever length a peer claims, 4 kB at a time, and waits for ever: it reads through `recv`.
"""

from __future__ import annotations

import contextlib
import functools
import socket
import ssl
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass

from dicom_node.platform import acknowledge_at_once, always_readable, answer_without_delay, bound_waiting
from dicom_node.tls import Certificate, certificate_of

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
#: Seconds between two looks at the clock while a peer is silent.
_LOOK_EVERY_S = 5.0
#: Bytes a second that a peer must bring on average once its grace is over, or it is taken to drip.
SLOWEST_RATE = 1 << 12


@dataclass(frozen=True)
class Bounds:
    """What one connection may cost."""

    maximum_pdu_size: int
    """Bytes of a P-DATA-TF PDU, as negotiated."""
    maximum_message: int
    """Bytes of one message with its data set."""
    maximum_in_memory: int
    """The same where a message is held in memory: beside other services than storage."""
    maximum_association: int
    """Bytes of all that one association may bring."""
    first_pdu_within_s: float
    """Seconds from the connection to the end of the association request."""
    pdu_within_s: float
    """Seconds from the first to the last byte of any later PDU."""
    send_within_s: float
    """Seconds for which the peer may take nothing of what is sent to it."""


class TooSlow(ConnectionAbortedError):
    """The peer was silent, or dripped, for longer than it may."""


class BeyondBounds(ConnectionAbortedError):
    """The peer claims more than it may."""


class BoundedConnection:
    """A socket within bounds, with what pynetdicom uses of one; a peer past them loses the connection."""

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

    @property
    def is_secure(self) -> bool:
        """Whether it is TLS."""
        return isinstance(self._socket, ssl.SSLSocket)

    @property
    def certificate(self) -> Certificate | None:
        """What the peer showed in the handshake, verified; None: nothing, or it is no TLS."""
        return certificate_of(self._socket) if isinstance(self._socket, ssl.SSLSocket) else None

    @property
    def bounds(self) -> Bounds:
        """What it may cost."""
        return self._bounds

    def read_pdu(self) -> tuple[int, bytes]:
        """Read one whole PDU, no byte more: its type and its content; (0, b"") where the connection ends before.

        Raises
        ------
        TooSlow, BeyondBounds
            The peer does not keep within the bounds.
        OSError
            The connection broke.
        """
        header = self._exactly(_HEADER.size)
        if len(header) < _HEADER.size:
            return 0, b""
        kind, length = _HEADER.unpack(header)
        content = self._exactly(length)
        return (kind, content) if len(content) == length else (0, b"")

    def _exactly(self, count: int) -> bytes:
        taken = bytearray()
        while len(taken) < count and (chunk := self.recv(count - len(taken))):
            taken += chunk
        return bytes(taken)

    def replay(self, pdu: bytes) -> None:
        """Have the next reader read these bytes first: a PDU that was looked at and is not for us."""
        self._read = memoryview(pdu)

    def stream(self) -> None:
        """From now on it is read by `receive_into` alone."""
        silence_s = min(_LOOK_EVERY_S, max(0.05, self._bounds.pdu_within_s / 10))
        if isinstance(self._socket, ssl.SSLSocket):
            self._socket.settimeout(silence_s)
        else:
            self._socket.settimeout(None)
            bound_waiting(self._socket, receive_s=silence_s, send_s=self._bounds.send_within_s)

    def receive_into(self, view: memoryview) -> int:
        """Receive what there is, at least a byte; 0: the peer ended the connection.

        Raises
        ------
        TimeoutError, BlockingIOError
            Nothing came for a while: time to look at the clock.
        OSError
            The connection broke.
        """
        count = self._socket.recv_into(view)
        self.received += count
        acknowledge_at_once(self._socket)
        return count

    def send_all(self, content: bytes) -> None:
        """Send in one write.

        Raises
        ------
        OSError
            The connection broke, or the peer takes nothing.
        """
        self._socket.sendall(content)

    def pass_over(self, within_s: float) -> bool:
        """Drop what comes; False: the connection ended, or the time is over."""
        if within_s <= 0:
            return False
        try:
            self._socket.settimeout(within_s)
            return bool(self._socket.recv(_READ_SIZE))
        except OSError:
            return False

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
            raise self.end_with("a PDU took too long", TooSlow)
        self._socket.settimeout(left_s)
        try:
            chunk = self._socket.recv(size)
        except TimeoutError:
            raise self.end_with("a PDU took too long", TooSlow) from None
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
        self.check_length(pdu_type, length)
        if pdu_type == _P_DATA_TF:
            self._message += length
        if self._message > min(self._bounds.maximum_in_memory, self._bounds.maximum_message):
            raise self.end_with("a message is larger than may be held in memory")
        self._body_left = length

    def check_length(self, pdu_type: int, length: int) -> None:
        """Judge the length that a PDU claims, before any of it is read.

        Raises
        ------
        BeyondBounds
            It is longer than agreed, or than any of its type; or the association has brought its share.
        """
        longest = _LONGEST_OTHER
        if pdu_type == _P_DATA_TF:
            longest = self._bounds.maximum_pdu_size + _MARGIN
        elif pdu_type in _ASSOCIATE:
            longest = _LONGEST_ASSOCIATE
        if length > longest:
            raise self.end_with("a PDU claims to be longer than agreed")
        if self.received + length > self._bounds.maximum_association:
            raise self.end_with("an association brings more than dimse.maximum_association_gb")

    def end_with(self, rule: str, kind: type[ConnectionAbortedError] = BeyondBounds) -> ConnectionAbortedError:
        """Give the error that ends the connection for a rule that its peer broke."""
        self.broken_rule = rule
        return kind(rule)

    def send(self, data: bytes) -> int:
        """Send some of `data`; give how much was taken."""
        self._socket.settimeout(self._bounds.send_within_s)
        return self._socket.send(data)

    def fileno(self) -> int:
        """Give the descriptor, for `select`: one that is always readable where bytes were read and not yet given."""
        if self._read or (isinstance(self._socket, ssl.SSLSocket) and not self.closed and self._socket.pending()):
            return _readable()
        return self._socket.fileno()

    def shutdown(self, how: int) -> None:
        """End sending, receiving or both; a connection that broke before is no error."""
        try:
            if isinstance(self._socket, ssl.SSLSocket):
                socket.socket.shutdown(self._socket, how)  # its own would go on in plain text
            else:
                self._socket.shutdown(how)
        except OSError:
            return

    def stop_receiving(self) -> None:
        """Let whoever reads find the end of the connection."""
        self.shutdown(socket.SHUT_RD)

    def stop_sending(self) -> None:
        """Let the peer find the end of the connection once it read what was sent."""
        if not isinstance(self._socket, ssl.SSLSocket):
            self.shutdown(socket.SHUT_WR)
            return
        with contextlib.suppress(OSError, ValueError):  # close_notify goes out; that of the peer is not waited for
            self._socket.settimeout(0)
            self._socket.unwrap()

    def shutdown_both(self) -> None:
        """End both directions: whoever reads hears of it."""
        self.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Let the descriptor go."""
        self.closed = True
        self._socket.close()


@functools.cache
def _readable() -> int:
    return always_readable()
