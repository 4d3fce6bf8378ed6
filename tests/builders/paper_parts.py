"""Parts in memory that behave as the kept ones do, for stories to be told on."""

# ruff: noqa: ARG002 (stand-ins have the signatures of what they stand in for)
from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, BinaryIO

from pydicom import Dataset

from inference.engines.protocol import EngineDescription, SeriesNeeds
from inference.findings import Code, Findings
from inference.results.run import Run
from storage.errors import NotKept
from storage.peer_records import Announcement, Coverage
from storage.records import (
    DeliveryItem,
    DeliveryRecord,
    DeliveryState,
    FindingsRecord,
    InstanceRecord,
    InstanceRole,
    InstanceState,
    ItemState,
    JobRecord,
    JobState,
    Kept,
    Origin,
    OriginKind,
    Outcome,
    ResultRecord,
    Sender,
    SeriesRecord,
    StudyRecord,
    StudyState,
    VariantRecord,
    VariantState,
)
from tests.builders.studies import STUDY_UID, at, make_study

CT_IMAGE = "1.2.840.10008.5.1.4.1.1.2"
EXPLICIT = "1.2.840.10008.1.2.1"
JOB_ID = f"{STUDY_UID}:1:classical-lung"


def make_input(number: int, *, series: str = "1.1", **overrides: Any) -> InstanceRecord:
    """Make the record of one CT image, named `<series>.<number>`, that came at the start."""
    uid = f"{series}.{number}"
    record = InstanceRecord(
        study_instance_uid=STUDY_UID,
        series_instance_uid=series,
        sop_instance_uid=uid,
        sop_class_uid=CT_IMAGE,
        transfer_syntax_uid=EXPLICIT,
        instance_number=number,
        number_of_frames=1,
        role=InstanceRole.INPUT,
        state=InstanceState.FOLLOWS_STUDY,
        reason="",
        path=f"blob/{uid}",
        size=100,
        sha256=f"digest-{uid}",
        received_at=at(0),
        origin=Origin(OriginKind.DIMSE, "ct1", "CT1", "DICOMNODE", "10.1.2.3", "a1"),
    )
    return replace(record, **overrides)


def make_job(**overrides: Any) -> JobRecord:
    """Make a queued job of the first decision, made 6 s after the start, on series `1.1`."""
    job = JobRecord(
        job_id=JOB_ID,
        study_instance_uid=STUDY_UID,
        decision_number=1,
        engine="classical-lung",
        route="chest-ct",
        task="default",
        series_instance_uids=("1.1",),
        selection="best",
        deliver_to=("pacs",),
        deliver_refusals=False,
        settle_until=at(60),
        state=JobState.QUEUED,
        reason="",
        attempts=0,
        run_keys=(),
        created_at=at(6),
        started_at=None,
        ended_at=None,
    )
    return replace(job, **overrides)


def make_description(**overrides: Any) -> EngineDescription:
    """Describe a made-up engine."""
    about = EngineDescription(
        name="classical-lung",
        version="1.0",
        kind="classical",
        title="Lung",
        manufacturer="dicom-node",
        family=Code("123105", "DCM", "Histogram Analysis"),
        digest="d1",
        reads=SeriesNeeds(("CT",), 2, 10.0),
        parameters=(("threshold", "-400"),),
    )
    return replace(about, **overrides)


class PaperEngine:
    """Answers as told, and counts how often it was asked."""

    def __init__(self, answer: Findings | Exception | None = None, **about: Any) -> None:
        self.description = make_description(**about)
        self.answer = answer or Findings(summary="RESEARCH USE. Made up.")
        self.asked = 0

    def analyse(self, volume: object) -> Findings:
        self.asked += 1
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@dataclass
class PaperStudy:
    """The index of one study."""

    study_record: StudyRecord = field(default_factory=make_study)
    instances: dict[str, InstanceRecord] = field(default_factory=dict)
    senders: list[Sender] = field(default_factory=list)
    patients: list[tuple[str, ...]] = field(default_factory=list)
    asked_for_senders: int = 0
    expired: int = 0

    def study(self, uid: str) -> StudyRecord:
        return self.study_record

    def gathering(self) -> list[StudyRecord]:
        return [self.study_record] if self.study_record.state is StudyState.GATHERING else []

    def series_of(self, uid: str) -> list[SeriesRecord]:
        uids = [one.series_instance_uid for one in self.inputs_of(uid)]
        return [
            SeriesRecord(STUDY_UID, one, "CT", number, "", uids.count(one), uids.count(one))
            for number, one in enumerate(sorted(set(uids)), 1)
        ]

    def inputs_of(self, uid: str) -> list[InstanceRecord]:
        found = [one for one in self.instances.values() if one.role is InstanceRole.INPUT]
        return sorted(found, key=lambda one: (one.series_instance_uid, one.instance_number or 0))

    def expired_inputs_of(self, uid: str) -> int:
        return self.expired

    def digests_of(self, uid: str) -> dict[str, str]:
        return {one.sop_instance_uid: one.sha256 for one in self.inputs_of(uid)}

    def instance(self, uid: str) -> InstanceRecord:
        if uid not in self.instances:
            raise NotKept()
        return self.instances[uid]

    def senders_of(self, uid: str, *, now: datetime, idle_after_s: float) -> list[Sender]:
        self.asked_for_senders += 1
        return self.senders

    def patients_of(self, uid: str) -> list[tuple[str, ...]]:
        return self.patients


