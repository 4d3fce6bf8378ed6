"""The peer list as it stands in `peers.yaml` now: a change counts without a restart."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from configs.errors import ConfigError
from configs.load import read_peers
from configs.peers import Peer

log = logging.getLogger(__name__)


class LivePeers(Mapping[str, Peer]):
    """Name → peer; looks at the file at most once a second, and never takes a bad one."""

    def __init__(
        self, path: Path, peers: Mapping[str, Peer], *, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._path = path
        self._peers = dict(peers)
        self._monotonic = monotonic
        self._seen = self._stamp()
        self._looked_at = monotonic()
        self._lock = threading.Lock()

    def __getitem__(self, name: str) -> Peer:
        return self._current()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._current())

    def __len__(self) -> int:
        return len(self._current())

    def _current(self) -> dict[str, Peer]:
        with self._lock:
            now = self._monotonic()
            if now - self._looked_at < 1.0:
                return self._peers
            self._looked_at = now
            stamp = self._stamp()
            if stamp == self._seen:
                return self._peers
            self._seen = stamp
            try:
                self._peers = read_peers(self._path)
            except ConfigError as error:
                log.error(
                    "peers.yaml is not taken; the former list stays",
                    extra={"action": "peers_refused", "why": str(error)},
                )
            else:
                log.info("peer list taken", extra={"action": "peers_reloaded", "peers": len(self._peers)})
            return self._peers

    def _stamp(self) -> tuple[int, int]:
        try:
            status = self._path.stat()
        except FileNotFoundError:
            return (0, 0)
        return (status.st_mtime_ns, status.st_size)
