"""A node of paper: parts in memory that behave as the kept ones do, for stories to be told on."""

# ruff: noqa: ARG002 (stand-ins have the signatures of what they stand in for)
from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, BinaryIO, cast

from pydicom import Dataset

from configs.peers import Peer
from configs.settings import DeliverySettings, DimseSettings, QuietSettings
from dicom_node.worker.counts import ArchiveCounts
from dicom_node.worker.parts import CourierParts, WorkerParts
from inference.engines.protocol import EngineDescription, SeriesNeeds
from inference.errors import UnsuitableStudy
from inference.findings import Code, Findings
from inference.results.forms import OUTLINES_CLASS, REPORT_CLASS, Form
from inference.results.run import NodeIdentity, Run
from inference.series import CandidateSeries
from inference.transcode import pixel_digest
from inference.volume import SourceInstance
from storage.errors import NotKept
from storage.peer_records import Announcement, Coverage
from storage.records import (
    Decision,
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
from tests.builders.paper_evidence import Immediately, PaperPauses, PaperPriorities, PaperPriors
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
        self, delivery_id: str, uid: str, state: ItemState, status: int | None, reason: str, at: datetime
    ) -> None:
        assert self.delivery is not None
        items = [
            replace(item, state=state, status=status, reason=reason) if item.sop_instance_uid == uid else item
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


@dataclass
class Stage:
    """All parts of one node that keeps one study."""

    index: PaperStudy = field(default_factory=PaperStudy)
    jobs: PaperJobs = field(default_factory=PaperJobs)
    findings: PaperFindings = field(default_factory=PaperFindings)
    results: PaperResults = field(default_factory=PaperResults)
    deliveries: PaperDeliveries = field(default_factory=PaperDeliveries)
    classes: PaperClasses = field(default_factory=PaperClasses)
    variants: PaperVariants = field(default_factory=PaperVariants)
    corrections: PaperCorrections = field(default_factory=PaperCorrections)
    announcements: PaperAnnouncements = field(default_factory=PaperAnnouncements)
    pauses: PaperPauses = field(default_factory=PaperPauses)
    priorities: PaperPriorities = field(default_factory=PaperPriorities)
    priors: PaperPriors = field(default_factory=PaperPriors)
    archive: dict[str, int] | Exception = field(default_factory=dict)
    """What archives answer: series and their images, or a failure."""
    asked_archive: int = 0
    blobs: PaperBlobs = field(default_factory=PaperBlobs)
    engine: PaperEngine = field(default_factory=PaperEngine)
    engines: dict[str, PaperEngine] | None = None
    peers: dict[str, Any] = field(default_factory=dict)
    routes: list[Any] = field(default_factory=list)
    decisions: list[tuple[Decision, StudyState, str]] = field(default_factory=list)
    built: list[PaperResult] = field(default_factory=list)
    digest_pixels: Callable[[BinaryIO], str] = pixel_digest
    second: float = 10.0
    """The clock, in seconds after the start."""

    def __post_init__(self) -> None:
        self.door = PaperDoor(self.index, self.blobs)

    def now(self) -> datetime:
        return at(self.second)

    def keep(self, *inputs: InstanceRecord) -> None:
        """Put inputs into the index."""
        self.index.instances.update({one.sop_instance_uid: one for one in inputs})

    @property
    def worker(self) -> WorkerParts:
        """What the story of a study needs."""
        engines = {self.engine.description.name: self.engine} if self.engines is None else self.engines
        return WorkerParts(
            index=cast(Any, self.index),
            blobs=cast(Any, self.blobs),
            intake=cast(Any, self.door),
            job_book=cast(Any, self.jobs),
            findings=cast(Any, self.findings),
            results=cast(Any, self.results),
            deliveries=cast(Any, self.deliveries),
            engines=cast(Any, engines),
            peers=self.peers,
            identity=NodeIdentity("node", "1"),
            timezone="UTC",
            now=self.now,
        )

    @property
    def courier(self) -> CourierParts:
        """What the watch and deliveries need."""
        return CourierParts(
            database=cast(Any, None),
            queue=cast(Any, None),
            index=cast(Any, self.index),
            blobs=cast(Any, self.blobs),
            deliveries=cast(Any, self.deliveries),
            classes=cast(Any, self.classes),
            make_set=self.make_set,
            variants=cast(Any, self.variants),
            corrections=cast(Any, self.corrections),
            announcements=cast(Any, self.announcements),
            peers=self.peers,
            routes=self.routes,
            counts=ArchiveCounts(self.peers, self.ask_archive, cast(Any, Immediately()), self.now),
            pauses=cast(Any, self.pauses),
            priorities=cast(Any, self.priorities),
            priors=cast(Any, self.priors),
            engines={"classical-lung"},
            quiet=QuietSettings(after_s=5.0, at_most_s=100.0),
            delivery=DeliverySettings(first_retry_s=4.0, retry_at_most_s=60.0, attempts=3),
            dimse=DimseSettings(),
            now=self.now,
            digest_pixels=self.digest_pixels,
        )

    def ask_archive(self, peer: Peer, study_instance_uid: str) -> dict[str, int]:
        """Stand in for a question to an archive."""
        self.asked_archive += 1
        if isinstance(self.archive, Exception):
            raise self.archive
        return dict(self.archive)

    def make_set(self, run_key: str, form: Form) -> list[tuple[str, str]]:
        """Stand in for `SetMaker`: one instance for each kind, named by the form, of the class that it has there."""
        kinds = [kind for kind in (form.outlines_kind, form.report_kind) if kind]
        for kind in kinds:
            classes: Any = OUTLINES_CLASS if kind == form.outlines_kind else REPORT_CLASS
            sop_class = classes[form.outlines if kind == form.outlines_kind else form.report]
            self.keep(make_input(1, sop_instance_uid=f"{form}/{kind}", sop_class_uid=sop_class))
        return [(f"{form}/{kind}", kind) for kind in kinds]

    def take(self, database: object, queue: object, decision: Decision, *, to: StudyState, reason: str) -> bool:
        """Stand in for `storage.decisions.take`."""
        if decision.input_version != self.index.study_record.input_version:
            return False
        self.decisions.append((decision, to, reason))
        self.index.study_record = replace(
            self.index.study_record, state=to, reason=reason, decision_number=decision.decision_number
        )
        return True

    def build(
        self, findings: Findings, evidence: Sequence[Dataset], run: Run, node: object, form: object, shown: object
    ) -> list[PaperResult]:
        """Stand in for `inference.results.build.build_results`: one SEG unless refused, and one SR."""
        made = []
        for kind in ("sr",) if findings.refusal else ("sr", "seg"):
            dataset = Dataset()
            dataset.SOPInstanceUID = f"2.25.{int(run.run_key[:12], 16)}.{len(kind)}"
            dataset.SeriesInstanceUID = f"2.25.9.{len(kind)}"
            dataset.SOPClassUID = "1.2"
            text = f"{findings.summary} {run.revision} {run.revision_reason} {len(evidence)}"
            made.append(PaperResult(kind, "binary+comprehensive-3d", dataset, run, text))
        self.built += made
        return made


def encode_paper(result: PaperResult) -> bytes:
    """Stand in for `encode`."""
    return f"{result.kind}|{result.dataset.SOPInstanceUID}|{result.text}".encode()


def paper_headers(sources: Sequence[SourceInstance]) -> tuple[Dataset, ...]:
    """Stand in for `read_headers`."""
    headers = []
    for source in sources:
        header = Dataset()
        header.SOPInstanceUID = source.sop_instance_uid
        header.Modality = "CT"
        headers.append(header)
    return tuple(headers)


@dataclass(frozen=True)
class PaperVolume:
    """A volume that knows only what it was read from."""

    sources: tuple[SourceInstance, ...]
    frame_numbers: tuple[int | None, ...] = ()


def paper_volume(sources: Sequence[SourceInstance], decoder: object = None) -> PaperVolume:
    """Stand in for `read_volume`: images numbered 99 do not fit."""
    if any(source.sop_instance_uid.endswith(".99") for source in sources):
        raise UnsuitableStudy("1 of the images is doubled")
    return PaperVolume(tuple(sources))


def choose_longest(candidates: Sequence[CandidateSeries], needs: SeriesNeeds) -> CandidateSeries:
    """Stand in for `choose_series`."""
    best = max(candidates, key=lambda candidate: candidate.number_of_instances)
    if best.number_of_instances < needs.minimum_slices:
        raise UnsuitableStudy(f"no series has {needs.minimum_slices} images")
    return best


def encode_paper_findings(
    findings: Findings, sop_instance_uids: Sequence[str], frame_numbers: Sequence[int | None] = ()
) -> bytes:
    """Stand in for `encode_findings`."""
    return json.dumps([findings.summary, findings.refusal, list(sop_instance_uids)]).encode()


def no_frame_numbers(_: bytes) -> tuple[()]:
    """Stand in for `frame_numbers_of`: all images have one frame."""
    return ()


def decode_paper_findings(content: bytes) -> tuple[Findings, tuple[str, ...]]:
    """Stand in for `decode_findings`."""
    summary, refused, uids = json.loads(content)
    return Findings(summary=summary, refusal=refused), tuple(uids)


def make_delivery(*kinds: str, **overrides: Any) -> DeliveryRecord:
    """Make a delivery to `pacs` that waits, with one item for each kind, named `9.<position>`."""
    items = tuple(
        DeliveryItem(f"9.{position}", kind, ItemState.WAITING, None, "", None)
        for position, kind in enumerate(kinds or ("seg", "sr"), 1)
    )
    delivery = DeliveryRecord(
        delivery_id="key:binary+comprehensive-3d:pacs",
        job_id=JOB_ID,
        run_key="key",
        form="binary+comprehensive-3d",
        study_instance_uid=STUDY_UID,
        destination="pacs",
        state=DeliveryState.WAITING,
        reason="",
        attempts=0,
        next_attempt_at=at(0),
        created_at=at(0),
        ended_at=None,
        items=items,
    )
    return replace(delivery, **overrides)
