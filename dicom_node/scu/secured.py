"""A TLS connection to a peer: blocking for our own associations, and one that pynetdicom can poll.

pynetdicom looks whether the socket is readable and then reads; but what makes a TLS socket readable may be no data
(a session ticket, a part of a record), and reading would wait while the request that it should send lies there.
"""

from __future__ import annotations

import contextlib
import functools
import os
import socket
import ssl
from typing import Any

from configs.peers import Peer
from dicom_node.platform import always_readable
from dicom_node.tls import outgoing_context, why_failed

_READ_SIZE = 1 << 16


def secure(connection: socket.socket, peer: Peer) -> socket.socket:
    """Do the handshake with a peer that is listed with `tls`; give the connection as it is for any other.

    Raises
    ------
    ConfigError
        The peer's certificates, keys or CA cannot be used.
    OSError
        The handshake failed, or took longer than the connection's time.
    """
    if peer.tls is None:
        return connection
    return outgoing_context(peer.tls).wrap_socket(connection, server_hostname=peer.tls.server_name or peer.host)


class PolledTls:
    """Makes connections that pynetdicom can poll; stands for an `ssl.SSLContext` there."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self._context = context
        self._connection: _PolledConnection | None = None
        self.failure = ""
        """Why the handshake failed; empty where it did not."""

    def wrap_socket(self, connection: socket.socket, *, server_side: bool, server_hostname: str) -> _PolledConnection:
        """Give the connection that is to be: the handshake follows when it connects."""
        if server_side:
            raise ValueError("made for requestors")
        self._connection = _PolledConnection(connection, self, server_hostname)
        return self._connection

    def handshake(self, connection: socket.socket, server_hostname: str) -> ssl.SSLSocket:
        """Do the handshake on an open connection."""
        try:
            return self._context.wrap_socket(connection, server_hostname=server_hostname)
        except (ssl.SSLError, ssl.CertificateError) as error:
            self.failure = why_failed(error)
            raise

    @property
    def descriptor(self) -> int:
        """Descriptor of the connection itself; the one that pynetdicom sees only says whether there is data."""
        return self._connection.descriptor if self._connection is not None else -1

    def close(self) -> None:
        """Let the connection go, where pynetdicom did not."""
        if self._connection is not None:
            self._connection.close()


class _PolledConnection:
    """What pynetdicom uses of a socket; it is readable where there is data, or the end."""

    def __init__(self, connection: socket.socket, tls: PolledTls, server_hostname: str) -> None:
        self._socket = connection
        self._tls = tls
        self._server_hostname = server_hostname
        self._read = bytearray()
        self._ended = False

    def connect(self, address: Any) -> None:
        self._socket.connect(address)
        self._socket = self._tls.handshake(self._socket, self._server_hostname)

    @property
    def descriptor(self) -> int:
        return self._socket.fileno()

    def fileno(self) -> int:
        """Give the descriptor for `select`: data that was read already decides, not what lies undecoded."""
        if not self._read and not self._ended:
            self._look()
        return _readable() if self._read or self._ended else _never_readable()

    def _look(self) -> None:
        """Take in what is there, without waiting."""
        before = self._socket.gettimeout()
        self._socket.settimeout(0)
        try:
            chunk = self._socket.recv(_READ_SIZE)
            self._read += chunk
            self._ended = not chunk
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError, BlockingIOError):
            return
        except OSError:
            self._ended = True
        finally:
            with contextlib.suppress(OSError):
                self._socket.settimeout(before)

    def recv(self, size: int) -> bytes:
        if not self._read:
            return b"" if self._ended else self._socket.recv(size)
        chunk = bytes(self._read[:size])
        del self._read[:size]
        return chunk

    def send(self, data: bytes) -> int:
        return self._socket.send(data)

    def settimeout(self, seconds: float | None) -> None:
        self._socket.settimeout(seconds)

    def setsockopt(self, *words: Any) -> None:
        self._socket.setsockopt(*words)

    def getsockname(self) -> Any:
        return self._socket.getsockname()

    def shutdown(self, how: int) -> None:
        self._socket.shutdown(how)

    def close(self) -> None:
        self._ended = True
        self._socket.close()


@functools.cache
def _readable() -> int:
    return always_readable()


@functools.cache
def _never_readable() -> int:
    reader, _ = os.pipe()  # its writer stays open, and nobody writes
    return reader
