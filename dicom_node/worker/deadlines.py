"""How long an engine may take over a job: what takes longer has failed, and the worker that hangs begins anew."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from datetime import datetime

from configs.errors import NodeError
from storage.job_book import JobBook
from storage.records import JobState

log = logging.getLogger(__name__)

EVERY_S = 1.0


class Deadlines:
    """Watches the steps of jobs that this process has in hand."""

    def __init__(
        self,
        book: JobBook,
        limits_s: Mapping[str, float],
        *,
        now: Callable[[], datetime],
        end: Callable[[], None],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """`limits_s`: engine → seconds for one step of a job. `end`: ends this process; nothing else ends an engine."""
        self._book = book
        self._limits_s = limits_s
        self._now = now
        self._end = end
        self._monotonic = monotonic
        self._began: dict[str, float] = {}
        self._lock = threading.Lock()

    def watched(self, step: Callable[[str], None]) -> Callable[[str], None]:
        """Give a step that is watched while it runs."""

        def run(job_id: str) -> None:
            with self._lock:
                self._began[job_id] = self._monotonic()
            try:
                step(job_id)
            finally:
                with self._lock:
                    self._began.pop(job_id, None)

        return run

    def run(self, stop: threading.Event, *, every_s: float = EVERY_S) -> None:
        """Look again and again until told to stop."""
        while not stop.wait(every_s):
            self.look()

    def look(self) -> None:
        """Let the jobs fail whose engine took too long, and end the process that cannot stop it otherwise."""
        with self._lock:
            taken_s = {job_id: self._monotonic() - began for job_id, began in self._began.items()}
        overdue = []
        for job_id, seconds in taken_s.items():
            if seconds < min(self._limits_s.values(), default=float("inf")):
                continue
            try:
                if self._fail(job_id, seconds):
                    overdue.append(job_id)
            except NodeError as error:  # the database is away; the next look comes
                log.warning("a deadline waits", extra={"action": "deadline_waits", "error": error.code})
        if overdue:
            log.error("an engine took too long; the worker starts again", extra={"action": "deadline", "jobs": overdue})
            self._end()

    def _fail(self, job_id: str, seconds: float) -> bool:
        job = self._book.job(job_id)
        limit_s = self._limits_s.get(job.engine)
        if limit_s is None or seconds < limit_s or job.state is not JobState.RUNNING:
            return False
        reason = f"{job.engine} took longer than {limit_s:g} s (engines.{job.engine}.deadline_s)."
        self._book.finish(job_id, JobState.FAILED, reason, self._now())
        return True
