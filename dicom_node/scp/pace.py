"""How fast one peer may bring instances."""

from __future__ import annotations

import threading


class Pace:
    """Spreads the instances of each peer over time; a sender that must wait is slowed down, not refused."""

    def __init__(self) -> None:
        self._next: dict[str, float] = {}
        self._lock = threading.Lock()

    def wait_s(self, peer: str, instances_per_minute: int | None, now: float) -> float:
        """Take a place in the row and tell how long to wait for it.

        Parameters
        ----------
        instances_per_minute
            The peer's cap; None: it never waits.
        now
            Seconds of a monotonic clock.
        """
        if instances_per_minute is None:
            return 0.0
        with self._lock:
            at = max(now, self._next.get(peer, now))
            self._next[peer] = at + 60.0 / instances_per_minute
        return at - now
