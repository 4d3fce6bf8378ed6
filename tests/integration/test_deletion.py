"""What is deleted is gone: rows, files, results; what the node is answerable for stays. On both databases."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from io import BytesIO
from pathlib import Path

import pytest
from pydicom import Dataset
from sqlalchemy import func, insert, select, update

from storage import tables
from storage.audit import Audit, AuditAction
from storage.blobs import LocalBlobs
from storage.commitments import Commitments, Reference
from storage.correction_tables import removed_files
from storage.database import Database
from storage.decisions import take
from storage.deletion import Deletion, Named, delete_removed_files
from storage.deliveries import Deliveries
from storage.errors import NotKept, Undeletable
from storage.findings_store import FindingsStore
from storage.index import Index
from storage.intake import Intake
from storage.job_book import JobBook
from storage.jobs import Queue
from storage.json_maker import JsonMaker
from storage.json_store import JsonStore, Made
from storage.ledger_report import account
from storage.reconcile import take_in_orphans
from storage.records import (
    DeliveryState,
    ItemState,
    JobState,
    Kept,
    Origin,
    OriginKind,
    Outcome,
    StudyFilter,
    StudyState,
)
from storage.results import ResultBook
from storage.retractions import Retractions
from storage.turns import TurnState, delivery_turn
from tests.builders.ct import encode, make_ct_instance, make_ct_series, uid
from tests.builders.work import NOON, at, decision, new_job, results_of, transitions_of

FORM = "binary+comprehensive-3d"
OURS = Origin(OriginKind.OURS)
LATER = at(60)
#: What no study has any more when it is gone; what happened is still told.
GONE = (
    *("studies", "series", "instances", "json_pending", "json_segments", "variants", "contributions", "decisions"),
    *("jobs", "findings", "results", "deliveries", "delivery_items", "retractions", "removed_files"),
)


class Node:
    """Storage with studies on their way."""

    def __init__(self, database: Database, queue: Queue, blobs: LocalBlobs, intake: Intake) -> None:
        self.database, self.queue, self.blobs, self.intake = database, queue, blobs, intake
        self.index, self.jobs = Index(database), JobBook(database)
        self.deliveries = Deliveries(database, queue)
        self.findings = FindingsStore(database, blobs)

    def keep(self, dataset: Dataset, origin: Origin | None = None) -> Kept:
        sender = origin or Origin(OriginKind.DIMSE, peer="ct1", calling_ae_title="CT1", association_id="a1")
        return self.intake.receive(BytesIO(encode(dataset)), sender)

    def decide(self, state: StudyState = StudyState.UNMATCHED) -> None:
        study = self.index.study(uid(1))
        jobs = [new_job()] if state is StudyState.ANALYSING else []
        taken = decision(uid(1), *jobs, number=study.decision_number + 1, input_version=study.input_version)
        assert take(self.database, self.queue, taken, to=state, reason="Complete.")

    def answer(self, used: str) -> str:
        """Decide, analyse, keep results, deliver them; give the delivery's id."""
        self.decide(StudyState.ANALYSING)
        job = self.jobs.begin(f"{uid(1)}:1:classical-lung", NOON)
        assert job is not None
        found = self.findings.once(
            "a" * 12,
            study_instance_uid=uid(1),
            engine=job.engine,
            task="default",
            facts={"inputs": {used: "00"}},
            at=NOON,
            make=lambda: b"findings",
        )
        self.jobs.know_runs(job.job_id, [found.run_key])
        records = results_of(found)
        ResultBook(self.database).reserve(records)
        for record in records:
            modality = record.kind.upper()
            self.keep(
                make_ct_instance(
                    SOPInstanceUID=record.sop_instance_uid,
                    SOPClassUID=record.sop_class_uid,
                    SeriesInstanceUID=record.series_instance_uid,
                    Modality=modality,
                ),
                OURS,
            )
        items = [(record.sop_instance_uid, record.kind) for record in records]
        (delivery_id,) = self.deliveries.ask_for(
            job.job_id, found.run_key, FORM, uid(1), items, ["pacs"], not_before=NOON, at=NOON
        )
        self.jobs.finish(job.job_id, JobState.DONE, "2 results kept.", NOON)
        return delivery_id

    def deliver(self, delivery_id: str) -> None:
        begun = self.deliveries.begin(delivery_id, 1, NOON)
        assert begun is not None
        for item in begun.items:
            self.deliveries.item_answered(delivery_id, item.sop_instance_uid, ItemState.ACCEPTED, 0, "", NOON)
        self.deliveries.finish(delivery_id, DeliveryState.DELIVERED, "", NOON)

    def delete(self, *uids: str, visible: StudyFilter | None = None) -> int:
        deletion = Deletion(self.database, self.blobs, self.queue)
        return deletion.delete(Named(*uids), visible=visible or StudyFilter(), by="admin", at=LATER)

    def told(self) -> None:
        """Have a deletion take results back, and those who got them be told."""
        with pytest.raises(Undeletable, match="Results of the study went to pacs: they are taken back first"):
            self.delete(uid(1))
        Retractions(self.database).noted("a" * 12, NOON)

    def count(self, table: str) -> int:
        with self.database.read() as connection:
            return int(connection.execute(select(func.count()).select_from(tables.metadata.tables[table])).scalar_one())

    def unexplained(self) -> tuple[object, ...]:
        return account(self.database, self.blobs, LATER, queue=self.queue).unexplained


