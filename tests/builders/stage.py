"""A node of paper: parts in memory that behave as the kept ones do, for stories to be told on."""

# ruff: noqa: ARG002 (stand-ins have the signatures of what they stand in for)
from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, BinaryIO, cast

from pydicom import Dataset

from configs.peers import Peer
from configs.settings import DeliverySettings, DimseSettings, QuietSettings
from dicom_node.worker.counts import ArchiveCounts
from dicom_node.worker.parts import CourierParts, WorkerParts
from inference.engines.protocol import SeriesNeeds
from inference.errors import UnsuitableStudy
from inference.findings import Findings
from inference.results.forms import OUTLINES_CLASS, REPORT_CLASS, Form
from inference.results.run import NodeIdentity, Run
from inference.series import CandidateSeries
from inference.transcode import pixel_digest
from inference.volume import SourceInstance
from storage.records import (
    Decision,
    DeliveryItem,
    DeliveryRecord,
    DeliveryState,
    InstanceRecord,
    ItemState,
    StudyState,
)
from tests.builders.paper_evidence import Immediately, PaperPauses, PaperPriorities, PaperPriors
from tests.builders.paper_parts import (
    JOB_ID,
    PaperAnnouncements,
    PaperBlobs,
    PaperClasses,
    PaperCorrections,
    PaperDeliveries,
    PaperDoor,
    PaperEngine,
    PaperFindings,
    PaperJobs,
    PaperResult,
    PaperResults,
    PaperStudy,
    PaperVariants,
    make_input,
)
from tests.builders.studies import STUDY_UID, at


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