@dataclass
class PaperJobs:
    """The job book of one job."""

    record: JobRecord = field(default_factory=make_job)

    def job(self, job_id: str) -> JobRecord:
        return self.record

    def begin(self, job_id: str, at: datetime) -> JobRecord | None:
        if self.record.state not in (JobState.QUEUED, JobState.RUNNING):
            return None
        self.record = replace(self.record, state=JobState.RUNNING, attempts=self.record.attempts + 1)
        return self.record

    def know_runs(self, job_id: str, run_keys: Sequence[str]) -> None:
        self.record = replace(self.record, run_keys=tuple(run_keys))

    def finish(self, job_id: str, state: JobState, reason: str, at: datetime) -> None:
        self.record = replace(self.record, state=state, reason=reason, ended_at=at)


@dataclass
class PaperFindings:
    """Findings, insert-if-absent."""

    records: dict[str, FindingsRecord] = field(default_factory=dict)

    def once(
        self,
        run_key: str,
        *,
        study_instance_uid: str,
        engine: str,
        task: str,
        facts: dict[str, Any],
        at: datetime,
        make: Callable[[], bytes],
    ) -> FindingsRecord:
        if run_key not in self.records:
            content = make()
            revision = 1 + sum(one.task == task for one in self.records.values())
            facts = json.loads(json.dumps(facts))
            self.records[run_key] = FindingsRecord(
                run_key, study_instance_uid, engine, task, revision, at, content, facts
            )
        return self.records[run_key]

    def of(self, run_key: str) -> FindingsRecord:
        return self.records[run_key]

    def predecessor(self, record: FindingsRecord) -> FindingsRecord | None:
        wanted = (record.task, record.revision - 1)
        return next((one for one in self.records.values() if (one.task, one.revision) == wanted), None)


@dataclass
class PaperResults:
    """Reserved results."""

    records: list[ResultRecord] = field(default_factory=list)

    def reserve(self, records: Sequence[ResultRecord]) -> None:
        self.records += [record for record in records if record not in self.records]

    def of_run(self, run_key: str) -> list[ResultRecord]:
        return [record for record in self.records if record.run_key == run_key]


@dataclass
class PaperDoor:
    """The one door, for results: same bytes are kept already, others are set aside."""

    index: PaperStudy
    blobs: dict[str, bytes]
    fails_at: str = ""
    """Kind of result at which the power goes out."""

    def receive(self, part10: BinaryIO, origin: Origin) -> Kept:
        content = part10.read()
        kind, uid, _ = content.decode().split("|")
        if kind == self.fails_at:
            raise PowerCut
        outcome = Outcome.KEPT
        if uid in self.index.instances:
            outcome = Outcome.ALREADY_KEPT if self.blobs[f"blob/{uid}"] == content else Outcome.SET_ASIDE
        else:
            self.index.instances[uid] = make_input(1, series=f"r.{kind}", role=InstanceRole.RESULT, path=f"blob/{uid}")
            self.blobs[f"blob/{uid}"] = content
        return Kept(outcome, InstanceRole.RESULT, STUDY_UID, f"r.{kind}", uid, f"blob/{uid}", "digest")


class PowerCut(BaseException):
    """The process ends here."""


