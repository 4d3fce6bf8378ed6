"""The rules as they stand in `routes.yaml` now: a change counts without a restart, a bad file never."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import overload

from configs.errors import ConfigError
from configs.load import read_routes
from configs.peers import Peer
from configs.routes import Route

log = logging.getLogger(__name__)


class LiveRoutes(Sequence[Route]):
    """The rules in their order; looks at the file at most once a second."""

    def __init__(
        self,
        path: Path,
        routes: Sequence[Route],
        peers: Mapping[str, Peer],
        *,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._path = path
        self._routes = tuple(routes)
        self._peers = peers
        self._monotonic = monotonic
        self._seen = self._stamp()
        self._looked_at = monotonic()
        self._refusal = ""
        self._lock = threading.Lock()

    @overload
    def __getitem__(self, index: int) -> Route: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Route]: ...
    def __getitem__(self, index: int | slice) -> Route | Sequence[Route]:
        return self._current()[index]

    def __iter__(self) -> Iterator[Route]:
        return iter(self._current())

    def __len__(self) -> int:
        return len(self._current())

    @property
    def refusal(self) -> str:
        """Why the file as it stands now is not taken; empty: it is."""
        self._current()
        return self._refusal

    def _current(self) -> tuple[Route, ...]:
        with self._lock:
            now = self._monotonic()
            if now - self._looked_at < 1.0:
                return self._routes
            self._looked_at = now
            stamp = self._stamp()
            if stamp == self._seen:
                return self._routes
            self._seen = stamp
            try:
                self._routes = self._read()
            except ConfigError as error:
                self._refusal = str(error)
                log.error(
                    "routes.yaml is not taken; the former rules stay",
                    extra={"action": "routes_refused", "why": str(error)},
                )
            else:
                self._refusal = ""
                log.info("rules taken", extra={"action": "routes_reloaded", "routes": len(self._routes)})
            return self._routes

    def _read(self) -> tuple[Route, ...]:
        if not self._path.exists():
            raise ConfigError(f"{self._path.name} is gone")
        return read_routes(self._path, self._peers)

    def _stamp(self) -> tuple[int, int, int]:
        try:
            status = self._path.stat()
        except FileNotFoundError:
            return (0, 0, 0)
        return (status.st_mtime_ns, status.st_size, status.st_ino)
