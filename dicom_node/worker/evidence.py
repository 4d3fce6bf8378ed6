"""What is known of a study that gathers, put together from announcements, rules, archives and experience."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from itertools import pairwise

from pydicom import Dataset

from dicom_node.routing.completion import NOTHING_ANNOUNCED, STILL_S, Announced, Known, Required, may_be_due
from dicom_node.routing.facts import SeriesFacts, StudyFacts
from dicom_node.routing.required import least_images, required
from dicom_node.worker.parts import CourierParts
from dicom_node.worker.sources import UNREADABLE_HEADER, by_series, headers_of, sources_of
from inference.volume import gap_in
from storage.blobs import BlobStore
from storage.errors import UnreadableInstance
from storage.peer_records import Announcement
from storage.records import InstanceRecord, Sender, StudyRecord
from storage.urgency import SenderKey

log = logging.getLogger(__name__)

#: Seconds for which what was learned of senders is taken as it was.
_LEARNED_FOR_S = 5.0


class Evidence:
    """Gathers evidence; remembers what is dear to look at as long as a study's input stays the same."""

    def __init__(self, parts: CourierParts) -> None:
        self._parts = parts
        self._required: dict[str, tuple[int, object, Required | None]] = {}
        self._pauses: dict[SenderKey, float] = {}
        self._learned_at: datetime | None = None

    def look_around(self, studies: Sequence[StudyRecord], now: datetime) -> None:
        """Have archives asked about the studies that gather, and forget those that do not."""
        self._parts.counts.consider(studies, now)
        gathering = {study.study_instance_uid for study in studies}
        self._required = {uid: known for uid, known in self._required.items() if uid in gathering}

    def may_be_due(self, study: StudyRecord, now: datetime, announcements: Sequence[Announcement]) -> bool:
        """Tell cheaply whether asking for a verdict can lead to a decision."""
        parts = self._parts
        return may_be_due(
            study,
            now,
            parts.quiet,
            parts.peers,
            announcements,
            required_images=least_images(parts.routes),
            is_counted=parts.counts.answered(study.study_instance_uid),
        )

    def of(
        self, study: StudyRecord, senders: Sequence[Sender], announcements: Sequence[Announcement], now: datetime
    ) -> Known:
        """Give all that is known of a study beside itself and its senders."""
        uid = study.study_instance_uid
        announced = (
            Announced(announcements, self._parts.announcements.coverage(uid)) if announcements else NOTHING_ANNOUNCED
        )
        here = {
            series.series_instance_uid: series.number_of_instances
            for series in self._parts.index.series_of(uid)
            if series.number_of_inputs
        }
        return Known(
            announced=announced,
            required=self._required_of(study, senders, now),
            counted=self._parts.counts.of(study, here),
            pauses=self._learned(now),
        )

    def note_pauses(self, study_instance_uid: str, inputs: Sequence[InstanceRecord], now: datetime) -> None:
        """Learn from a study that is complete how its senders pause."""
        if self._parts.quiet.adapts:
            longest_s = longest_pauses(inputs, at_most_s=self._parts.quiet.adapted_at_most_s)
            self._parts.pauses.note(study_instance_uid, longest_s, now)

    def _learned(self, now: datetime) -> Mapping[SenderKey, float]:
        if not self._parts.quiet.adapts:
            return {}
        if self._learned_at is None or now - self._learned_at >= timedelta(seconds=_LEARNED_FOR_S):
            self._pauses, self._learned_at = self._parts.pauses.learned(now), now
        return self._pauses

    def _required_of(self, study: StudyRecord, senders: Sequence[Sender], now: datetime) -> Required | None:
        """Look whether the series that rules wait for are here, once for each state of the study's input."""
        routes = tuple(self._parts.routes)
        least = least_images(routes)
        still_s = (now - study.last_instance_at).total_seconds()
        if least is None or study.number_of_inputs < least or still_s < STILL_S:
            return None
        if any(sender.active for sender in senders):
            return None
        version, by, found = self._required.get(study.study_instance_uid, (-1, None, None))
        if (version, by) == (study.input_version, routes):
            return found
        uid, blobs = study.study_instance_uid, self._parts.blobs
        inputs = self._parts.index.inputs_of(uid)
        series = by_series(inputs)
        found = required(
            routes,
            facts_of(uid, senders, inputs, blobs),
            {name: sum(each.number_of_frames for each in group) for name, group in series.items()},
            lambda name: gap_of(series[name], blobs),
        )
        self._required[uid] = (study.input_version, routes, found)
        return found


def longest_pauses(inputs: Sequence[InstanceRecord], *, at_most_s: float) -> dict[SenderKey, float]:
    """Give the longest time between two images of a study that each sender took; still longer: it began anew."""
    arrivals: dict[SenderKey, list[datetime]] = {}
    for instance in inputs:
        sender = (instance.origin.peer, instance.origin.calling_ae_title)
        arrivals.setdefault(sender, []).append(instance.received_at)
    longest_s: dict[SenderKey, float] = {}
    for sender, moments in arrivals.items():
        moments.sort()
        pauses = [(after - before).total_seconds() for before, after in pairwise(moments)]
        longest_s[sender] = max((pause for pause in pauses if pause <= at_most_s), default=0.0)
    return longest_s


def gap_of(inputs: Sequence[InstanceRecord], blobs: BlobStore) -> str:
    """Say what is missing of a series, by the numbers of its images, by what they say of their number, and by where
    they lie; empty: nothing.

    Source: PS3.3 C.7.6.1 (Instance Number, Images in Acquisition).
    """
    numbers = sorted(each.instance_number for each in inputs if each.instance_number is not None)
    if len(numbers) == len(inputs) and len(set(numbers)) == len(numbers):
        if numbers[0] not in (0, 1):
            return f"its first image has the number {numbers[0]}."
        lacking = numbers[-1] - numbers[0] + 1 - len(numbers)
        if lacking:
            return f"{lacking} of its images are missing by their numbers."
    try:
        (header,) = headers_of(blobs, inputs[:1])
        announced = int(header.get("ImagesInAcquisition") or 0)
        if announced > len(inputs):
            return f"its acquisition has {announced} images, {len(inputs)} are here."
        return gap_in(sources_of(blobs, inputs))
    except (UnreadableInstance, *UNREADABLE_HEADER):
        return "an image cannot be read."


def facts_of(
    study_instance_uid: str, senders: Sequence[Sender], inputs: Sequence[InstanceRecord], blobs: BlobStore
) -> StudyFacts:
    """Read what rules look at: the header of the first input of every series."""
    return StudyFacts(
        study_instance_uid,
        senders,
        tuple(SeriesFacts(uid, _header(group[0], blobs)) for uid, group in by_series(inputs).items()),
    )


def _header(instance: InstanceRecord, blobs: BlobStore) -> Dataset | None:
    try:
        return headers_of(blobs, [instance])[0]
    except UnreadableInstance as error:
        log.warning(
            "header of a kept instance cannot be read",
            extra={
                "action": "header_unreadable",
                "sop_instance_uid": instance.sop_instance_uid,
                "error": error.code,
            },
        )
        return None
