"""The courier's watch: sees studies become complete, and decides what follows."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from typing import TypeVar

from dicom_node.routing.completion import next_look_s, verdict
from dicom_node.routing.plan import Ruling, as_far_as_kept, plan
from dicom_node.worker.evidence import Evidence, facts_of
from dicom_node.worker.parts import CourierParts
from dicom_node.worker.turns import Turns
from dicom_node.worker.variants import class_variant
from storage.decisions import take
from storage.peer_records import Announcement
from storage.records import Sender, StudyRecord

log = logging.getLogger(__name__)

T = TypeVar("T", StudyRecord, Sender)

#: Seconds between two looks at most: evidence may come at any time. Silence is looked at when it is long enough.
EVERY_S = 0.2
#: Variants classed in one tick: completion goes first.
_VARIANTS_AT_ONCE = 10


@dataclass(frozen=True)
class Tick:
    """What one look came to."""

    decided: int = 0
    classed: int = 0
    failed: int = 0
    """Studies and variants that raised an error or sit out after one."""


class CourierWatch:
    """Looks at gathering studies and unclassed variants, again and again.

    `since`: when the node began to listen. Silence before that is no evidence: it could hear nobody.
    """

    def __init__(self, parts: CourierParts, *, since: datetime | None = None) -> None:
        self._parts = parts
        self._since = since
        self._gathering: list[StudyRecord] = []
        """As the latest look saw them."""
        self._evidence = Evidence(parts)
        self._studies = Turns("decision_failed")
        self._variants = Turns("variant_failed")
        self._looks = Turns("watch_failed")

    def run(self, stop: threading.Event, *, every_s: float = EVERY_S) -> None:
        """Look until told to stop. What is not decided when it stops is decided after the next start."""
        while not stop.wait(self._pause_s(every_s)):
            self._looks.take("tick", self._parts.now(), self._look)

    def _pause_s(self, every_s: float) -> float:
        """Give the seconds until the next look: to the moment at which a study has been quiet long enough."""
        parts = self._parts
        heard = [self._heard(study) for study in self._gathering]
        return next_look_s(heard, parts.now(), parts.quiet, parts.peers, at_most_s=every_s)

    def tick(self, now: datetime) -> Tick:
        """Decide on every study that is complete now, and class what was set aside."""
        announced, gathering = self._parts.announcements.of_gathering(), self._parts.index.gathering()
        self._gathering = gathering
        self._evidence.look_around(gathering, now)
        studies = [
            self._studies.take(study.study_instance_uid, now, partial(self._decide, study, now, said))
            for study in gathering
            if self._evidence.may_be_due(study, now, said := announced.get(study.study_instance_uid, []))
        ]
        variants = [
            self._variants.take(
                f"{variant.sop_instance_uid} {variant.sha256}",
                now,
                partial(class_variant, variant, self._parts),
            )
            for variant in self._parts.variants.unclassed(limit=_VARIANTS_AT_ONCE)
        ]
        return Tick(studies.count(True), variants.count(True), studies.count(None) + variants.count(None))

    def _heard(self, told: T) -> T:
        """Count the silence of a study or a sender from when the node listened."""
        if self._since is None or told.last_instance_at >= self._since:
            return told
        return replace(told, last_instance_at=self._since)

    def _look(self) -> bool:
        self.tick(self._parts.now())
        return True

    def _decide(self, study: StudyRecord, now: datetime, announcements: Sequence[Announcement]) -> bool:
        """Decide on one study; tell whether a decision was taken."""
        parts, uid = self._parts, study.study_instance_uid
        senders = parts.index.senders_of(uid, now=now, idle_after_s=parts.quiet.sender_idle_after_s)
        known = self._evidence.of(study, senders, announcements, now)
        heard = (self._heard(study), [self._heard(sender) for sender in senders])
        said = verdict(*heard, now, parts.quiet, parts.peers, known)
        if not said.complete:
            return False
        inputs = parts.index.inputs_of(uid)
        facts = facts_of(uid, senders, inputs, parts.blobs)
        # One that came since `now` is an input of this decision too, or the study has changed and none is taken.
        decided_at = max([now, *(instance.received_at for instance in inputs)])
        prior = parts.priors.fetched(uid)
        ruling = Ruling(
            parts.routes,
            parts.peers,
            parts.engines,
            parts.delivery.settle_s,
            priorities=parts.priorities.of(uid),
            fetched_from=prior.peer if prior else "",
        )
        planned = plan(study, said, facts, parts.index.patients_of(uid), ruling, decided_at=decided_at)
        planned = as_far_as_kept(planned, parts.index.expired_inputs_of(uid))
        taken = take(parts.database, parts.queue, planned.decision, to=planned.to, reason=planned.reason)
        if taken:  # else an instance came meanwhile: the study goes on gathering
            self._evidence.note_pauses(uid, inputs, now)
            log.info(
                "study decided",
                extra={
                    "action": "study_decided",
                    "study_instance_uid": uid,
                    "decision_number": planned.decision.decision_number,
                    "evidence": said.evidence,
                    "state": planned.to.value,
                    "jobs": len(planned.decision.jobs),
                },
            )
        return taken
