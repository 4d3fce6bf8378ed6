"""The courier's turn at webhooks: what the ledger says is told, signed, at a bounded rate, in nobody's way."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta

from configs.settings import WebhookSettings
from dicom_node.worker.turns import Turns
from dicomweb.webhooks import ForbiddenTarget, NotTold, tell
from storage.ledger_report import Unexplained
from storage.notices import Hook, Notice, Notices

log = logging.getLogger(__name__)

#: Seconds between two looks.
EVERY_S = 1.0
#: Seconds between two looks for what is stuck: each reads all that is open.
STUCK_EVERY_S = 600.0
_FIRST_RETRY_S = 5.0
_LONGEST_RETRY_S = 3600.0
_HOOKS_AT_ONCE = 8

Tell = Callable[..., None]


class Webhooks:
    """Looks what is to be told, again and again; a hook that hangs delays no other one."""

    def __init__(
        self,
        notices: Notices,
        settings: Mapping[str, WebhookSettings],
        now: Callable[[], datetime],
        *,
        stuck: Callable[[], tuple[Unexplained, ...]] = tuple,
        tell: Tell = tell,
    ) -> None:
        self._notices = notices
        self._settings = settings
        self._now = now
        self._stuck = stuck
        self._tell = tell
        self._hooks = [Hook(name, frozenset(each.events), each.patient_data) for name, each in settings.items()]
        self._sent: dict[str, deque[datetime]] = {name: deque() for name in settings}
        self._busy: set[str] = set()
        self._lock = threading.Lock()
        self._turns = Turns("webhook_failed")
        self._looked_for_stuck_at = now()

    def run(self, stop: threading.Event, *, every_s: float = EVERY_S) -> None:
        """Look until told to stop; what was not taken then is told after the next start."""
        if not self._hooks:
            return
        with ThreadPoolExecutor(_HOOKS_AT_ONCE, "webhook") as pool:
            while not stop.wait(every_s):
                self._turns.take("ledger", self._now(), self.look)
                for name in self._settings:
                    if self._take(name):
                        pool.submit(self._one, name)

    def look(self) -> bool:
        """Note what is new in the ledger, and from time to time what is stuck."""
        now = self._now()
        if (now - self._looked_for_stuck_at).total_seconds() >= STUCK_EVERY_S:
            self._looked_for_stuck_at = now
            for each in self._stuck():
                self._notices.stuck(self._hooks, each.subject_id, f"{each.subject}: {each.why}", now)
        return self._notices.read_ledger(self._hooks, now) > 0

    def tell_due(self, name: str) -> int:
        """Tell one hook what is due, no more than it takes in a minute; give how much it took."""
        now, settings, sent = self._now(), self._settings[name], self._sent[name]
        while sent and (now - sent[0]).total_seconds() >= 60:
            sent.popleft()
        room = settings.per_minute - len(sent)
        taken = 0
        for notice in self._notices.due(name, now, limit=room) if room > 0 else ():
            sent.append(now)
            if not self._tell_one(notice, settings):
                break  # it comes in order, or later
            taken += 1
        return taken

    def _tell_one(self, notice: Notice, settings: WebhookSettings) -> bool:
        now = self._now()
        secret = settings.secret.get_secret_value()
        try:
            self._tell(settings.url, notice.body, secret=secret, event=notice.event, at=now, allow=settings.allow)
        except (NotTold, ForbiddenTarget) as error:
            self._not_taken(notice, settings, error, now)
            return False
        self._notices.taken(notice, now)
        return True

    def _not_taken(self, notice: Notice, settings: WebhookSettings, error: Exception, now: datetime) -> None:
        facts = {"action": "webhook_not_told", "hook": notice.hook, "event": notice.event, "why": str(error)}
        if notice.attempts + 1 >= settings.attempts:
            self._notices.give_up(notice, str(error), now)
            log.error("webhook given up", extra=facts)
            return
        pause_s = min(_LONGEST_RETRY_S, _FIRST_RETRY_S * 2.0**notice.attempts)
        self._notices.put_off(notice, str(error), now + timedelta(seconds=pause_s))
        log.warning("webhook not told; tried again later", extra={**facts, "again_in_s": pause_s})

    def _take(self, name: str) -> bool:
        with self._lock:
            if name in self._busy:
                return False
            self._busy.add(name)
            return True

    def _one(self, name: str) -> None:
        try:
            self._turns.take(name, self._now(), lambda: self.tell_due(name) > 0)
        finally:
            with self._lock:
                self._busy.discard(name)
