"""One subject after another: a failure of one disturbs no other, and is not repeated at every turn."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import datetime, timedelta

from configs.errors import NodeError

log = logging.getLogger(__name__)

_LONGEST_PAUSE_S = 60.0


class Turns:
    """Gives each subject its turn; one that failed sits out, longer each time."""

    def __init__(self, action: str) -> None:
        self._action = action
        self._failed: dict[str, tuple[int, datetime]] = {}

    def take(self, subject_id: str, now: datetime, work: Callable[[], bool]) -> bool | None:
        """Do one subject's work.

        Parameters
        ----------
        work
            Tells whether it came to something.

        Returns
        -------
        bool | None
            What `work` said; None: it failed, or sits out after a failure.
        """
        failures, again_at = self._failed.get(subject_id, (0, now))
        if now < again_at:
            return None
        try:
            done = work()
        except Exception as error:
            pause_s = min(_LONGEST_PAUSE_S, 2.0**failures)
            self._failed[subject_id] = (min(failures + 1, 30), now + timedelta(seconds=pause_s))
            foreseen = isinstance(error, NodeError)
            log.error(
                "a turn failed; it comes again later",
                extra={"action": self._action, "subject": subject_id, "again_in_s": pause_s, "why": _why(error)},
                exc_info=None if foreseen else error,
            )
            return None
        self._failed.pop(subject_id, None)
        return done


def _why(error: Exception) -> str:
    return str(error) if isinstance(error, NodeError) else type(error).__name__
