"""Results taken back: at once here, and by a note to everybody who got them."""

from __future__ import annotations

import pytest
from pydicom import dcmread
from sqlalchemy import update

from dicom_node.worker.aftermath import Aftermath
from dicom_node.worker.analyse import infer, publish
from dicom_node.worker.reproduce import rebuild
from dicom_node.worker.retract import judge, tell
from storage.blobs import LocalBlobs
from storage.database import Database
from storage.deletion import Deletion, Named
from storage.errors import ForbiddenTransition, Inapplicable, Undeletable
from storage.jobs import Queue
from storage.ledger_report import account
from storage.matching import Level, Query
from storage.records import DeliveryRecord, DeliveryState, JobState, ResultState
from storage.rejections import Rejections
from storage.retractions import Retraction, note_change
from storage.tables import instances
from tests.builders.real_node import STUDY, RealNode, slices

QUALITY, WRONG_ENTRY = "113001", "113038"


@pytest.fixture
def node(database: Database, queue: Queue, blobs: LocalBlobs) -> RealNode:
    made = RealNode(database, blobs, queue)
    made.send(slices())
    return made


def take_back(node: RealNode, run_key: str, by: str = "admin") -> None:
    said = "The images were of another patient."
    assert node.retractions.ask(Retraction(run_key, STUDY, WRONG_ENTRY, said, by, node.later()))
    assert Aftermath(node.worker, node.retractions, Rejections(node.database)).tick()


def notes(node: RealNode) -> list[DeliveryRecord]:
    return [each for each in node.deliveries.of_study(STUDY) if each.form.startswith("rejection-")]


def test_who_got_results_gets_a_note_that_names_exactly_those(node: RealNode) -> None:
    run_key = node.analyse("pacs", "archive")
    node.deliver(to="pacs")
    take_back(node, run_key)

    (note,) = notes(node)
    assert (note.destination, note.state, [item.kind for item in note.items]) == (
        "pacs",
        DeliveryState.WAITING,
        ["key-objects"],
    )
    with node.blobs.open(node.index.instance(note.items[0].sop_instance_uid).path) as file:
        selection = dcmread(file)
    evidence = selection.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence
    named = {str(one.ReferencedSOPInstanceUID) for series in evidence for one in series.ReferencedSOPSequence}
    sent = {item.sop_instance_uid for each in node.deliveries.of_study(STUDY) for item in each.items}
    assert named == sent - {note.items[0].sop_instance_uid}
    assert selection.ConceptNameCodeSequence[0].CodeValue == WRONG_ENTRY
    assert selection.PatientID == "TEST-1"


def test_a_study_that_is_deleted_has_its_results_taken_back_from_who_got_them_first(node: RealNode) -> None:
    node.analyse("pacs", "archive")
    node.deliver(to="pacs")
    node.deliver(to="archive", accept=False)
    deletion = Deletion(node.database, node.blobs, node.queue)
    aftermath = Aftermath(node.worker, node.retractions, Rejections(node.database))
    node.deliveries.ask_again(  # a delivery that failed stands in the way until somebody has decided on it
        next(each.delivery_id for each in node.deliveries.of_study(STUDY) if each.destination == "archive"),
        "again",
        node.later(),
    )
    node.deliver(to="archive")
    with pytest.raises(Undeletable, match="went to archive, pacs: they are taken back first"):
        deletion.delete(Named(STUDY), by="admin", at=node.later())
    with pytest.raises(Undeletable, match="Try again once the notes are delivered"):
        deletion.delete(Named(STUDY), by="admin", at=node.later())
    assert aftermath.tick()
    assert sorted(each.destination for each in notes(node)) == ["archive", "pacs"]
    with pytest.raises(Undeletable, match="not delivered to"):
        deletion.delete(Named(STUDY), by="admin", at=node.later())
    node.deliver(to="pacs")
    node.deliver(to="archive", accept=False)  # takes no notes: a person was told, and the study may go
    kept = len(node.index.instances_of(STUDY))
    assert deletion.delete(Named(STUDY), by="admin", at=node.later()) == kept
    assert node.index.studies() == []
    assert account(node.database, node.blobs, node.later(), queue=node.queue).unexplained == ()


def test_what_has_not_gone_out_is_withdrawn_and_stays_so(node: RealNode) -> None:
    run_key = node.analyse("pacs", "archive")
    node.deliver(to="pacs")
    take_back(node, run_key)

    (archive,) = [each for each in node.deliveries.of_study(STUDY) if each.destination == "archive"]
    assert archive.state is DeliveryState.WITHDRAWN
    assert node.deliveries.begin(archive.delivery_id, 1, node.later()) is None
    with pytest.raises(ForbiddenTransition):
        node.deliveries.ask_again(archive.delivery_id, "by hand", node.later())


