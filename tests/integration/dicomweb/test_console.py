"""What the operator's pages show."""

from __future__ import annotations

from dataclasses import replace

import pytest
from httpx import Client

from dicomweb.console.pages import _date, _person
from storage.associations import Associations
from storage.findings_store import FindingsStore
from tests.builders.ct import make_ct_instance, uid
from tests.builders.web import ADMIN_KEY, PaperWeb
from tests.builders.work import put_findings, results_of


def test_an_empty_node_says_how_to_send_a_first_study(client: Client) -> None:
    page = client.get("/console").text
    assert "Nothing was received yet" in page
    assert "storescu -R +sd -aec DICOMNODE 127.0.0.1 11112" in page


def test_the_list_shows_each_study_with_state_and_time(web: PaperWeb, client: Client) -> None:
    web.receive(make_ct_instance(PatientName="Quiet^Test=山田^太郎"))
    page = client.get("/console").text
    assert "Quiet, Test (山田, 太郎)" in page
    assert '<span class="chip busy">gathering</span>' in page
    assert "2026-11-24 12:00:00 UTC" in page
    assert f'href="/console/studies/{uid(1)}"' in page
    assert client.get("/console?state=gathering").text.count("chip busy") == 3
    assert "No study here" in client.get("/console?state=failed").text


def test_a_study_shows_its_way_its_results_and_its_pictures(web: PaperWeb, client: Client) -> None:
    web.receive(make_ct_instance())
    findings = put_findings(FindingsStore(web.database, web.blobs), uid(1), "a1b2c3d4e5f6")
    web.parts.results.reserve(results_of(findings))
    seg, sr = results_of(findings)
    page = client.get(f"/console/studies/{uid(1)}").text
    assert "first image arrived" in page
    for plane in ("axial", "coronal", "sagittal"):
        assert f"/api/studies/{uid(1)}/results/{seg.sop_instance_uid}/overlay/{plane}.png" in page
    assert "REPORT" in page
    assert sr.sop_instance_uid in page
    assert "classical image analysis, not AI; research use" in page


def test_a_replaced_result_has_no_picture_and_says_so(web: PaperWeb, client: Client) -> None:
    web.receive(make_ct_instance())
    store = FindingsStore(web.database, web.blobs)
    for key in ("a1b2c3d4e5f6", "b1b2c3d4e5f6"):
        web.parts.results.reserve(results_of(put_findings(store, uid(1), key)))
    page = client.get(f"/console/studies/{uid(1)}").text
    assert page.count("<figure>") == 3
    assert page.count(">replaced<") == 2


def test_an_overlay_is_given_for_a_kept_segmentation_alone(web: PaperWeb, client: Client) -> None:
    web.receive(make_ct_instance(1))
    web.receive(make_ct_instance(2, series=2, SOPClassUID="1.2.840.10008.5.1.4.1.1.66.4", Modality="SEG"))
    seg = client.get(f"/api/studies/{uid(1)}/results/{uid(1, 2, 2)}/overlay/coronal.png")
    assert seg.headers["content-type"] == "image/png"
    assert seg.content == b"\x89PNG coronal"
    for path in (
        f"/api/studies/{uid(1)}/results/{uid(1, 1, 1)}/overlay/axial.png",
        f"/api/studies/{uid(2)}/results/{uid(1, 2, 2)}/overlay/axial.png",
    ):
        assert client.get(path).status_code == 404
    assert client.get(f"/api/studies/{uid(1)}/results/{uid(1, 2, 2)}/overlay/oblique.png").status_code == 400


def test_results_come_with_what_they_were_made_of_and_where_they_went(web: PaperWeb, client: Client) -> None:
    web.receive(make_ct_instance())
    findings = put_findings(FindingsStore(web.database, web.blobs), uid(1), "a1b2c3d4e5f6")
    web.parts.results.reserve([replace(each, refusal=False) for each in results_of(findings)])
    said = client.get(f"/api/studies/{uid(1)}/results").json()
    assert said["schema"] == "results/1"
    assert said["study_instance_uid"] == uid(1)
    (run,) = said["results"]
    assert run["summary"].startswith("RESEARCH USE")
    assert [each["kind"] for each in run["objects"]] == ["seg", "sr"]
    assert run["delivery"] == []
    assert client.get(f"/api/studies/{uid(1)}/report.txt").text == "REPORT"
    assert client.get(f"/api/studies/{uid(2)}/report.txt").status_code == 404


def test_every_page_is_there(web: PaperWeb) -> None:
    Associations(web.database).refused("PACS1", "DICOMNODE", "10.1.2.3", "Refused PACS1 at 10.1.2.3", web.time)
    client = web.client(key=ADMIN_KEY)
    for path, said in (
        ("/console/peers", "Refused PACS1 at 10.1.2.3"),
        ("/console/ledger", "0 unexplained"),
        ("/console/system", "classical-lung"),
        ("/docs", "/dicom-web/studies"),
        ("/console/login", "dicom-node keys show-admin"),
        ("/console/style.css", "--ink"),
    ):
        answer = client.get(path)
        assert answer.status_code == 200
        assert said in answer.text
        assert "http://" not in answer.text.replace("http://127.0.0.1:8080", "")
    assert "Log out" in client.get("/console").text
    assert "Log out" not in web.client().get("/console").text
    assert client.get("/").headers["location"] == "/console"
    assert client.get("/openapi.json").json()["info"]["title"] == "dicom-node"


@pytest.mark.parametrize(
    ("name", "shown"),
    [("", "-"), ("Quiet", "Quiet"), ("Quiet^Test^^Dr^", "Quiet, Test, Dr"), ("=山田^太郎", "山田, 太郎")],
)
def test_a_person_is_shown_as_people_write_it(name: str, shown: str) -> None:
    assert _person(name) == shown


def test_a_date_is_shown_as_people_write_it() -> None:
    assert [_date(value) for value in ("20261124", "", "2026")] == ["2026-11-24", "", "2026"]
