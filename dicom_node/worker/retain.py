"""The courier's turn at retention: what was kept long enough goes, a few studies in one pass."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from functools import partial

from configs.peers import Peer
from configs.settings import RetentionRule, RetentionSettings
from dicom_node.worker.disk import Room
from dicom_node.worker.turns import Turns
from storage.retention import Allowed, Retention

log = logging.getLogger(__name__)

#: Seconds between two passes.
EVERY_S = 60.0
#: Studies that go in one pass at most, of each class: ingest and delivery come first.
MOST_STUDIES = 20
_GIGABYTE = 1_000_000_000


class Retainer:
    """Looks at age, size and room, again and again."""

    def __init__(
        self,
        retention: Retention,
        settings: RetentionSettings,
        peers: Mapping[str, Peer],
        room: Callable[[], Room],
        now: Callable[[], datetime],
    ) -> None:
        self._retention = retention
        self._settings = settings
        self._peers = peers
        self._room = room
        self._now = now
        self._turns = Turns("retention_failed")

    def run(self, stop: threading.Event, *, every_s: float = EVERY_S) -> None:
        """Look until told to stop."""
        while not stop.wait(every_s):
            for results in (False, True):
                self._turns.take(str(results), self._now(), partial(self._pass, results=results))

    def _pass(self, *, results: bool) -> bool:
        return self.look(results=results) > 0

    def look(self, *, results: bool) -> int:
        """Let go of one class what may go now; give how many studies lost theirs."""
        rule = self._settings.results if results else self._settings.sources
        allowed, now = self._allowed(), self._now()
        removed = 0
        if rule.after_days is not None:
            before = now - timedelta(days=rule.after_days)
            for uid in self._retention.candidates(allowed, results=results, before=before, limit=MOST_STUDIES):
                removed += self._retention.remove(uid, allowed, results=results, at=now) > 0
        excess = self._excess(rule, results=results)
        if excess > 0 and removed < MOST_STUDIES:
            left = MOST_STUDIES - removed
            for uid in self._retention.candidates(allowed, results=results, before=None, limit=left):
                if excess <= 0:
                    break
                size = self._retention.remove(uid, allowed, results=results, at=now)
                excess -= size
                removed += size > 0
        if removed:
            facts = {"action": "expired", "class": "results" if results else "sources", "studies": removed}
            log.info("kept long enough", extra=facts)
        return removed

    def _allowed(self) -> Allowed:
        days = self._settings.release_committed_after_days
        archives = frozenset(name for name, peer in self._peers.items() if peer.archive)
        return Allowed(archives, None if days is None else self._now() - timedelta(days=days))

    def _excess(self, rule: RetentionRule, *, results: bool) -> float:
        """Give how many bytes there are too many, by the rule that asks for most."""
        over = [0.0]
        if rule.at_percent is not None:
            room = self._room()
            over.append(room.total * (room.used_percent - rule.at_percent) / 100)
        if rule.at_gb is not None:
            over.append(self._retention.size_of(results=results) - rule.at_gb * _GIGABYTE)
        return max(over)
