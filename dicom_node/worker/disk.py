"""Watch the disk: warn before it fills, say when senders are refused, and when there is room again."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from configs.settings import DiskSettings

log = logging.getLogger(__name__)

#: Seconds between two looks.
EVERY_S = 30.0
_MEGABYTE = 1_000_000
#: A disk counts as roomy again only this far below the mark, so that one at the mark does not warn for ever.
_BACK_PERCENT = 2.0


class DiskState(StrEnum):
    """How much room there is."""

    ROOMY = "roomy"
    FILLING = "filling"
    """More is used than the warning mark allows."""
    RESERVE_REACHED = "reserve reached"
    """Senders are refused with 0xA700, until there is room again."""


@dataclass(frozen=True)
class Room:
    """What a disk has, in bytes."""

    total: int
    free: int

    @property
    def used_percent(self) -> float:
        """How full it is."""
        return 100.0 * (1 - self.free / self.total) if self.total else 0.0


def disk_state(room: Room, settings: DiskSettings, *, before: DiskState = DiskState.ROOMY) -> DiskState:
    """Judge the room on a disk."""
    if room.free < settings.reserve_mb * _MEGABYTE:
        return DiskState.RESERVE_REACHED
    mark = settings.warn_at_percent - (_BACK_PERCENT if before is DiskState.FILLING else 0.0)
    return DiskState.FILLING if room.used_percent >= mark else DiskState.ROOMY


class DiskWatch:
    """Says once when the state changes."""

    def __init__(self, settings: DiskSettings, room: Callable[[], Room]) -> None:
        self._settings = settings
        self._room = room
        self._state = DiskState.ROOMY

    def run(self, stop: threading.Event, *, every_s: float = EVERY_S) -> None:
        """Look until told to stop, at once first."""
        while True:
            try:
                self.look()
            except OSError as error:
                log.warning("disk not looked at", extra={"action": "disk_unread", "why": error.strerror or ""})
            if stop.wait(every_s):
                return

    def look(self) -> DiskState:
        """Look once; tell a change to the log."""
        room = self._room()
        before, self._state = self._state, disk_state(room, self._settings, before=self._state)
        if before is not self._state:
            facts = {"action": "disk_state", "state": self._state.value, "before": before.value}
            level = logging.INFO if self._state is DiskState.ROOMY else logging.WARNING
            log.log(level, "disk: %s", self._say(room), extra=facts)
        return self._state

    def _say(self, room: Room) -> str:
        free, used = f"{room.free / 1e9:.1f} GB free", f"{room.used_percent:.0f} % used"
        if self._state is DiskState.RESERVE_REACHED:
            return f"reserve reached ({free}); senders get 0xA700 and may retry"
        if self._state is DiskState.FILLING:
            return f"{used}, warned at {self._settings.warn_at_percent:g} % (disk.warn_at_percent); {free}"
        return f"room again: {used}, {free}"
