"""The associations that are open now, and what storage is told of them."""

from __future__ import annotations

import itertools
import logging
import threading
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from configs.peers import Peer
from dicom_node.network import printable_ae_title
from dicom_node.rejections import TEMPORARY_CONGESTION
from dicom_node.scp.admission import Caller, Refused, within_limits
from dicom_node.scp.connection import BoundedConnection
from storage.associations import AssociationEnd, Associations
from storage.errors import StorageError
from storage.intake import utc_now
from storage.records import Origin, OriginKind

log = logging.getLogger(__name__)

#: Seconds between two refreshes of what storage knows of traffic.
_REFRESH_S = 0.5
#: Distinct refused callers that are remembered between two refreshes; more are logged only.
_MOST_REFUSED = 100


class Ongoing(Protocol):
    """An association of ours or of pynetdicom's, as far as others may act on it."""

    def is_alive(self) -> bool:
        """Tell whether its thread still runs."""
        ...

    def abort(self, *, block: bool = True) -> None:
        """End it at once; without `block`, in its own time."""
        ...

    def join(self, timeout: float | None = None) -> None:
        """Wait for its thread."""
        ...


class Busy:
    """Counts what is under way; whoever wants to end it can wait for none."""

    def __init__(self) -> None:
        self._count = 0
        self._changed = threading.Condition()

    def __enter__(self) -> None:
        with self._changed:
            self._count += 1

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._count -= 1
            self._changed.notify_all()

    def wait(self, within_s: float) -> bool:
        """Wait until nothing is under way; False: something still is."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._count, max(0.0, within_s))


@dataclass
class OpenAssociation:
    """One association while it is open."""

    association: Ongoing
    connection: BoundedConnection
    origin: Origin
    recorded: bool
    """Storage has a row of it: it may bring instances."""
    end: AssociationEnd = "aborted"
    """What its end will be called, unless it is released: aborted or lost."""
    stores_waiting: int = 0
    """C-STORE requests received and not answered."""
    busy: Busy = field(default_factory=Busy)
    """Entered while an instance is being kept."""
    unfinished_instance: bool = False
    """It ended within a message."""
    traffic_seen: int = 0
    """Bytes received at the last refresh."""

    @property
    def association_id(self) -> str:
        """Its name, unique over all time."""
        return self.origin.association_id or ""

    @property
    def facts(self) -> dict[str, object]:
        """What log lines about it carry."""
        return {
            "association_id": self.association_id,
            "peer": self.origin.peer,
            "calling_ae_title": self.origin.calling_ae_title,
            "host": self.origin.host,
        }


class Register:
    """Knows every open association; a thread of its own tells storage, at most twice a second, which had traffic."""

    def __init__(self, rows: Associations, *, receiver: str, clock: Callable[[], datetime] = utc_now) -> None:
        self._rows = rows
        self._receiver = receiver
        self._clock = clock
        self._open: dict[Ongoing, OpenAssociation] = {}
        self._unclosed: list[tuple[str, AssociationEnd, datetime]] = []
        self._refused: dict[tuple[str, str, str], tuple[str, datetime]] = {}
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._stop = threading.Event()
        self._counter = itertools.count(1)
        self._thread = threading.Thread(target=self._run, name="association-register", daemon=True)

    def start(self) -> None:
        """Close the rows of a former life of this receiver, and begin to refresh.

        Raises
        ------
        IndexUnavailable
            The database does not answer.
        """
        self._rows.lost(self._receiver, self._clock())
        self._thread.start()

    def stop(self) -> None:
        """Tell storage what it does not know yet, and end."""
        self._stop.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join()
        self.refresh()

    def of(self, association: Ongoing) -> OpenAssociation | None:
        """Give what is known of an association that is open."""
        with self._lock:
            return self._open.get(association)

    def all(self) -> list[OpenAssociation]:
        """Give the associations that are open now."""
        with self._lock:
            return list(self._open.values())

    def enter(
        self,
        association: Ongoing,
        connection: BoundedConnection,
        caller: Caller,
        *,
        peer_name: str,
        peer: Peer,
        services: Collection[str],
        maximum: int,
    ) -> OpenAssociation | Refused:
        """Take in an association, unless a limit is reached or storage cannot be told.

        `services`: those that its contexts ask for; only storage leaves a row.
        """
        origin = Origin(
            kind=OriginKind.DIMSE,
            peer=peer_name,
            calling_ae_title=printable_ae_title(caller.calling_ae_title),
            called_ae_title=printable_ae_title(caller.called_ae_title),
            host=caller.host,
            association_id=f"{self._receiver}-{time.time_ns()}-{next(self._counter)}",
        )
        entry = OpenAssociation(association, connection, origin, recorded="store" in services)
        with self._lock:
            of_peer = sum(each.origin.peer == peer_name for each in self._open.values())
            refused = within_limits(caller, peer, open_of_peer=of_peer, open_in_all=len(self._open), maximum=maximum)
            if refused is not None:
                return refused
            self._open[association] = entry
        if entry.recorded:
            try:
                self._rows.opened(entry.association_id, self._receiver, origin, self._clock())
            except StorageError:
                with self._lock:
                    del self._open[association]
                return Refused(f"Refused {caller.shown}: the index does not answer.", TEMPORARY_CONGESTION)
        self._wake.set()
        return entry

    def leave(self, association: Ongoing, end: AssociationEnd) -> OpenAssociation | None:
        """Take note of an association's end; None: it was noted before."""
        entry = self.make_room(association)
        if entry is not None:
            self.record_end(entry, end)
        return entry

    def make_room(self, association: Ongoing) -> OpenAssociation | None:
        """Count an association no longer, before its peer is told and may ask for another; None: it was not counted."""
        with self._lock:
            return self._open.pop(association, None)

    def record_end(self, entry: OpenAssociation, end: AssociationEnd) -> None:
        """Tell storage how an association ended that is counted no longer."""
        if entry.recorded:
            self._close_row(entry.association_id, end, self._clock())

    def refuse(self, caller: Caller, why: str) -> None:
        """Remember a caller that got no association; storage is told soon, so that a flood of them costs little."""
        key = (printable_ae_title(caller.calling_ae_title), printable_ae_title(caller.called_ae_title), caller.host)
        with self._lock:
            if key in self._refused or len(self._refused) < _MOST_REFUSED:
                self._refused[key] = (why, self._clock())
        self._wake.set()

    def refresh(self) -> None:
        """Tell storage of traffic, refused callers, and ends that it could not be told before."""
        with self._lock:
            entries = list(self._open.values())
            refused, self._refused = self._refused, {}
            unclosed, self._unclosed = self._unclosed, []
        for entry in entries:
            if not entry.association.is_alive():  # its thread ended without a word
                self.leave(entry.association, "lost")
        for association_id, end, at in unclosed:
            self._close_row(association_id, end, at)
        try:
            for (calling, called, host), (why, at) in refused.items():
                self._rows.refused(calling, called, host, why, at)
            active = [entry for entry in entries if entry.recorded and entry.connection.received != entry.traffic_seen]
            if active:
                self._rows.traffic([entry.association_id for entry in active], self._clock())
            for entry in active:
                entry.traffic_seen = entry.connection.received
        except StorageError as error:
            log.warning("traffic not recorded", extra={"action": "traffic_failed", "error": error.code})

    def _close_row(self, association_id: str, end: AssociationEnd, at: datetime) -> None:
        try:
            self._rows.closed(association_id, end, at)
        except StorageError as error:
            log.warning(
                "end of an association not recorded yet",
                extra={"action": "close_failed", "association_id": association_id, "error": error.code},
            )
            with self._lock:
                self._unclosed.append((association_id, end, at))

    def _run(self) -> None:
        while not self._stop.is_set():
            with self._lock:
                idle = not self._open and not self._unclosed
            if idle:
                self._wake.wait()
            self._wake.clear()
            try:
                self.refresh()
            except Exception:
                log.exception("register could not be refreshed", extra={"action": "register_failed"})
            self._stop.wait(_REFRESH_S)
