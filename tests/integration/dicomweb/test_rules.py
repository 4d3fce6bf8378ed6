"""The rules as the API and the console show and try them."""

from __future__ import annotations

from tests.builders.ct import make_ct_instance, uid
from tests.builders.web import PaperWeb
from tests.integration.dicomweb.conftest import MakeWeb

ROUTES = [
    {"name": "thin", "engine": "classical-lung", "when": {"SliceThickness": {"max": 1}}},
    {"name": "chest", "engine": "classical-lung", "when": {"Modality": "CT"}, "priority": "high"},
]


def receive_two(web: PaperWeb) -> None:
    for number in (1, 2):
        web.receive(make_ct_instance(number))


def test_a_kept_study_is_tried_without_any_effect(make_web: MakeWeb) -> None:
    web = make_web(routes=ROUTES)
    receive_two(web)
    before = web.client().get(f"/api/studies/{uid(1)}").json()
    tried = web.client().get(f"/api/studies/{uid(1)}/rules").json()
    assert [(rule["rule"], rule["matched"]) for rule in tried["rules"]] == [("thin", False), ("chest", True)]
    assert tried["rules"][0]["series"][0]["reason"] == "SliceThickness is 2.5, the rule asks for at most 1."
    assert tried["rules"][1]["follows"] == ("classical-lung reads series 1. Results are kept here only. Urgency: high.")
    assert web.client().get(f"/api/studies/{uid(1)}").json() == before
    assert web.client().get("/api/studies/1.2.3/rules").status_code == 404


def test_the_console_shows_which_term_failed_and_why(make_web: MakeWeb) -> None:
    web = make_web(routes=ROUTES)
    receive_two(web)
    assert f'href="/console/studies/{uid(1)}/rules"' in web.client().get(f"/console/studies/{uid(1)}").text
    page = web.client().get(f"/console/studies/{uid(1)}/rules").text
    assert "SliceThickness is 2.5, the rule asks for at most 1." in page
    assert '<span class="chip good">matches</span>' in page
    assert "classical-lung reads series 1." in page


def test_images_of_two_patients_are_told_beforehand(make_web: MakeWeb) -> None:
    web = make_web(routes=ROUTES)
    web.receive(make_ct_instance(1))
    web.receive(make_ct_instance(2, PatientID="TEST-2"))
    tried = web.client().get(f"/api/studies/{uid(1)}/rules").json()
    assert tried["quarantine"].startswith("Set apart: its images differ in Patient ID.")


def test_a_changed_file_counts_and_a_bad_one_is_shown_and_not_taken(make_web: MakeWeb) -> None:
    web = make_web(routes=ROUTES)
    client = web.client()
    web.routes_file.write_text("routes: [{name: new, engine: medversa}]")
    web.monotonic += 2
    said = client.get("/api/rules").json()
    assert ([route["name"] for route in said["routes"]], said["refused_file"]) == (["new"], "")
    web.routes_file.write_text("routes: [{name: worse, engine: nosuch}]")
    web.monotonic += 2
    said = client.get("/api/rules").json()
    assert [route["name"] for route in said["routes"]] == ["new"]
    assert said["refused_file"].startswith("routes.yaml: routes[0].engine: unknown engine")
    assert "the former rules stay: routes.yaml: routes[0].engine: unknown engine" in client.get("/console/system").text
