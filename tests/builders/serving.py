"""An application behind a real socket, for clients that are not of this process's making."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from starlette.types import ASGIApp

from dicomweb.server import serve


@contextmanager
def served(app: ASGIApp, *, port: int = 0) -> Iterator[str]:
    """Serve on a port of this machine, a free one unless told; give the base URL."""
    stop, ready = threading.Event(), threading.Event()
    ports: list[int] = []

    def on_ready(bound: int) -> None:
        ports.append(bound)
        ready.set()

    serving = threading.Thread(
        target=serve, args=(app,), kwargs={"host": "127.0.0.1", "port": port, "stop": stop, "on_ready": on_ready}
    )
    serving.start()
    try:
        assert ready.wait(30), "the server did not start"
        yield f"http://127.0.0.1:{ports[0]}"
    finally:
        stop.set()
        serving.join(30)
        assert not serving.is_alive()
