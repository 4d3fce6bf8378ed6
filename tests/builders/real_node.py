"""A node of real parts whose clock is turned by hand: studies come, are read by a made-up engine, and are delivered."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from io import BytesIO
from typing import Any

from pydicom import Dataset

from configs.peers import Peer
from dicom_node.worker.analyse import infer, publish
from dicom_node.worker.parts import WorkerParts
from inference.findings import Findings
from storage.blobs import LocalBlobs
from storage.database import Database
from storage.decisions import take
from storage.deliveries import Deliveries
from storage.findings_store import FindingsStore
from storage.index import Index
from storage.intake import Intake
from storage.job_book import JobBook
from storage.jobs import Queue
from storage.records import Decision, DeliveryState, ItemState, Kept, NewJob, Origin, OriginKind, StudyState
from storage.results import ResultBook
from storage.retractions import Retractions
from tests.builders.ct import encode, make_ct_instance, uid
from tests.builders.findings import NODE, engine, lungs

STUDY = uid(1)
CT1 = Origin(OriginKind.DIMSE, peer="ct1", calling_ae_title="CT1", called_ae_title="DICOMNODE", host="127.0.0.1")


def slices(count: int = 12, **overrides: Any) -> list[Dataset]:
    """Make the slices of one series, large enough for outlines."""
    plane = {"Rows": 64, "Columns": 64, "PixelData": bytes(64 * 64 * 2)}
    return [make_ct_instance(number, **{**plane, **overrides}) for number in range(1, count + 1)]


class BlobEngine:
    """Finds the same blobs in whatever it is given."""

    description = engine()

    def analyse(self, volume: Any) -> Findings:
        """Give them."""
        return lungs(volume.array.shape)


@dataclass
class RealNode:
    """All parts of one node."""

    database: Database
    blobs: LocalBlobs
    queue: Queue
    peers: dict[str, Peer] = field(default_factory=dict)
    at: datetime = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)

    def __post_init__(self) -> None:
        self.index, self.jobs = Index(self.database), JobBook(self.database)
        self.intake = Intake(self.database, self.blobs, reserve_bytes=0, clock=self.now)
        self.deliveries = Deliveries(self.database, self.queue)
        self.results = ResultBook(self.database, self.now)
        self.findings = FindingsStore(self.database, self.blobs)
        self.retractions = Retractions(self.database)
        self.worker = WorkerParts(
            index=self.index,
            blobs=self.blobs,
            intake=self.intake,
            job_book=self.jobs,
            findings=self.findings,
            results=self.results,
            deliveries=self.deliveries,
            engines={"classical-lung": BlobEngine()},
            peers=self.peers,
            identity=NODE,
            timezone="UTC",
            now=self.now,
        )

    def now(self) -> datetime:
        """Give the time."""
        return self.at

    def later(self, seconds: float = 10) -> datetime:
        """Turn the clock."""
        self.at += timedelta(seconds=seconds)
        return self.at

    def send(self, datasets: Sequence[Dataset], origin: Origin = CT1) -> list[Kept]:
        """Let a modality send."""
        return [self.intake.receive(BytesIO(encode(dataset)), origin) for dataset in datasets]

    def decide(self, *deliver_to: str) -> str:
        """Decide that the study is complete; give the id of its job."""
        study = self.index.study(STUDY)
        series = {one.series_instance_uid for one in self.index.inputs_of(STUDY)}
        job = NewJob(
            engine="classical-lung",
            route="chest-ct",
            task="default",
            series_instance_uids=tuple(sorted(series)),
            selection="best",
            deliver_to=deliver_to,
            deliver_refusals=False,
            settle_until=self.at,
        )
        number = study.decision_number + 1
        decision = Decision(STUDY, number, study.input_version, "quiet", "Quiet.", self.later(), (), (job,))
        assert take(self.database, self.queue, decision, to=StudyState.ANALYSING, reason="Complete.")
        return f"{STUDY}:{number}:classical-lung"

    def analyse(self, *deliver_to: str) -> str:
        """Have the study read, and its results kept; give the run key."""
        job_id = self.decide(*deliver_to)
        infer(job_id, self.worker)
        publish(job_id, self.worker)
        (run_key,) = self.jobs.job(job_id).run_keys
        return run_key

    def deliver(self, *, to: str | None = None, accept: bool = True) -> None:
        """Have every waiting delivery taken, or refused for good."""
        for delivery in self.deliveries.of_study(STUDY):
            if delivery.state is not DeliveryState.WAITING or to not in (None, delivery.destination):
                continue
            taken = self.deliveries.begin(delivery.delivery_id, delivery.attempts + 1, self.later())
            assert taken is not None
            state = ItemState.ACCEPTED if accept else ItemState.REFUSED
            for item in taken.items:
                self.deliveries.item_answered(
                    delivery.delivery_id, item.sop_instance_uid, state, 0x0000 if accept else 0xA900, "said", self.at
                )
            end = DeliveryState.DELIVERED if accept else DeliveryState.FAILED
            self.deliveries.finish(delivery.delivery_id, end, "said", self.at)