@pytest.fixture
def node(database: Database, queue: Queue, blobs: LocalBlobs, intake: Intake) -> Node:
    return Node(database, queue, blobs, intake)


def files(tmp_path: Path) -> list[Path]:
    return [each for each in (tmp_path / "blobs").rglob("*") if each.is_file() and each.name != ".lock"]


def test_a_deleted_study_leaves_nothing_but_what_is_told_of_it(node: Node, tmp_path: Path) -> None:
    for each in make_ct_series(3):
        node.keep(each)
    node.keep(make_ct_instance(1, PatientName="Test^Other"))
    with node.database.write() as connection:
        connection.execute(update(tables.variants).values(state="noted", reason="tidy"))
    node.deliver(node.answer(uid(1, 1, 2)))
    JsonMaker(JsonStore(node.database), node.blobs).turn()
    assert node.count("json_segments") > 0
    node.told()

    assert node.delete(uid(1)) == 5

    assert {table: node.count(table) for table in GONE} == dict.fromkeys(GONE, 0)
    assert files(tmp_path) == []
    assert transitions_of(node.database, uid(1))[-1] == "deleted"
    assert node.count("removed_instances") == 5
    (event,) = Audit(node.database).events(study_instance_uid=uid(1))
    assert (event.action, event.actor, event.detail) == (AuditAction.DELETE, "admin", f"{uid(1)}: 5 instances")
    assert node.unexplained() == ()


def test_a_study_that_comes_again_goes_the_whole_way_again(node: Node) -> None:
    node.keep(make_ct_instance())
    delivery_id = node.answer(uid(1, 1, 1))
    node.deliver(delivery_id)
    node.told()
    node.delete(uid(1))

    assert node.keep(make_ct_instance()).outcome is Outcome.KEPT
    assert node.index.study(uid(1)).state is StudyState.GATHERING
    assert node.answer(uid(1, 1, 1)) == delivery_id
    assert node.queue.states([delivery_turn(delivery_id, 1)])[delivery_turn(delivery_id, 1)] is TurnState.QUEUED
    assert node.deliveries.delivery(delivery_id).state is DeliveryState.WAITING
    assert node.unexplained() == ()


@pytest.mark.parametrize("state", ["gathering", "queued", "waiting", "failed"])
def test_what_is_in_work_or_undelivered_stays(node: Node, state: str) -> None:
    node.keep(make_ct_instance())
    if state == "queued":
        node.decide(StudyState.ANALYSING)
    elif state != "gathering":
        delivery_id = node.answer(uid(1, 1, 1))
        if state == "failed":
            node.deliveries.begin(delivery_id, 1, NOON)
            node.deliveries.finish(delivery_id, DeliveryState.FAILED, "refused", NOON)
    with pytest.raises(Undeletable):
        node.delete(uid(1))
    assert node.index.study(uid(1)).number_of_instances == (1 if state in ("gathering", "queued") else 3)
    assert node.unexplained() == ()


def test_what_the_node_committed_to_stays_alone_and_with_its_study(node: Node) -> None:
    for each in make_ct_series(2):
        node.keep(each)
    node.decide()
    origin = Origin(OriginKind.DIMSE, peer="ct1", calling_ae_title="CT1", association_id="a1")
    named = [Reference(make_ct_instance().SOPClassUID, uid(1, 1, 1))]
    Commitments(node.database, node.blobs).request(origin, "1.2.9", named, at=NOON, report_at=NOON)
    for uids in ((uid(1),), (uid(1), uid(1, 1)), (uid(1), uid(1, 1), uid(1, 1, 1))):
        with pytest.raises(Undeletable, match="committed"):
            node.delete(*uids)
    assert node.delete(uid(1), uid(1, 1), uid(1, 1, 2)) == 1


def test_sources_and_results_go_with_their_study_alone(node: Node) -> None:
    for each in make_ct_series(2):
        node.keep(each)
    node.deliver(node.answer(uid(1, 1, 2)))
    with pytest.raises(Undeletable, match="made from"):
        node.delete(uid(1), uid(1, 1), uid(1, 1, 2))
    (result,) = [each for each in node.index.instances_of(uid(1)) if each.sop_class_uid.endswith("66.4")]
    with pytest.raises(Undeletable, match="Results of this node"):
        node.delete(uid(1), result.series_instance_uid)
    assert node.delete(uid(1), uid(1, 1), uid(1, 1, 1)) == 1
    study = node.index.study(uid(1))
    assert (study.state, study.number_of_inputs, study.number_of_instances) == (StudyState.GATHERING, 1, 3)


