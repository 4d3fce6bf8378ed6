"""N-CREATE and N-SET of what peers announce: one table of the SOP Classes that are served."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import cast

from pydicom import Dataset
from pynetdicom import evt
from pynetdicom.dimse_primitives import N_CREATE, N_SET
from pynetdicom.events import Event

from dicom_node.scp import availability, performed_step
from dicom_node.scp.requests import NO_SUCH_SOP_CLASS, RequestRefused, answer
from dicom_node.scp.services import ScpParts
from dicom_node.scp.status import PROCESSING_FAILURE
from storage.announcements import Announcements
from storage.intake import utc_now
from storage.records import Origin

log = logging.getLogger(__name__)

#: Serves one request: what was said before, the event, who says it, and when.
Serve = Callable[[Announcements, Event, Origin, datetime], Dataset | None]


@dataclass(frozen=True)
class AnnouncementService:
    """Serves Modality Performed Procedure Step and Instance Availability Notification."""

    announcements: Announcements
    clock: Callable[[], datetime] = utc_now
    creates: Mapping[str, Serve] = field(
        default_factory=lambda: {
            performed_step.SOP_CLASS: performed_step.create,
            availability.SOP_CLASS: availability.create,
        }
    )
    sets: Mapping[str, Serve] = field(default_factory=lambda: {performed_step.SOP_CLASS: performed_step.change})

    def __call__(self, parts: ScpParts) -> Sequence[evt.EventHandlerType]:
        """Give the handlers."""

        def on_create(event: Event) -> tuple[int | Dataset, Dataset | None]:
            named = str(cast(N_CREATE, event.request).AffectedSOPClassUID)
            return answer(event, parts.register, "create", lambda: self._serve(self.creates, named, event, parts))

        def on_set(event: Event) -> tuple[int | Dataset, Dataset | None]:
            named = str(cast(N_SET, event.request).RequestedSOPClassUID)
            return answer(event, parts.register, "set", lambda: self._serve(self.sets, named, event, parts))

        return [(evt.EVT_N_CREATE, on_create), (evt.EVT_N_SET, on_set)]

    def _serve(self, table: Mapping[str, Serve], named: str, event: Event, parts: ScpParts) -> Dataset | None:
        serve = table.get(str(event.context.abstract_syntax))
        if serve is None or named != event.context.abstract_syntax:
            raise RequestRefused(NO_SUCH_SOP_CLASS, "The request names another SOP Class than its context.")
        entry = parts.register.of(event.assoc)
        if entry is None:  # the association ended while the request was waiting
            raise RequestRefused(PROCESSING_FAILURE, "The association has ended.")
        reply = serve(self.announcements, event, entry.origin, self.clock())
        log.info("announcement taken", extra={"action": "announced", **entry.facts, "sop_class_uid": named})
        return reply
