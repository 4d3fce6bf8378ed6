"""Who looked at which study: told to the audit trail once for each look, not for each frame of it."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from datetime import datetime, timedelta

from dicomweb.caller import Caller
from storage.audit import Audit, AuditAction, AuditOutcome

#: A caller who goes on looking at the same study within this time has looked once.
_ONE_LOOK = timedelta(minutes=15)
_REMEMBERED = 10_000


class Accesses:
    """Notes accesses."""

    def __init__(self, audit: Audit, now: Callable[[], datetime]) -> None:
        self._audit = audit
        self._now = now
        self._noted: OrderedDict[tuple[str, str | None, str], datetime] = OrderedDict()
        self._lock = threading.Lock()

    def is_noted(self, caller: Caller, study_instance_uid: str | None, what: str) -> bool:
        """Tell whether `note` would find this look recorded."""
        return self._is_noted((caller.name, study_instance_uid, what), self._now())

    def note(self, caller: Caller, study_instance_uid: str | None, what: str) -> None:
        """Record that a caller looked at something of a study, or searched all; it is durable when this returns."""
        key = (caller.name, study_instance_uid, what)
        now = self._now()
        if self._is_noted(key, now):
            return
        self._audit.record(AuditAction.ACCESS, caller.name, study_instance_uid, AuditOutcome.DONE, what, now)
        with self._lock:
            self._noted[key] = now
            self._noted.move_to_end(key)
            while len(self._noted) > _REMEMBERED:
                self._noted.popitem(last=False)

    def _is_noted(self, key: tuple[str, str | None, str], now: datetime) -> bool:
        with self._lock:
            last = self._noted.get(key)
        return last is not None and now - last < _ONE_LOOK
