"""What senders and callers may put in: markup, line breaks, paths, odd hosts. Nothing of it does anything."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from httpx import Client

from storage.associations import Associations
from storage.audit import Audit
from storage.findings_store import FindingsStore
from tests.builders.ct import make_ct_instance, uid
from tests.builders.web import PaperWeb
from tests.builders.work import put_findings, results_of

SCRIPT = "<script>alert(1)</script>"
IMAGE = '"><img src=x onerror=alert(1)>'
CRLF = "Test\r\nX-Injected: yes"
HOSTILE_UIDS = [
    "%2e%2e",
    "..%2f..%2fetc%2fpasswd",
    "1.2%00",
    "1.2%0d%0aX-Injected:%20yes",
    SCRIPT,
    "1" * 5000,
    "*",
]


@pytest.fixture
def hostile(web: PaperWeb) -> PaperWeb:
    """A study whose every free text is hostile."""
    web.receive(
        make_ct_instance(
            PatientName=f"Test^{SCRIPT}",
            PatientID=IMAGE,
            StudyDescription=f"{SCRIPT}{IMAGE}",
            SeriesDescription=CRLF,
            AccessionNumber=IMAGE,
            Modality="CT",
        )
    )
    return web


def test_markup_in_dicom_text_is_shown_as_text(hostile: PaperWeb) -> None:
    client = hostile.client()
    for path in ("/console", f"/console/studies/{uid(1)}"):
        page = client.get(path)
        assert page.status_code == 200
        assert "&lt;script&gt;alert(1)" in page.text
        assert SCRIPT not in page.text
        assert "<img src=x" not in page.text
        assert "script-src" not in page.headers["content-security-policy"]
        assert "default-src 'none'" in page.headers["content-security-policy"]


def test_markup_in_a_report_is_shown_as_text(hostile: PaperWeb) -> None:
    findings = put_findings(FindingsStore(hostile.database, hostile.blobs), uid(1), "a1b2c3d4e5f6")
    report = replace(results_of(findings)[1], study_instance_uid=uid(1))
    hostile.parts.results.reserve([report])
    hostile.readings.texts[report.sop_instance_uid] = f"Finding: {SCRIPT}"
    page = hostile.client().get(f"/console/studies/{uid(1)}")
    assert "Finding: &lt;script&gt;" in page.text
    assert SCRIPT not in page.text
    plain = hostile.client().get(f"/api/studies/{uid(1)}/report.txt")
    assert plain.headers["content-type"].startswith("text/plain")
    assert plain.headers["x-content-type-options"] == "nosniff"


def test_markup_in_what_a_refused_caller_says_of_itself_is_shown_as_text(web: PaperWeb) -> None:
    Associations(web.database).refused("<b>X</b>", "<i>Y</i>", "10.1.2.3", f"Refused {SCRIPT}", web.time)
    page = web.client().get("/console/peers")
    assert "Refused &lt;script&gt;" in page.text
    assert SCRIPT not in page.text


def test_values_go_into_json_as_they_are_and_into_no_header(hostile: PaperWeb) -> None:
    answer = hostile.client().get("/dicom-web/studies", params={"includefield": "all"})
    assert answer.headers["content-type"] == "application/dicom+json"
    (row,) = answer.json()
    assert row["00081030"]["Value"] == [f"{SCRIPT}{IMAGE}"]
    series = hostile.client().get(f"/dicom-web/studies/{uid(1)}/series")
    assert series.json()[0]["0008103E"]["Value"] == [CRLF]
    assert "x-injected" not in series.headers


@pytest.mark.parametrize("bad", HOSTILE_UIDS)
def test_a_hostile_uid_in_a_path_names_nothing(hostile: PaperWeb, bad: str) -> None:
    client = hostile.client()
    paths = [
        f"/dicom-web/studies/{bad}",
        f"/dicom-web/studies/{bad}/metadata",
        f"/dicom-web/studies/{uid(1)}/series/{bad}",
        f"/dicom-web/studies/{uid(1)}/series/{uid(1, 1)}/instances/{bad}",
        f"/dicom-web/studies/{uid(1)}/series/{uid(1, 1)}/instances/{bad}/frames/1",
        f"/api/studies/{bad}/results",
        f"/api/studies/{uid(1)}/results/{bad}/overlay/axial.png",
        f"/console/studies/{bad}",
    ]
    for path in paths:
        answer = client.get(path)
        assert answer.status_code in (303, 307, 400, 404), path
        assert "x-injected" not in answer.headers
        assert SCRIPT not in answer.text


@pytest.mark.parametrize(
    "query",
    [
        {SCRIPT: "1"},
        {"PatientID.PatientID": "1"},
        {"limit": "-1"},
        {"limit": "1e9"},
        {"limit": "9" * 30},
        {"offset": "x"},
        {"StudyDate": "2026-01-01"},
        {"PatientName": "a\x00"},
        {"StudyInstanceUID": "'; drop table studies; --"},
        {"includefield": SCRIPT},
        {"fuzzymatching": "true", "NoSuchKeyword": "x"},
    ],
)
def test_a_query_that_cannot_be_meant_is_a_bad_request_that_quotes_nothing(
    hostile: PaperWeb, query: dict[str, str]
) -> None:
    answer = hostile.client().get("/dicom-web/studies", params=query)
    assert answer.status_code == 400
    assert answer.headers["content-type"] == "application/problem+json"
    assert set(answer.json()) == {"status", "title", "detail"}
    assert SCRIPT not in answer.text
    assert "drop table" not in answer.text


def test_a_query_with_sql_and_wildcards_of_the_database_matches_literally(hostile: PaperWeb) -> None:
    client = hostile.client()
    for value in ("%", "_", "x' OR '1'='1", '" OR ""="'):
        assert client.get("/dicom-web/studies", params={"PatientName": value}).json() == []


@pytest.mark.parametrize("host", ["evil.example", 'a"><script>', "a\tb", "a b", "a/../b", "a@b", ""])
def test_a_host_that_is_none_of_ours_makes_no_url(make_web: Callable[..., PaperWeb], host: str) -> None:
    web = make_web(auth={"local": "closed"})
    web.receive(make_ct_instance())
    client = web.client(key=web.key("reader", "read"))
    answer = client.get("/dicom-web/studies", headers={"Host": host})
    if host == "evil.example":
        # It is a host: a caller with a key is told the address that it used, and nobody else is.
        assert answer.json()[0]["00081190"]["Value"] == [f"http://evil.example/dicom-web/studies/{uid(1)}"]
    else:
        assert answer.status_code == 400


def test_an_error_of_ours_says_no_more_than_its_number(web: PaperWeb, client: Client) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("Test^Quiet has a secret")

    web.parts.index.search = broken  # type: ignore[method-assign]
    answer = client.get("/dicom-web/studies")
    assert answer.status_code == 500
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "Quiet" not in answer.text
    assert "incident" in answer.json()["detail"]


def test_looks_at_a_study_are_told_to_the_auditor_once(hostile: PaperWeb) -> None:
    client = hostile.client(key=hostile.key("viewer", "read", "console"))
    for _ in range(3):
        client.get(f"/dicom-web/studies/{uid(1)}/metadata")
        client.get(f"/console/studies/{uid(1)}")
    told = [(event.actor, event.detail) for event in Audit(hostile.database).events(study_instance_uid=uid(1))]
    assert sorted(told) == [("viewer", "DICOMweb"), ("viewer", "console")]
