"""The way of a study over real parts: one door, index, queue's tables, builder of results, ledger; a made-up engine."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from io import BytesIO
from pathlib import Path
from typing import Any, cast

import pytest
from pydicom import Dataset, dcmread

from configs.peers import Peer
from configs.routes import Route
from configs.settings import DeliverySettings, DimseSettings, QuietSettings
from dicom_node.demo.pacs import PacsStandIn
from dicom_node.worker.analyse import analyse, infer
from dicom_node.worker.counts import ArchiveCounts
from dicom_node.worker.deliver import deliver
from dicom_node.worker.keeping import SetMaker
from dicom_node.worker.parts import CourierParts, WorkerParts
from dicom_node.worker.watch import CourierWatch, Tick
from inference.findings import Findings
from inference.results.forms import Form
from inference.results.text import report_text
from inference.transcode import pixel_digest
from storage.announcements import Announcements
from storage.blobs import LocalBlobs
from storage.corrections import Corrections
from storage.database import Database
from storage.decisions import decisions_of
from storage.deliveries import Deliveries
from storage.findings_store import FindingsStore
from storage.index import Index
from storage.intake import Intake
from storage.job_book import JobBook
from storage.jobs import Queue, prepare_queue
from storage.peer_classes import PeerClasses
from storage.prior_book import PriorBook
from storage.records import (
    DeliveryState,
    InstanceRole,
    JobState,
    Kept,
    Origin,
    OriginKind,
    Outcome,
    StudyState,
    VariantState,
)
from storage.results import ResultBook
from storage.urgency import Pauses, Priorities
from storage.variants import Variants
from tests.builders.ct import encode, make_ct_instance, make_ct_series, uid
from tests.builders.findings import NODE, engine, lungs
from tests.builders.paper_evidence import Immediately
from tests.builders.studies import make_peer, make_route

STUDY = uid(1)
CT1 = Origin(OriginKind.DIMSE, peer="ct1", calling_ae_title="CT1", called_ae_title="DICOMNODE", host="127.0.0.1")


def chest(first: int, last: int, **overrides: Any) -> list[Dataset]:
    """Make the slices of one series from `first` to `last`, large enough for outlines."""
    plane = {"Rows": 64, "Columns": 64, "PixelData": bytes(64 * 64 * 2)}
    return [make_ct_instance(number, **{**plane, **overrides}) for number in range(first, last + 1)]


class BlobEngine:
    """Finds the same blobs in whatever it is given."""

    description = engine()

    def __init__(self) -> None:
        self.asked = 0

    def analyse(self, volume: Any) -> Findings:
        self.asked += 1
        return lungs(volume.array.shape)


class Node:
    """A node of real parts whose clock is turned by hand."""

    def __init__(self, database: Database, blobs: LocalBlobs, routes: Sequence[Route], pacs_folder: Path) -> None:
        self.database, self.blobs, self.peers = database, blobs, dict[str, Peer]()
        self.queue = Queue(database)
        self.intake = Intake(database, blobs, reserve_bytes=0, clock=lambda: self.at)
        self.index = Index(database)
        self.jobs = JobBook(database)
        self.deliveries = Deliveries(database, self.queue)
        self.results = ResultBook(database)
        self.variants = Variants(database)
        self.engine = BlobEngine()
        self.at = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
        self.pacs_folder = pacs_folder
        self.answers: list[int] = []
        self.announced: list[str] = []
        self.archive: dict[str, int] = {}
        self.courier = CourierParts(
            database=database,
            queue=self.queue,
            index=self.index,
            blobs=blobs,
            deliveries=self.deliveries,
            classes=PeerClasses(database),
            make_set=self.make_set,
            variants=self.variants,
            corrections=Corrections(database, blobs),
            announcements=Announcements(database),
            peers=self.peers,
            routes=routes,
            counts=ArchiveCounts(self.peers, self.count, cast(Any, Immediately()), lambda: self.at),
            pauses=Pauses(database),
            priorities=Priorities(database),
            priors=PriorBook(database),
            engines={"classical-lung"},
            quiet=QuietSettings(),
            delivery=DeliverySettings(),
            dimse=DimseSettings(),
            now=lambda: self.at,
            digest_pixels=pixel_digest,
        )
        self.worker = WorkerParts(
            index=self.index,
            blobs=blobs,
            intake=self.intake,
            job_book=self.jobs,
            findings=FindingsStore(database, blobs),
            results=self.results,
            deliveries=self.deliveries,
            engines={"classical-lung": self.engine},
            peers=self.peers,
            identity=NODE,
            timezone="UTC",
            now=lambda: self.at,
            refused_by=PeerClasses(database).refused_by,
        )
        self.watch = CourierWatch(self.courier)

    def count(self, _peer: Peer, _uid: str) -> dict[str, int]:
        """Stand in for an archive that is asked how many images it has."""
        return self.archive

    def make_set(self, run_key: str, form: Form) -> Sequence[tuple[str, str]]:
        return SetMaker(self.worker)(run_key, form)

    def later(self, seconds: float) -> None:
        self.at += timedelta(seconds=seconds)

    def send(self, datasets: Sequence[Dataset], origin: Origin = CT1) -> list[Kept]:
        """Let a modality send, one instance each 10 ms."""
        kept = []
        for dataset in datasets:
            self.later(0.01)
            kept.append(self.intake.receive(BytesIO(encode(dataset)), origin))
        return kept

    def tick(self) -> Tick:
        return self.watch.tick(self.at)

    def work(self) -> list[str]:
        """Do what the engine queue would do."""
        queued = self.jobs.jobs([JobState.QUEUED, JobState.RUNNING])
        for job in queued:
            analyse(job.job_id, self.worker)
        return [job.job_id for job in queued]

    def hand_over(self) -> None:
        """Do what the delivery queue would do."""
        for delivery in self.deliveries.by_state([DeliveryState.WAITING]):
            deliver(delivery.delivery_id, delivery.attempts + 1, self.courier)

    def hear(self, said: dict[str, Any]) -> None:
        """Note what the PACS stand-in took, in order."""
        if said.get("status") == "0x0000":
            self.announced.append(said["received"])

    def answer(self, _header: Dataset) -> int:
        """Tell the PACS stand-in what to answer: what the test laid down, then success."""
        return self.answers.pop(0) if self.answers else self.answer_to(_header)

    def answer_to(self, _header: Dataset) -> int:
        return 0x0000

    @property
    def received(self) -> list[Dataset]:
        """What the PACS took, in order; an object that it was sent twice stands twice."""
        return [dcmread(self.pacs_folder / name) for name in self.announced]

    def close(self) -> None:
        self.intake.close()
        self.queue.close()


@pytest.fixture
def node(database: Database, blobs: LocalBlobs, tmp_path: Path) -> Iterator[Node]:
    """A node whose only peer, `ct1`, is a PACS stand-in that takes results back."""
    prepare_queue(database.url)
    route = make_route({"all": [{"Modality": "CT"}, {"not": {"ImageType": {"has": "LOCALIZER"}}}]})
    made = Node(database, blobs, [route], tmp_path / "pacs")
    with PacsStandIn(made.pacs_folder, "CT1", announce=made.hear, answer=made.answer) as pacs:
        made.peers["ct1"] = make_peer(host="127.0.0.1", port=pacs.port, deliver={"by": "dimse"}, settle_s=7)
        yield made
    made.close()


def results_of(node: Node) -> list[tuple[str, int, bool]]:
    return [(result.kind, result.revision, result.current) for result in node.results.of_study(STUDY)]


def test_a_study_becomes_delivered_results_with_every_step_explained(node: Node) -> None:
    node.send(chest(1, 12))
    node.later(4.9)
    assert node.tick() == Tick()
    node.later(0.1)
    assert node.tick() == Tick(decided=1)
    assert node.index.study(STUDY).state is StudyState.ANALYSING
    assert len(node.work()) == 1
    node.hand_over()
    study = node.index.study(STUDY)
    assert study.state is StudyState.ANSWERED
    assert "2 results kept, delivery to ct1 asked for." in study.reason
    assert [str(received.Modality) for received in node.received] == ["SEG", "SR"]
    assert {str(received.PatientName) for received in node.received} == {"Test^Quiet"}
    (delivery,) = node.deliveries.of_study(STUDY)
    assert (delivery.state, delivery.reason) == (DeliveryState.DELIVERED, "ct1 accepted SEG and SR.")
    assert delivery.next_attempt_at == study.last_instance_at + timedelta(seconds=7)
    (decision,) = decisions_of(node.database, STUDY)
    assert (decision.evidence, decision.routes[0].reason) == ("quiet", "Matches 1 of 1 series.")


def test_a_full_destination_is_tried_again_and_gets_each_object_once(node: Node) -> None:
    node.send(chest(1, 12))
    node.later(5)
    node.tick()
    node.work()
    node.answers = [0xA700, 0x0000, 0xA701]
    for attempts in (1, 2, 3):
        node.hand_over()
        (delivery,) = node.deliveries.of_study(STUDY)
        assert delivery.attempts == attempts
    assert delivery.state is DeliveryState.DELIVERED
    assert [str(received.Modality) for received in node.received] == ["SEG", "SR"]


def test_a_destination_that_does_not_understand_is_given_up_with_its_status(node: Node) -> None:
    node.send(chest(1, 12))
    node.later(5)
    node.tick()
    node.work()
    node.answers = [0x0124]
    node.hand_over()
    node.hand_over()
    (delivery,) = node.deliveries.of_study(STUDY)
    assert (delivery.state, delivery.attempts) == (DeliveryState.FAILED, 1)
    assert delivery.reason == "ct1 did not take the SEG: 0x0124 not authorised. Trying again would not help."
    assert [(item.state.value, item.status) for item in delivery.items] == [("refused", 0x0124), ("waiting", None)]
    assert node.received == []


def test_a_destination_without_seg_gets_pictures_and_a_report_that_names_no_seg_and_the_next_study_goes_so_at_once(
    node: Node,
) -> None:
    seg = "1.2.840.10008.5.1.4.1.1.66.4"
    node.answer_to = lambda header: 0x0122 if header.SOPClassUID == seg else 0x0000  # type: ignore[method-assign]
    node.send(chest(1, 12))
    node.later(5)
    node.tick()
    node.work()
    node.hand_over()
    node.hand_over()
    (delivery,) = node.deliveries.of_study(STUDY)
    assert delivery.state is DeliveryState.DELIVERED
    assert delivery.reason == "ct1 accepted CAPTURE and SR. It does not accept SEG."
    assert [str(received.Modality) for received in node.received] == ["OT", "SR"]
    assert seg not in {
        str(item.ReferencedSOPClassUID)
        for study in node.received[1].CurrentRequestedProcedureEvidenceSequence
        for series in study.ReferencedSeriesSequence
        for item in series.ReferencedSOPSequence
    }
    node.send(chest(13, 14))
    node.later(10)
    node.tick()
    node.work()
    node.hand_over()
    latest = node.deliveries.of_study(STUDY)[-1]
    assert (latest.form, latest.state, latest.attempts) == (
        "capture+comprehensive-3d",
        DeliveryState.DELIVERED,
        1,
    )


# The library leaves the socket of a refused connection to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_destination_that_is_away_is_tried_again(node: Node) -> None:
    node.send(chest(1, 12))
    node.later(5)
    node.tick()
    node.work()
    there = node.peers["ct1"]
    node.peers["ct1"] = make_peer(host="127.0.0.1", port=1, deliver={"by": "dimse"})
    node.hand_over()
    (delivery,) = node.deliveries.of_study(STUDY)
    assert delivery.state is DeliveryState.WAITING
    assert "cannot be reached" in delivery.reason
    node.peers["ct1"] = there
    node.hand_over()
    assert len(node.received) == 2


def test_results_that_the_pacs_forwards_back_ten_times_lead_to_nothing_new(node: Node) -> None:
    node.send(chest(1, 12))
    node.later(5)
    node.tick()
    node.work()
    node.hand_over()
    before = results_of(node)
    for _ in range(10):
        outcomes = {kept.outcome for kept in node.send([*node.received, *chest(1, 12)])}
        assert outcomes == {Outcome.ALREADY_KEPT}
        node.later(6)
        assert node.tick() == Tick()
        assert node.work() == []
    assert results_of(node) == before == [("seg", 1, True), ("sr", 1, True)]


def test_late_images_lead_to_one_current_result_set_linked_to_the_earlier_one(node: Node) -> None:
    node.send(chest(1, 12))
    node.later(5)
    node.tick()
    node.work()
    node.hand_over()
    node.send(chest(13, 15))
    assert node.index.study(STUDY).state is StudyState.GATHERING
    node.later(5)
    assert node.tick() == Tick(decided=1)
    node.work()
    node.hand_over()
    assert results_of(node) == [("seg", 1, False), ("sr", 1, False), ("seg", 2, True), ("sr", 2, True)]
    report = node.received[-1]
    assert "3 images arrived later" in report_text(report)
    before = report.PredecessorDocumentsSequence[0].ReferencedSeriesSequence[0].ReferencedSOPSequence[0]
    assert before.ReferencedSOPInstanceUID == node.received[1].SOPInstanceUID
    assert report.SeriesInstanceUID == node.received[1].SeriesInstanceUID
    assert node.engine.asked == 2


def test_a_worker_that_dies_after_inference_asks_the_engine_no_second_time(node: Node) -> None:
    node.send(chest(1, 12))
    node.later(5)
    node.tick()
    (job,) = node.jobs.jobs_of(STUDY)
    infer(job.job_id, node.worker)
    node.later(60)
    node.work()
    assert node.engine.asked == 1
    assert results_of(node) == [("seg", 1, True), ("sr", 1, True)]


def test_a_late_revision_supersedes_what_had_not_gone_out(node: Node) -> None:
    node.send(chest(1, 12))
    node.later(5)
    node.tick()
    node.work()
    node.send(chest(13, 13))
    node.later(5)
    node.tick()
    node.work()
    node.hand_over()
    assert [delivery.state for delivery in node.deliveries.of_study(STUDY)] == [
        DeliveryState.SUPERSEDED,
        DeliveryState.DELIVERED,
    ]
    assert len(node.received) == 2


def test_a_series_with_a_gap_leaves_a_kept_refusal_that_goes_nowhere(node: Node) -> None:
    node.send([instance for instance in chest(1, 12) if instance.InstanceNumber != 6])
    node.later(5)
    node.tick()
    node.work()
    node.hand_over()
    study = node.index.study(STUDY)
    assert study.state is StudyState.DECLINED
    assert "Not analysed: " in study.reason
    assert node.engine.asked == 0
    assert results_of(node) == [("sr", 1, True)]
    assert node.received == []


def test_an_unmatched_study_says_why(node: Node) -> None:
    node.send(make_ct_series(3, Modality="MR"))
    node.later(5)
    node.tick()
    study = node.index.study(STUDY)
    assert (study.state, study.reason) == (
        StudyState.UNMATCHED,
        "No rule matched. chest-ct: Modality is MR, the rule asks for CT.",
    )


def test_images_of_two_patients_are_set_apart_without_a_job(node: Node) -> None:
    node.send([*make_ct_series(3), make_ct_instance(4, PatientID="TEST-2")])
    node.later(5)
    node.tick()
    assert node.index.study(STUDY).state is StudyState.QUARANTINED
    assert node.jobs.jobs_of(STUDY) == []


def test_results_without_a_destination_are_kept_and_say_so(node: Node) -> None:
    node.peers["ct1"] = make_peer()
    node.send(chest(1, 12))
    node.later(5)
    node.tick()
    node.work()
    study = node.index.study(STUDY)
    assert study.state is StudyState.ANSWERED
    assert 'Kept here only: peer "ct1" has no deliver. Add one: dicom-node peers' in study.reason


@dataclass(frozen=True)
class Change:
    """How a second copy of an instance differs, and what that comes to."""

    attributes: dict[str, Any]
    state: VariantState


@pytest.mark.parametrize(
    "change",
    [
        Change({"InstitutionName": "Test Hospital"}, VariantState.NOTED),
        Change({"PatientID": "TEST-2"}, VariantState.HELD),
        Change({"PixelData": bytes(512)}, VariantState.CONFLICT),
    ],
)
def test_other_bytes_under_a_kept_uid_are_classed_and_the_first_stays(node: Node, change: Change) -> None:
    (first,) = node.send([make_ct_instance(1)])
    (second,) = node.send([make_ct_instance(1, **change.attributes)])
    assert second.outcome is Outcome.SET_ASIDE
    assert node.tick() == Tick(classed=1)
    (variant,) = node.variants.of(first.sop_instance_uid)
    assert variant.state is change.state
    assert node.index.instance(first.sop_instance_uid).path == first.path
    assert node.index.instance(first.sop_instance_uid).role is InstanceRole.INPUT
    assert node.tick() == Tick()


def test_a_job_that_a_later_decision_replaced_is_over(node: Node) -> None:
    node.send(chest(1, 12))
    node.later(5)
    node.tick()
    (job,) = node.jobs.jobs_of(STUDY)
    node.send(chest(13, 13))
    node.later(5)
    node.tick()
    analyse(job.job_id, node.worker)
    assert [one.state for one in node.jobs.jobs_of(STUDY)] == [JobState.SUPERSEDED, JobState.QUEUED]
    assert node.engine.asked == 0
    assert replace(job, state=JobState.SUPERSEDED).job_id.endswith(":1:classical-lung")


def test_a_destination_gets_every_form_that_it_asks_for_and_only_the_canonical_one_is_listed(node: Node) -> None:
    words = ["sr", "seg", "text", "capture", "summary", "pdf"]
    port = node.peers["ct1"].port
    node.peers["ct1"] = make_peer(
        host="127.0.0.1", port=port, deliver={"send": words, "report": "enhanced"}, settle_s=0
    )
    node.send(chest(1, 12))
    node.later(5)
    node.tick()
    node.work()
    node.hand_over()
    received = {str(each.SOPClassUID.name) for each in node.received}
    assert received == {
        "Segmentation Storage",
        "Enhanced SR Storage",
        "Basic Text SR Storage",
        "Multi-frame True Color Secondary Capture Image Storage",
        "Secondary Capture Image Storage",
        "Encapsulated PDF Storage",
    }
    assert {delivery.state for delivery in node.deliveries.of_study(STUDY)} == {DeliveryState.DELIVERED}
    assert len(node.deliveries.of_study(STUDY)) == 5
    canonical = [result for result in node.results.of_study(STUDY) if result.form == "binary+comprehensive-3d"]
    assert [result.kind for result in canonical] == ["seg", "sr"]


def test_a_destination_that_takes_reports_alone_gets_one_that_names_no_segmentation(node: Node) -> None:
    port = node.peers["ct1"].port
    node.peers["ct1"] = make_peer(host="127.0.0.1", port=port, deliver={"send": ["sr"]}, settle_s=0)
    node.send(chest(1, 12))
    node.later(5)
    node.tick()
    node.work()
    node.hand_over()
    (report,) = node.received
    series = report.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence
    classes = {str(item.ReferencedSOPClassUID) for each in series for item in each.ReferencedSOPSequence}
    assert classes == {"1.2.840.10008.5.1.4.1.1.2"}


def test_required_series_are_taken_as_soon_as_they_are_whole_and_results_leave_at_once(node: Node) -> None:
    wanted = [{"when": {"Modality": "CT"}, "images": 10}]
    node.courier = replace(node.courier, routes=[make_route({"Modality": "CT"}, requires=wanted)])
    node.watch = CourierWatch(node.courier)
    node.send([*chest(1, 8), *chest(10, 12)])
    node.later(0.5)
    assert node.tick() == Tick()  # 11 images, and the ninth is missing
    node.send(chest(9, 9))
    node.later(0.5)
    assert node.tick() == Tick(decided=1)
    (decision,) = decisions_of(node.database, STUDY)
    assert decision.evidence == "required series"
    assert decision.jobs[0].settle_until < node.at
    node.work()
    node.hand_over()
    assert len(node.received) == 2


def test_an_archive_with_the_same_images_lets_a_study_be_taken_early(node: Node) -> None:
    node.peers["pacs"] = make_peer(ae_title="PACS", port=104, archive=True, accept=["store"], ask=["counts"])
    node.archive = {uid(1, 1): 12}
    node.send(chest(1, 12))
    for _ in range(11):
        node.later(0.2)
        assert node.tick() == Tick()
    node.later(0.4)
    assert node.tick() == Tick(decided=1)
    (decision,) = decisions_of(node.database, STUDY)
    assert decision.evidence == "counts"


def test_a_sender_that_was_late_once_is_waited_for_longer_the_next_time(node: Node) -> None:
    node.send(chest(1, 12))
    node.later(5)
    assert node.tick() == Tick(decided=1)
    node.later(3)
    node.send(chest(13, 13))  # 8 s after the twelfth
    node.later(5)
    assert node.tick() == Tick(decided=1)
    node.later(60)
    node.send([make_ct_instance(number, study=2) for number in range(1, 13)])
    node.later(11)
    assert node.tick() == Tick()
    node.later(2)
    assert node.tick() == Tick(decided=1)