def test_what_is_left_of_a_study_is_counted_and_decided_anew(node: Node, tmp_path: Path) -> None:
    for each in (*make_ct_series(2), make_ct_instance(1, series=2, Modality="PT")):
        node.keep(each)
    node.decide()
    JsonMaker(JsonStore(node.database), node.blobs).turn()
    before = node.index.counts().bytes

    assert node.delete(uid(1), uid(1, 2)) == 1

    study = node.index.study(uid(1))
    assert (study.number_of_series, study.number_of_instances, study.number_of_inputs) == (1, 2, 2)
    assert study.modalities == ("CT",)
    assert (study.state, study.gathering_since) == (StudyState.GATHERING, LATER)
    sizes = [each.size for each in node.index.instances_of(uid(1))]
    assert node.index.counts().bytes == sum(sizes) < before
    assert len(files(tmp_path)) == 2
    assert transitions_of(node.database, uid(1, 2, 1))[-1:] == ["deleted"]
    node.decide()
    assert node.delete(uid(1), uid(1, 1), uid(1, 1, 1)) == 1
    kept = JsonStore(node.database).of(uid(1))
    assert [source.sop_instance_uid for source, _ in kept] == [uid(1, 1, 2)]
    assert node.unexplained() == ()


def test_a_study_without_images_holds_documents(node: Node) -> None:
    node.keep(make_ct_instance())
    node.keep(make_ct_instance(1, series=9, SOPClassUID="1.2.840.10008.5.1.4.1.1.88.33", Modality="SR"))
    node.decide()
    node.delete(uid(1), uid(1, 1))
    assert node.index.study(uid(1)).state is StudyState.DOCUMENTS
    assert node.unexplained() == ()
    node.keep(make_ct_instance())
    assert node.index.study(uid(1)).state is StudyState.GATHERING


def test_the_last_instance_takes_its_study_with_it(node: Node) -> None:
    node.keep(make_ct_instance())
    node.decide()
    node.delete(uid(1), uid(1, 1), uid(1, 1, 1))
    with pytest.raises(NotKept):
        node.index.study(uid(1))


@pytest.mark.parametrize("uids", [(uid(2),), (uid(1), uid(2, 1)), (uid(1), uid(1, 1), uid(2, 1, 1))])
def test_what_is_not_there_is_not_deleted(node: Node, uids: tuple[str, ...]) -> None:
    node.keep(make_ct_instance())
    node.decide()
    with pytest.raises(NotKept):
        node.delete(*uids)
    with pytest.raises(NotKept):
        node.delete(uid(1), visible=StudyFilter(frozenset({"mr1"})))
    assert node.count("instances") == 1


def test_files_that_a_kill_left_go_later_and_never_enter_again(
    node: Node, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    node.keep(make_ct_instance())
    node.decide()
    monkeypatch.setattr("storage.deletion.delete_removed_files", lambda *_: 0)
    node.delete(uid(1))
    assert len(files(tmp_path)) == 1

    take_in_orphans(node.database, node.blobs, node.intake, before=NOON + timedelta(days=9000))
    assert node.count("instances") == 0

    assert delete_removed_files(node.database, node.blobs) == 1
    assert files(tmp_path) == []
    assert node.count("removed_files") == 0


def test_a_file_that_is_kept_again_under_its_old_name_stays(node: Node, tmp_path: Path) -> None:
    kept = node.keep(make_ct_instance())
    with node.database.write() as connection:
        connection.execute(insert(removed_files).values(path=kept.path, removed_at=NOON))
    assert delete_removed_files(node.database, node.blobs) == 0
    assert len(files(tmp_path)) == 1


def test_json_that_is_made_while_its_series_goes_is_forgotten(node: Node) -> None:
    node.keep(make_ct_instance())
    node.decide()
    store = JsonStore(node.database)
    (source,) = store.pending(limit=1)
    node.delete(uid(1))
    store.keep(uid(1), uid(1, 1), [Made(source.sop_instance_uid, source.sha256[:16], b"{}")])
    assert node.count("json_segments") == 0


def test_the_same_again_after_a_part_was_deleted_is_an_image_that_came_late(
    node: Node, receive: Callable[..., Kept]
) -> None:
    for each in make_ct_series(2):
        node.keep(each)
    node.decide()
    node.delete(uid(1), uid(1, 1), uid(1, 1, 1))
    node.decide()
    assert receive(make_ct_instance(1)).outcome is Outcome.KEPT
    study = node.index.study(uid(1))
    assert (study.state, study.number_of_inputs) == (StudyState.GATHERING, 2)