@dataclass
class PaperDeliveries:
    """Deliveries asked for, and what became of one."""

    asked: list[tuple[Any, ...]] = field(default_factory=list)
    delivery: DeliveryRecord | None = None
    retried: list[tuple[str, datetime, int]] = field(default_factory=list)
    replaced: list[str] = field(default_factory=list)

    def ask_for(self, *asked: Any, not_before: datetime, at: datetime) -> None:
        if (*asked, not_before) not in self.asked:
            self.asked.append((*asked, not_before))

    def begin(self, delivery_id: str, attempt: int, at: datetime) -> DeliveryRecord | None:
        if self.delivery is None or self.delivery.state is not DeliveryState.WAITING:
            return None
        self.delivery = replace(self.delivery, state=DeliveryState.SENDING, attempts=attempt)
        return self.delivery

    def item_answered(
        self,
        delivery_id: str,
        uid: str,
        state: ItemState,
        status: int | None,
        reason: str,
        at: datetime,
        transfer_syntax_uid: str = "",
    ) -> None:
        assert self.delivery is not None
        said = {"state": state, "status": status, "reason": reason, "transfer_syntax_uid": transfer_syntax_uid}
        items = [
            replace(item, **said) if item.sop_instance_uid == uid else item  # type: ignore[arg-type]
            for item in self.delivery.items
        ]
        self.delivery = replace(self.delivery, items=tuple(items))

    def finish(self, delivery_id: str, state: DeliveryState, reason: str, at: datetime) -> None:
        assert self.delivery is not None
        self.delivery = replace(self.delivery, state=state, reason=reason, ended_at=at)

    def replace(
        self, delivery_id: str, form: str, items: Sequence[tuple[str, str]], reason: str, at: datetime, attempt: int
    ) -> None:
        assert self.delivery is not None
        former = [
            item if item.state is ItemState.ACCEPTED else replace(item, state=ItemState.REPLACED)
            for item in self.delivery.items
        ]
        new = [DeliveryItem(uid, kind, ItemState.WAITING, None, "", None) for uid, kind in items]
        self.delivery = replace(
            self.delivery, state=DeliveryState.WAITING, reason=reason, form=form, items=(*former, *new)
        )
        self.replaced.append(form)

    def retry(self, delivery_id: str, reason: str, at: datetime, next_attempt_at: datetime, attempt: int) -> None:
        assert self.delivery is not None
        self.delivery = replace(self.delivery, state=DeliveryState.WAITING, reason=reason)
        self.retried.append((reason, next_attempt_at, attempt))


@dataclass
class PaperClasses:
    """What destinations take."""

    answers: dict[tuple[str, str], bool] = field(default_factory=dict)

    def learn(self, peer: str, uids: Iterable[str], *, accepted: bool, reason: str, at: datetime) -> None:
        self.answers |= {(peer, uid): accepted for uid in uids}

    def refused_by(self, peer: str) -> frozenset[str]:
        return frozenset(uid for (name, uid), accepted in self.answers.items() if name == peer and not accepted)


@dataclass
class PaperVariants:
    """The side store."""

    records: list[VariantRecord] = field(default_factory=list)
    said: list[tuple[VariantState, str]] = field(default_factory=list)

    def unclassed(self, *, limit: int) -> list[VariantRecord]:
        return self.records[:limit]

    def classed(self, variant: VariantRecord, state: VariantState, reason: str, at: datetime) -> None:
        self.records.remove(variant)
        self.said.append((state, reason))


@dataclass
class PaperCorrections:
    """Corrections that were applied."""

    applied: list[tuple[str, str]] = field(default_factory=list)
    fails: Exception | None = None

    def apply(self, variant: VariantRecord, *, by: str, at: datetime) -> None:
        if self.fails is not None:
            raise self.fails
        self.applied.append((variant.sop_instance_uid, by))


@dataclass
class PaperAnnouncements:
    """What peers announced."""

    said: list[Announcement] = field(default_factory=list)
    covers: Coverage = field(default_factory=lambda: Coverage(0, 0, 0))
    asked_for_coverage: int = 0

    def of_gathering(self) -> dict[str, list[Announcement]]:
        return {STUDY_UID: self.said} if self.said else {}

    def coverage(self, study_instance_uid: str) -> Coverage:
        self.asked_for_coverage += 1
        return self.covers


class PaperBlobs(dict[str, bytes]):
    """Blobs by key."""

    def open(self, path: str) -> BinaryIO:
        return io.BytesIO(self[path])


@dataclass
class PaperResult:
    """A result object without DICOM: its bytes say kind, UID and what it was made from."""

    kind: str
    form: str
    dataset: Dataset
    run: Run
    text: str
