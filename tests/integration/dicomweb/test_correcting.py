"""Corrections and retractions over HTTP: by whom they may be made, what they change, and that they are audited."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from pydicom import dcmread

from storage.audit import AuditAction
from storage.findings_store import FindingsStore
from storage.records import ResultState, VariantState
from storage.results import ResultBook
from storage.retractions import Retractions
from storage.variants import Variants
from tests.builders.ct import make_ct_instance, uid
from tests.builders.web import ADMIN_KEY, PaperWeb
from tests.builders.work import put_findings, results_of

STUDY = f"/api/studies/{uid(1)}"


@pytest.fixture
def web(make_web: Callable[..., PaperWeb]) -> PaperWeb:
    web = make_web()
    for number in (1, 2, 3):
        web.receive(make_ct_instance(number))
    return web


def test_a_study_gets_another_patient_in_every_image(web: PaperWeb) -> None:
    client = web.client(key=ADMIN_KEY)
    values = {"PatientID": "TEST-9", "PatientName": "Test^Found"}
    assert client.post(f"{STUDY}/identity", json={"values": values}).json() == {"instances": 3}
    for instance in web.index.inputs_of(uid(1)):
        with web.blobs.open(instance.path) as file:
            image = dcmread(file)
        assert (image.PatientID, str(image.PatientName)) == ("TEST-9", "Test^Found")
        assert image.PixelData == make_ct_instance(int(image.InstanceNumber)).PixelData
    assert client.get(STUDY).json()["patient_id"] == "TEST-9"
    assert client.post(f"{STUDY}/identity", json={"values": values}).json() == {"instances": 0}
    (event, _) = [each for each in web.audit.events() if each.action is AuditAction.OPERATE]
    assert event.detail == "identity corrected: PatientID, PatientName"


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"SOPInstanceUID": "1.2"},
        {"PatientID": "x" * 65},
        {"PatientID": "a\\b"},
        {"PatientBirthDate": "1.1.1970"},
    ],
)
def test_what_cannot_be_changed_changes_nothing(web: PaperWeb, values: dict[str, str]) -> None:
    answer = web.client(key=ADMIN_KEY).post(f"{STUDY}/identity", json={"values": values})
    assert answer.status_code == 409
    assert Variants(web.database).of(uid(1, 1, 1)) == []


def test_letters_that_the_images_cannot_hold_are_refused_rather_than_replaced(web: PaperWeb) -> None:
    client = web.client(key=ADMIN_KEY)
    web.receive(make_ct_instance(4, SpecificCharacterSet="ISO_IR 100"))
    name = {"PatientName": "Test^\u5c71\u7530"}
    answer = client.post(f"{STUDY}/identity", json={"values": name})
    assert (answer.status_code, Variants(web.database).of(uid(1, 1, 1))) == (409, [])
    assert client.post(f"{STUDY}/identity", json={"values": {"PatientName": "Test^Quiet"}}).status_code == 200


def test_corrections_that_wait_are_shown_and_made_or_refused(web: PaperWeb) -> None:
    client, variants = web.client(key=ADMIN_KEY), Variants(web.database)
    for patient in ("TEST-2", "TEST-3"):
        web.receive(make_ct_instance(1, PatientID=patient))
        for variant in variants.unclassed(limit=10):
            variants.classed(variant, VariantState.HELD, "another Patient ID", web.now())
        (held,) = client.get(f"{STUDY}/corrections").json()["held"]
        assert (held["sop_instance_uid"], held["reason"]) == (uid(1, 1, 1), "another Patient ID")
        verb = "apply" if patient == "TEST-2" else "refuse"
        assert client.post(f"{STUDY}/corrections/{verb}").json() == {"corrections": 1, "notes": 0}
        assert client.get(f"{STUDY}/corrections").json()["held"] == []
    assert web.index.study(uid(1)).patient_id == "TEST-2"


def test_results_are_taken_back_with_a_reason_of_the_standard(web: PaperWeb) -> None:
    results = results_of(put_findings(FindingsStore(web.database, web.blobs), uid(1), "key1"))
    ResultBook(web.database).reserve(results)
    client = web.client(key=ADMIN_KEY)
    assert client.post(f"{STUDY}/retract", json={"title": "1", "said": "Wrong."}).status_code == 400
    assert client.post(f"{STUDY}/retract", json={"title": "113037", "said": "Wrong."}).json() == {"runs": 1}
    assert {each.state for each in ResultBook(web.database).of_run("key1")} == {ResultState.RETRACTED}
    assert [each.title for each in Retractions(web.database).pending()] == ["113037"]
    assert client.get(f"{STUDY}/corrections").json()["retractions"][0]["said"] == "Wrong."
    assert web.audit.events(limit=1)[0].action is AuditAction.RETRACT
