"""The listening socket: each connection gets bounds and a thread of its own, and not more than the node can bear."""

from __future__ import annotations

import errno
import logging
import socket
import socketserver
import ssl
import threading
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

from pynetdicom import AE, build_context
from pynetdicom.transport import AssociationServer

from configs.errors import ConfigError
from dicom_node.platform import share_port
from dicom_node.scp.connection import BoundedConnection, Bounds
from dicom_node.scp.contexts import VERIFICATION
from dicom_node.tls import why_failed

log = logging.getLogger(__name__)


Meet = Callable[[BoundedConnection, tuple[str, int]], None]
Secure = Callable[[socket.socket], socket.socket]


def securing(context: ssl.SSLContext) -> Secure:
    """Give what makes a connection TLS: the handshake, within the time that its socket has."""

    def secure(connection: socket.socket) -> socket.socket:
        host = connection.getpeername()[0]
        try:
            return context.wrap_socket(connection, server_side=True)
        except OSError as error:
            why = why_failed(error) if isinstance(error, ssl.SSLError) else "no handshake in time, or it broke"
            log.warning("TLS refused", extra={"action": "tls_refused", "host": host, "why": why})
            raise

    return secure


@dataclass(frozen=True)
class Reception:
    """How connections are received."""

    bounds: Bounds
    maximum_connections: int
    meet: Meet
    """Serves a connection in its own thread, to its end or until it is handed over."""
    secure: Secure | None = None
    """Makes a connection secure, in its own thread."""
    share_port: bool = False
    """Several processes listen on the port."""


class BoundedServer(AssociationServer):
    """Accepts connections, and gives each a thread of its own before a byte of it is read."""

    request_queue_size = 128

    def __init__(self, *arguments: Any, reception: Reception, **settings: Any) -> None:
        self._reception = reception
        self._connections: weakref.WeakSet[BoundedConnection] = weakref.WeakSet()
        super().__init__(*arguments, **settings)

    @property
    def port(self) -> int:
        """The port that it listens on."""
        return int(self.server_address[1])

    def verify_request(self, request: Any, client_address: Any) -> bool:  # noqa: ARG002 (socketserver's signature)
        """Drop connections beyond the limit: whoever opens many and asks for nothing holds up nobody else."""
        if sum(not each.closed for each in self._connections) < self._reception.maximum_connections:
            return True
        log.warning("connection dropped: too many are open", extra={"action": "dropped", "host": client_address[0]})
        return False

    def server_bind(self) -> None:
        """Bind the port, alone or beside other processes of this node."""
        if self._reception.share_port:
            share_port(cast(socket.socket, self.socket))
        super().server_bind()

    def finish_request(self, request: Any, client_address: Any) -> None:
        """Give a new connection its thread."""
        threading.Thread(
            target=self._receive, args=(request, client_address), name="dimse-connection", daemon=True
        ).start()

    def _receive(self, request: socket.socket, client_address: Any) -> None:
        try:
            request.settimeout(self._reception.bounds.first_pdu_within_s)
            secured = self._reception.secure(request) if self._reception.secure is not None else request
            connection = BoundedConnection(secured, self._reception.bounds)
            self._connections.add(connection)
            self._reception.meet(connection, client_address)
        except OSError:
            log.info("connection broke at its start", extra={"action": "dropped", "host": client_address[0]})
            self.shutdown_request(request)
        except Exception:
            log.exception("connection failed: our fault", extra={"action": "dropped", "host": client_address[0]})
            self.shutdown_request(request)

    def hand_over(self, connection: BoundedConnection, client_address: tuple[str, int]) -> None:
        """Let pynetdicom have a connection: it makes an association of it, with threads of its own."""
        super().finish_request(cast(socket.socket, connection), client_address)

    def service_actions(self) -> None:
        """Leave collecting garbage to the interpreter."""

    def shutdown(self) -> None:
        """Stop listening; associations go on."""
        socketserver.BaseServer.shutdown(self)
        self.server_close()


def listen(entity: AE, host: str, port: int, **settings: Any) -> BoundedServer:
    """Open the port.

    Raises
    ------
    ConfigError
        The port is in use, or the host is none of this machine's.
    """
    try:
        server = entity.make_server(
            (host, port), contexts=[build_context(VERIFICATION)], server_class=BoundedServer, **settings
        )
    except PermissionError as error:
        raise ConfigError(
            f"Port {port} (dimse.port) is reserved to the system. Choose one above 1023, such as 11112."
        ) from error
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise ConfigError(
                f"Port {port} (dimse.port) is in use. Try DICOM_NODE_DIMSE__PORT={port + 1} make run."
            ) from error
        raise ConfigError(f"Cannot listen at {host} (dimse.host): {error.strerror}.") from error
    return cast(BoundedServer, server)
