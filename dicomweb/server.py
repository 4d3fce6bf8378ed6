"""The web server around the application."""

from __future__ import annotations

import errno
import socket
import threading
from collections.abc import Callable

import uvicorn
from starlette.types import ASGIApp

from configs.errors import ConfigError


def serve(app: ASGIApp, *, host: str, port: int, stop: threading.Event, on_ready: Callable[[int], None]) -> None:
    """Serve until `stop` is set; `on_ready` gets the port once it listens.

    Requests are not logged: their query strings hold names and IDs.

    Raises
    ------
    ConfigError
        The port is in use, or the address is none of this machine.
    """
    listening = _listen(host, port)
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        lifespan="auto",
        timeout_graceful_shutdown=8,
        # Who asks is who holds the socket: what proxies say is read in one place (`addresses.py`).
        proxy_headers=False,
        server_header=False,
        ws="websockets-sansio",
        # Who listens to event reports says nothing.
        ws_max_size=1 << 16,
    )
    server = uvicorn.Server(config)
    # Not in the main thread: signals are the role's own affair.
    serving = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, name="web", daemon=True)
    serving.start()
    on_ready(listening.getsockname()[1])
    while not stop.wait(1.0):
        if not serving.is_alive():
            raise RuntimeError("the web server ended by itself")
    server.should_exit = True
    serving.join(15)


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
        listening.listen(256)
    except OSError as error:
        listening.close()
        if error.errno == errno.EADDRINUSE:
            raise ConfigError(f"Port {port} (http.port) is in use. Try PORT={port + 1} make run.") from error
        raise ConfigError(f"http.host: {host}:{port} cannot be listened on: {error.strerror}") from error
    return listening
