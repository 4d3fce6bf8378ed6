"""Corrected and rejected images: what is current, what counts, and what becomes of results made from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from io import BytesIO
from typing import Any

import pytest
from pydicom import Dataset, dcmread
from pydicom.uid import generate_uid
from sqlalchemy import update

from dicom_node.routing.identity import differing
from dicom_node.worker.aftermath import Aftermath
from inference.results.key_objects import Rejection, make_key_objects
from storage.blobs import LocalBlobs
from storage.corrections import Corrections
from storage.database import Database
from storage.deletion import Deletion, Named
from storage.errors import Inapplicable, NotKept
from storage.jobs import Queue
from storage.json_store import JsonStore
from storage.ledger_report import account
from storage.matching import Key, Level, Query
from storage.records import (
    DeliveryState,
    InstanceRole,
    InstanceState,
    NoteState,
    Outcome,
    ResultState,
    StudyState,
    VariantRecord,
    VariantState,
)
from storage.rejections import TITLES, Rejections
from storage.tables import instances
from storage.variants import Variants
from tests.builders.ct import encode, make_ct_instance, uid
from tests.builders.findings import NODE, make_run
from tests.builders.real_node import CT1, STUDY, RealNode, slices
from tests.builders.studies import make_peer

PACS = replace(CT1, peer="pacs", calling_ae_title="PACS")


@pytest.fixture
def node(database: Database, queue: Queue, blobs: LocalBlobs) -> RealNode:
    made = RealNode(database, blobs, queue)
    made.send(slices())
    return made


@pytest.fixture
def corrections(node: RealNode) -> Corrections:
    return Corrections(node.database, node.blobs)


def corrected(node: RealNode, count: int = 12, **identity: Any) -> list[VariantRecord]:
    """Send images again with another identity, and class them as corrections that wait."""
    node.later()
    node.send(slices(count, **identity))
    variants = Variants(node.database)
    for variant in variants.unclassed(limit=100):
        variants.classed(variant, VariantState.HELD, "a correction", node.at)
    return Corrections(node.database, node.blobs).held(STUDY)


def aftermath(node: RealNode) -> None:
    turn = Aftermath(node.worker, node.retractions, Rejections(node.database))
    for _ in range(3):
        turn.tick()


def reject(node: RealNode, objects: Sequence[Dataset], why: Rejection = Rejection.QUALITY, origin: Any = CT1) -> str:
    """Have a peer send a rejection note; give its UID."""
    run = make_run(objects)
    note = make_key_objects(objects, why.value, "Motion.", run, NODE, "rejection")
    for keyword in ("PatientID", "PatientName", "StudyInstanceUID", "StudyDate", "StudyTime", "AccessionNumber"):
        setattr(note, keyword, objects[0].get(keyword, ""))
    note.SOPInstanceUID = generate_uid()
    node.intake.receive(BytesIO(encode(note)), origin)
    aftermath(node)
    return str(note.SOPInstanceUID)


def results_kept(node: RealNode) -> list[Dataset]:
    found = []
    for result in node.results.of_study(STUDY):
        if result.kind != "key-objects":
            with node.blobs.open(node.index.instance(result.sop_instance_uid).path) as file:
                found.append(dcmread(file, stop_before_pixels=True))
    return found


def test_an_applied_correction_is_current_and_the_first_is_still_there(
    node: RealNode, corrections: Corrections
) -> None:
    before = {one.sop_instance_uid: one for one in node.index.inputs_of(STUDY)}
    for variant in corrected(node, PatientID="TEST-2", PatientName="Test^Right"):
        corrections.apply(variant, by="admin", at=node.later())

    for one in node.index.inputs_of(STUDY):
        with node.blobs.open(one.path) as file:
            assert dcmread(file, stop_before_pixels=True).PatientID == "TEST-2"
        (former,) = Variants(node.database).of(one.sop_instance_uid)
        first = before[one.sop_instance_uid]
        assert (former.state, former.sha256, former.path) == (VariantState.REPLACED, first.sha256, first.path)
        assert node.blobs.exists(former.path)
    study = node.index.study(STUDY)
    assert (study.patient_id, study.patient_name, study.number_of_inputs) == ("TEST-2", "Test^Right", 12)
    assert account(node.database, node.blobs, node.later(), queue=node.queue).unexplained == ()


def test_sent_again_the_corrected_image_is_known_and_the_first_one_changes_nothing(
    node: RealNode, corrections: Corrections
) -> None:
    for variant in corrected(node, PatientID="TEST-2"):
        corrections.apply(variant, by="admin", at=node.later())
    assert {kept.outcome for kept in node.send(slices(PatientID="TEST-2"))} == {Outcome.ALREADY_KEPT}
    assert {kept.outcome for kept in node.send(slices())} == {Outcome.SET_ASIDE}
    assert node.index.study(STUDY).patient_id == "TEST-2"
    assert Variants(node.database).unclassed(limit=10) == []


def test_a_correction_is_taken_back_by_applying_the_first_again(node: RealNode, corrections: Corrections) -> None:
    (variant,) = corrected(node, 1, PatientID="TEST-2")
    corrections.apply(variant, by="admin", at=node.later())
    (former,) = Variants(node.database).of(variant.sop_instance_uid)
    corrections.apply(former, by="admin", at=node.later())
    assert node.index.study(STUDY).patient_id == "TEST-1"
    with pytest.raises(NotKept):
        corrections.apply(former, by="admin", at=node.later())


def test_a_corrected_study_is_decided_anew_and_old_results_are_taken_back_where_they_went(
    node: RealNode, corrections: Corrections
) -> None:
    first = node.analyse("pacs")
    node.deliver()
    for variant in corrected(node, PatientID="TEST-2", PatientName="Test^Right"):
        corrections.apply(variant, by="admin", at=node.later())
    assert node.index.study(STUDY).state is StudyState.GATHERING
    aftermath(node)
    assert {each.state for each in node.results.of_run(first) if each.kind != "key-objects"} == {ResultState.RETRACTED}

    second = node.analyse("pacs")
    node.deliver()
    assert second != first
    whose = {(str(each.PatientID), each.SOPInstanceUID in current(node)) for each in results_kept(node)}
    assert whose == {("TEST-1", False), ("TEST-2", True)}
    sent = [(each.run_key, each.items[0].kind) for each in node.deliveries.of_study(STUDY)]
    assert sent == [(first, "seg"), (first, "key-objects"), (second, "seg")]
    assert {each.state for each in node.deliveries.of_study(STUDY)} == {DeliveryState.DELIVERED}
    assert account(node.database, node.blobs, node.later(), queue=node.queue).unexplained == ()


def current(node: RealNode) -> set[str]:
    return {each.sop_instance_uid for each in node.results.of_study(STUDY) if each.current}


def test_a_study_half_corrected_is_of_two_patients_and_heals_with_the_other_half(
    node: RealNode, corrections: Corrections
) -> None:
    variants = corrected(node, PatientID="TEST-2")
    for variant in variants[:6]:
        corrections.apply(variant, by="ct1", at=node.later())
    assert differing(node.index.patients_of(STUDY)) == ("Patient ID",)
    for variant in variants[6:]:
        corrections.apply(variant, by="ct1", at=node.later())
    assert differing(node.index.patients_of(STUDY)) == ()


def test_a_correction_into_another_study_is_refused(node: RealNode, corrections: Corrections) -> None:
    (variant,) = corrected(node, 1, StudyInstanceUID="1.2.3.4")
    with pytest.raises(Inapplicable, match="SOP Instance UID of its own"):
        corrections.apply(variant, by="admin", at=node.later())
    assert corrections.held(STUDY) == [variant]


def test_a_refused_correction_waits_no_longer(node: RealNode, corrections: Corrections) -> None:
    (variant,) = corrected(node, 1, PatientID="TEST-2")
    corrections.refuse(variant, by="admin", at=node.later())
    assert corrections.held(STUDY) == []
    assert node.index.study(STUDY).patient_id == "TEST-1"


def test_a_study_with_applied_corrections_can_be_deleted_whole(node: RealNode, corrections: Corrections) -> None:
    node.analyse()
    (variant,) = corrected(node, 1, PatientID="TEST-2")
    corrections.apply(variant, by="admin", at=node.later())
    node.analyse()
    Deletion(node.database, node.blobs, node.queue).delete(Named(STUDY), by="admin", at=node.later())
    assert not list(node.blobs.placed("instances/", before=node.later(10**9)))


@pytest.mark.parametrize("why", [Rejection.QUALITY, Rejection.PATIENT_SAFETY, Rejection.WRONG_WORKLIST_ENTRY])
def test_rejected_images_count_no_more_and_what_was_made_from_them_is_taken_back(
    node: RealNode, why: Rejection
) -> None:
    first = node.analyse("pacs")
    node.deliver()
    note = reject(node, slices()[10:], why)

    assert len(node.index.inputs_of(STUDY)) == 10
    excluded = [one for one in node.index.instances_of(STUDY) if one.state is InstanceState.EXCLUDED]
    assert {one.reason for one in excluded} == {f"Rejected by ct1: {TITLES[why.value.value]}."}
    assert node.index.study(STUDY).state is StudyState.GATHERING
    (said,) = Rejections(node.database).of_study(STUDY)
    assert (said.sop_instance_uid, said.state, said.title) == (note, NoteState.APPLIED, why.value.value)
    (retraction,) = node.retractions.of_study(STUDY)
    assert (retraction.run_key, retraction.title) == (first, why.value.value)
    assert node.analyse("pacs") != first
    assert account(node.database, node.blobs, node.later(), queue=node.queue).unexplained == ()


@pytest.mark.parametrize("why", list(Rejection), ids=lambda why: str(why.name).lower())
def test_rejected_images_are_neither_listed_nor_counted_unless_named(node: RealNode, why: Rejection) -> None:
    listed = node.index.instances_matching(Query((), limit=100))
    reject(node, slices()[10:], why)
    left = node.index.instances_matching(Query((), limit=100))
    gone = [str(each.SOPInstanceUID) for each in slices()[10:]]
    note = 1
    assert len(left) == len(listed) - 2 + note
    assert not {each.sop_instance_uid for each in left} & set(gone)
    (study,) = node.index.search(Level.STUDY, Query((), limit=10)).rows
    assert (study["00201206"]["Value"], study["00201208"]["Value"]) == ([2], [11])
    images = str(slices()[0].SeriesInstanceUID)
    in_series = Query((), study_instance_uid=STUDY, series_instance_uid=images, limit=100)
    assert len(node.index.search(Level.INSTANCE, in_series).rows) == 10
    rows = node.index.search(Level.SERIES, Query((), study_instance_uid=STUDY, limit=10)).rows
    assert {row["0020000E"]["Value"][0]: row["00201209"]["Value"][0] for row in rows}[images] == 10
    assert len(JsonStore(node.database).of(STUDY, images)) == 10
    named = Query((Key((0x00080018,), gone[0]),), study_instance_uid=STUDY, limit=10)
    assert [each.sop_instance_uid for each in node.index.instances_matching(named)] == gone[:1]
    assert len(JsonStore(node.database).of(STUDY, images, gone[0])) == 1


def test_a_series_of_rejected_images_alone_is_not_listed_nor_a_study_of_such(node: RealNode) -> None:
    other = [
        make_ct_instance(number, SeriesInstanceUID=uid(1, 7), SOPInstanceUID=uid(1, 7, number)) for number in (1, 2)
    ]
    node.send(other)
    before = [row["0020000E"]["Value"][0] for row in node.index.search(Level.SERIES, Query((), limit=10)).rows]
    assert uid(1, 7) in before
    reject(node, other)
    after = [row["0020000E"]["Value"][0] for row in node.index.search(Level.SERIES, Query((), limit=10)).rows]
    assert uid(1, 7) not in after
    (study,) = node.index.search(Level.STUDY, Query((), limit=10)).rows
    assert study["00201206"]["Value"] == [2]  # the images that stay, and the note
    with node.database.write() as connection:
        connection.execute(update(instances).values(state="excluded", reason="all"))
    assert node.index.search(Level.STUDY, Query((), limit=10)).rows == []
    assert node.index.search_patients(Query((), limit=10)).rows == []
    assert len(node.index.search(Level.STUDY, Query((), study_instance_uid=STUDY, limit=10)).rows) == 1


def test_images_whose_retention_ended_stop_counting_and_their_results_stand(node: RealNode) -> None:
    run_key = node.analyse("pacs")
    reject(node, slices(), Rejection.RETENTION)
    assert node.index.inputs_of(STUDY) == []
    assert node.index.study(STUDY).state is StudyState.ANSWERED
    assert node.retractions.of_study(STUDY) == []
    assert {each.state for each in node.results.of_run(run_key)} == {ResultState.KEPT}


def test_what_comes_after_its_rejection_does_not_count_either(node: RealNode) -> None:
    reject(node, slices(14)[12:])
    node.send(slices(14)[12:])
    aftermath(node)
    assert len(node.index.inputs_of(STUDY)) == 12


def test_a_peer_that_did_not_send_the_images_has_its_note_wait_for_a_person(node: RealNode) -> None:
    note = reject(node, slices()[10:], origin=PACS)
    (held,) = Rejections(node.database).of_study(STUDY)
    assert (held.sop_instance_uid, held.state) == (note, NoteState.HELD)
    assert len(node.index.inputs_of(STUDY)) == 12
    Rejections(node.database).apply(held, by="admin", at=node.later())
    assert len(node.index.inputs_of(STUDY)) == 10


def test_a_peer_whose_corrections_are_accepted_may_reject_what_others_sent(node: RealNode) -> None:
    node.peers["pacs"] = make_peer(corrections="accept")
    reject(node, slices()[10:], origin=PACS)
    assert len(node.index.inputs_of(STUDY)) == 10


def test_a_destination_may_reject_results_that_it_got(node: RealNode) -> None:
    run_key = node.analyse("pacs", "archive")
    node.deliver()
    reject(node, results_kept(node)[:1], origin=PACS)
    (retraction,) = node.retractions.of_study(STUDY)
    assert (retraction.run_key, retraction.asked_by) == (run_key, "pacs")
    notes = [each for each in node.deliveries.of_study(STUDY) if each.items[0].kind == "key-objects"]
    assert [each.destination for each in notes] == ["archive"]


def test_a_selection_that_rejects_nothing_is_noted(node: RealNode) -> None:
    images = slices()[:2]
    selection = make_key_objects(images, Rejection.QUALITY.value, "Look.", make_run(images), NODE, "list")
    selection.PatientID = "TEST-1"
    selection.StudyInstanceUID = STUDY
    selection.ConceptNameCodeSequence[0].CodeValue = "113000"
    node.intake.receive(BytesIO(encode(selection)), CT1)
    aftermath(node)
    (note,) = Rejections(node.database).of_study(STUDY)
    assert (note.state, note.reason) == (NoteState.NOTED, "It rejects nothing.")
    assert len(node.index.inputs_of(STUDY)) == 12


def test_a_note_of_ours_that_a_pacs_sends_back_is_no_note_of_its(node: RealNode) -> None:
    node.analyse("pacs")
    node.deliver()
    reject(node, slices()[10:])
    (ours,) = [each for each in node.results.of_study(STUDY) if each.kind == "key-objects"]
    with node.blobs.open(node.index.instance(ours.sop_instance_uid).path) as file:
        kept = node.intake.receive(BytesIO(file.read()), PACS)
    assert (kept.outcome, kept.role) == (Outcome.ALREADY_KEPT, InstanceRole.RESULT)
    assert len(Rejections(node.database).of_study(STUDY)) == 1