def test_a_note_is_not_reproduced_from_findings_and_that_is_said(node: RealNode) -> None:
    run_key = node.analyse("pacs")
    node.deliver(to="pacs")
    take_back(node, run_key)
    (note,) = notes(node)
    with pytest.raises(Inapplicable, match="Reproduce what it names"):
        rebuild(note.items[0].sop_instance_uid, node.worker)


def test_an_attempt_in_hand_ends_before_the_note_is_made(node: RealNode) -> None:
    run_key = node.analyse("pacs")
    (delivery,) = node.deliveries.of_study(STUDY)
    node.deliveries.begin(delivery.delivery_id, 1, node.later())
    node.retractions.ask(Retraction(run_key, STUDY, QUALITY, "Motion.", "admin", node.later()))
    assert node.retractions.pending() == []

    node.deliveries.retry(delivery.delivery_id, "aborted", node.at, node.at, 1)
    assert node.deliveries.delivery(delivery.delivery_id).state is DeliveryState.WITHDRAWN
    (pending,) = node.retractions.pending()
    tell(pending, node.worker, node.retractions)
    assert [each.destination for each in notes(node)] == ["pacs"]  # it may have taken something before it aborted


def test_a_peer_that_rejected_the_results_is_not_told(node: RealNode) -> None:
    run_key = node.analyse("pacs", "archive")
    node.deliver()
    take_back(node, run_key, by="pacs")
    assert [each.destination for each in notes(node)] == ["archive"]


def test_told_twice_after_a_kill_there_is_one_note(node: RealNode) -> None:
    run_key = node.analyse("pacs")
    node.deliver()
    take_back(node, run_key)
    (retraction,) = node.retractions.of_study(STUDY)
    tell(retraction, node.worker, node.retractions)
    assert len(notes(node)) == 1
    assert node.retractions.pending() == []
    assert not node.retractions.ask(retraction)


def test_retracted_results_are_no_longer_listed_nor_current(node: RealNode) -> None:
    run_key = node.analyse("pacs")
    node.deliver()
    before = node.index.instances_matching(Query({}, limit=100))
    take_back(node, run_key)
    after = node.index.instances_matching(Query({}, limit=100))
    assert len(before) - len(after) == 2
    assert len(node.index.search(Level.SERIES, Query({}, limit=10)).rows) == 1
    assert {each.state for each in node.results.of_run(run_key) if each.kind != "key-objects"} == {
        ResultState.RETRACTED
    }
    assert not any(each.current for each in node.results.of_study(STUDY))
    assert account(node.database, node.blobs, node.later(), queue=node.queue).unexplained == ()


def test_a_later_revision_neither_stops_the_note_nor_is_superseded_by_it(node: RealNode) -> None:
    first = node.analyse("pacs")
    node.deliver()
    take_back(node, first)
    node.send(slices(13)[12:])
    second = node.analyse("pacs")
    assert second != first
    assert [each.state for each in notes(node)] == [DeliveryState.WAITING]
    assert {each.run_key for each in node.results.of_study(STUDY) if each.current} == {second}
    node.deliver()
    assert [each.state for each in notes(node)] == [DeliveryState.DELIVERED]


def test_a_job_whose_images_changed_meanwhile_publishes_nothing(node: RealNode) -> None:
    job_id = node.decide("pacs")
    infer(job_id, node.worker)
    with node.database.write() as connection:
        connection.execute(update(instances).values(sha256="0" * 64))
    publish(job_id, node.worker)
    assert node.jobs.job(job_id).state is JobState.SUPERSEDED
    assert node.results.of_study(STUDY) == []


def test_only_runs_that_read_a_changed_image_are_taken_back(node: RealNode) -> None:
    first = node.analyse("pacs")
    node.send(slices(13)[12:])
    second = node.analyse("pacs")
    last = slices(13)[12].SOPInstanceUID
    with node.database.write() as connection:
        connection.execute(update(instances).where(instances.c.sop_instance_uid == last).values(sha256="0" * 64))
        note_change(connection, STUDY, WRONG_ENTRY, "It was corrected.", by="ct1", at=node.later())
    (change,) = node.retractions.changes()
    assert judge(change, node.worker, node.retractions)
    assert node.retractions.changes() == []
    assert [each.run_key for each in node.retractions.of_study(STUDY)] == [second]
    assert node.retractions.run_keys_of(STUDY) == [first]


def test_a_change_waits_for_a_job_that_may_read_the_former_image(node: RealNode) -> None:
    job_id = node.decide("pacs")
    node.jobs.begin(job_id, node.later())
    with node.database.write() as connection:
        note_change(connection, STUDY, WRONG_ENTRY, "It was corrected.", by="ct1", at=node.later())
    (change,) = node.retractions.changes()
    assert not judge(change, node.worker, node.retractions)
    assert node.retractions.changes() == [change]
