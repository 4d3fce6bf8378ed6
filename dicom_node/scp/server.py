"""The listening socket: hands bounded connections to pynetdicom, and not more of them than the node can bear."""

from __future__ import annotations

import errno
import logging
import socket
import socketserver
import sys
import weakref
from typing import Any, cast

from pynetdicom import AE, build_context
from pynetdicom.transport import AssociationServer

from configs.errors import ConfigError
from dicom_node.scp.connection import BoundedConnection, Bounds
from dicom_node.scp.contexts import VERIFICATION

log = logging.getLogger(__name__)


class BoundedServer(AssociationServer):
    """Accepts connections; each becomes an association with a thread of its own."""

    request_queue_size = 128

    def __init__(self, *arguments: Any, bounds: Bounds, maximum_connections: int, **settings: Any) -> None:
        self._bounds = bounds
        self._maximum_connections = maximum_connections
        self._connections: weakref.WeakSet[BoundedConnection] = weakref.WeakSet()
        super().__init__(*arguments, **settings)

    @property
    def port(self) -> int:
        """The port that it listens on."""
        return int(self.server_address[1])

    def verify_request(self, request: Any, client_address: Any) -> bool:  # noqa: ARG002 (socketserver's signature)
        """Drop connections beyond the limit: whoever opens many and asks for nothing holds up nobody else."""
        if sum(not each.closed for each in self._connections) < self._maximum_connections:
            return True
        log.warning("connection dropped: too many are open", extra={"action": "dropped", "host": client_address[0]})
        return False

    def finish_request(self, request: Any, client_address: Any) -> None:
        """Begin an association on a new connection."""
        connection = BoundedConnection(request, self._bounds)
        self._connections.add(connection)
        super().finish_request(cast(socket.socket, connection), client_address)

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002 (socketserver's signature)
        """Log what went wrong with one connection; the others go on."""
        if isinstance(sys.exception(), OSError):
            log.info("connection broke at its start", extra={"action": "dropped", "host": client_address[0]})
        else:
            log.exception("connection failed: our fault", extra={"action": "dropped", "host": client_address[0]})

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
