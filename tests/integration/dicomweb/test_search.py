"""QIDO-RS over HTTP: parameters as viewers and scripts send them. Source: PS3.18 8.3.4, 10.6.

What matches is tested with the index (`tests/unit/storage/test_search.py`).
"""

from __future__ import annotations

from xml.etree import ElementTree

import pytest
from httpx import Client
from pydicom import Dataset

from tests.builders.ct import make_ct_instance, uid
from tests.builders.parts import parts_of
from tests.builders.web import PaperWeb

STUDIES = "/dicom-web/studies"


@pytest.fixture
def three(web: PaperWeb) -> Client:
    """Somebody who asks a node with three studies of three days."""
    item = Dataset()
    item.ScheduledProcedureStepID = "SPS1"
    web.receive(
        make_ct_instance(
            study=1, PatientName="Quiet^Anna", StudyDate="20260101", StudyTime="0910", AccessionNumber="A,1",
            RequestAttributesSequence=[item],
        )
    )  # fmt: skip
    web.receive(
        make_ct_instance(study=2, PatientName="Müller^Jörg", StudyDate="20260102", StudyTime="0959", PatientID="A B+C")
    )
    web.receive(make_ct_instance(study=3, PatientName="Zorn^Änne", StudyDate="20260103", Modality="MR"))
    web.receive(make_ct_instance(2, study=3, series=2))
    return web.client()


def found(client: Client, query: str) -> list[int]:
    answer = client.get(f"{STUDIES}?{query}")
    assert answer.status_code == 200, answer.text
    return [int(row["0020000D"]["Value"][0].rsplit(".", 1)[1]) for row in answer.json()]


def test_10_6_each_level_and_relation_is_there(three: Client) -> None:
    for path, count in (
        (STUDIES, 3), ("/dicom-web/series", 4), ("/dicom-web/instances", 4), (f"{STUDIES}/{uid(3)}/series", 2),
        (f"{STUDIES}/{uid(3)}/instances", 2), (f"{STUDIES}/{uid(3)}/series/{uid(3, 2)}/instances", 1),
        (f"{STUDIES}/{uid(9)}/series", 0),
    ):  # fmt: skip
        answer = three.get(path)
        assert answer.status_code == 200
        assert answer.headers["content-type"] == "application/dicom+json"
        assert len(answer.json()) == count


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("PatientName=quiet*", [1]),
        ("PatientName=M%C3%BCller%5EJ%C3%B6rg", [2]),
        ("PatientName=muller^jorg", [2]),
        ("00100010=*anne", [3]),
        ("PatientName=zor?^*", [3]),
        ("PatientName=zor%3F%5E*", [3]),
        ("PatientID=A+B%2BC", [2]),
        ("PatientID=A%20B%2BC", [2]),
        ("StudyDate=20260102-", [3, 2]),
        ("StudyDate=20260101-20260102", [2, 1]),
        ("ModalitiesInStudy=MR", [3]),
        ("00080061=MR", [3]),
        (f"StudyInstanceUID={uid(1)},{uid(2)}", [2, 1]),
        (f"0020000D={uid(1)}%5C{uid(2)}", [2, 1]),
        (f"StudyInstanceUID={uid(1)}%2C{uid(2)}", [2, 1]),
        ("StudyDate=20260101,20260103", [3, 1]),
        ("StudyDate=20260101%2C20260103", [3, 1]),
        ("StudyDate=20260101%5C20260102-20260103", [3, 2, 1]),
        ("StudyDate=20260101-20260102&StudyTime=0915-1000", [2]),
        ("ModalitiesInStudy=CT,MR", [3, 2, 1]),
        ("ModalitiesInStudy=MR%5CUS", [3]),
        ("NumberOfStudyRelatedInstances=2,7", [3]),
        ("PatientName=quiet*%5CZorn%5E*", [3, 1]),
        # A comma is a letter of text.
        ("AccessionNumber=A,1", [1]),
        ("AccessionNumber=B%2C1%5CA%2C1", [1]),
        # A key that is given twice holds twice.
        ("PatientName=quiet*&PatientName=*anna", [1]),
        ("PatientName=quiet*&PatientName=zorn*", []),
        ("charset=utf-8", [3, 2, 1]),
        ("charset=iso-8859-1,utf-8;q=0.5&PatientName=m%C3%BCller*", [2]),
        ("fuzzymatching=true&PatientName=ann", [3, 1]),
        ("fuzzymatching=false&PatientName=ann", []),
        ("PatientName=", [3, 2, 1]),
        ("limit=2", [3, 2]),
        ("limit=2&offset=2", [1]),
        ("limit=0", []),
        ("offset=99", []),
        ("orderby=StudyDate", [1, 2, 3]),
        ("orderby=PatientName", [2, 1, 3]),
        ("orderby=-PatientName", [3, 1, 2]),
        ("orderby=-NumberOfStudyRelatedInstances,StudyDate", [3, 1, 2]),
        # A viewer's list, its filter, its study, and its prior studies, in its own words.
        ("limit=101&offset=0&fuzzymatching=true&includefield=00081030%2C00080060%2C00080090%2C00100030", [3, 2, 1]),
        ("limit=101&offset=0&fuzzymatching=true&includefield=00081030&PatientName=*quiet*", [1]),
        (f"limit=101&offset=0&fuzzymatching=true&includefield=00081030%2C00080060&StudyInstanceUID={uid(2)}", [2]),
        ("00100020=A%20B%2BC&limit=101&offset=0&fuzzymatching=true", [2]),
    ],
)
def test_8_3_4_queries_are_read_as_they_are_meant(three: Client, query: str, expected: list[int]) -> None:
    assert found(three, query) == expected


def test_8_3_4_3_included_fields_may_be_named_in_every_way(three: Client) -> None:
    described = ["00081030"]
    for query in (
        "includefield=00081030%2C00080061", "includefield=00081030,00080061", "includefield=StudyDescription",
        "includefield=PatientAge&includefield=00081030", "includefield=all", "includefield=%20StudyDescription%20",
    ):  # fmt: skip
        rows = three.get(f"{STUDIES}?{query}").json()
        assert [name for name in rows[0] if name in described] == described, query
    assert "00081030" not in three.get(STUDIES).json()[0]
    for dotted in (
        "includefield=RequestAttributesSequence.ScheduledProcedureStepID",
        "includefield=StudyDescription%2C00400275.00400009",
        "includefield=StudyDescription&includefield=00400275.ScheduledProcedureStepID,SeriesDescription",
    ):
        (row,) = three.get(f"{STUDIES}/{uid(1)}/series?{dotted}").json()
        assert row["00400275"]["Value"][0]["00400009"]["Value"] == ["SPS1"]


def test_8_3_4_1_an_attribute_within_a_sequence_is_named_with_dots(three: Client) -> None:
    for name in (
        *("RequestAttributesSequence.ScheduledProcedureStepID", "00400275.00400009"),
        *("RequestAttributesSequence.00400009", "00400275.ScheduledProcedureStepID"),
    ):
        assert len(three.get(f"/dicom-web/series?{name}=SPS1").json()) == 1
        assert three.get(f"/dicom-web/series?{name}=SPS2").json() == []


def test_10_6_3_every_match_says_where_it_is_retrieved(three: Client) -> None:
    for path in (STUDIES, "/dicom-web/series", "/dicom-web/instances", f"{STUDIES}/{uid(3)}/instances"):
        for row in three.get(path).json():
            (url,) = row["00081190"]["Value"]
            assert url.startswith("http://127.0.0.1:8080/dicom-web/studies/")
            assert three.get(url).status_code == 200


def test_8_3_4_4_an_answer_that_is_not_all_says_so(three: Client) -> None:
    assert three.get(f"{STUDIES}?limit=2").headers["warning"].startswith("299 ")
    assert "warning" not in three.get(f"{STUDIES}?limit=3").headers
    unmatched = three.get(f"{STUDIES}?PatientComments=x")
    assert unmatched.headers["warning"] == '299 dicom-node "Not matched, as not indexed: PatientComments."'


def test_8_7_matches_come_in_xml_on_request(three: Client) -> None:
    answer = three.get(f"{STUDIES}?limit=2", headers={"Accept": 'multipart/related; type="application/dicom+xml"'})
    parts = parts_of(answer)
    assert len(parts) == 2
    assert ElementTree.fromstring(parts[0].content).tag.endswith("NativeDicomModel")  # noqa: S314 (it is ours)
    assert answer.headers["warning"].startswith("299 ")
    nothing = three.get(f"{STUDIES}?PatientID=none", headers={"Accept": "application/dicom+xml"})
    assert nothing.status_code == 204
    assert three.get(f"{STUDIES}?accept=application/json").headers["content-type"] == "application/json"
    for asked in ("application/dicom%2Bxml", "application/dicom+xml", "multipart/related;type=application/dicom+xml"):
        in_query = three.get(f"{STUDIES}?accept={asked}", headers={"Accept": "application/dicom+json"})
        assert len(parts_of(in_query)) == 3
    unknown = three.get(f"{STUDIES}?charset=iso-8859-1")
    assert (unknown.status_code, unknown.json()["detail"]) == (406, "Answers are in UTF-8.")
    assert three.get(STUDIES, headers={"Accept": "text/html"}).status_code == 406


@pytest.mark.parametrize(
    "query", ["orderby=PatientComments", "orderby=SeriesNumber", "orderby=x", "fuzzymatching=maybe", "includefield=x"]
)
def test_what_is_no_query_is_a_bad_request(three: Client, query: str) -> None:
    assert three.get(f"{STUDIES}?{query}").status_code == 400


def test_an_unindexed_value_orders_last(web: PaperWeb) -> None:
    for number, series_number in ((1, 5), (2, None), (3, 1)):
        web.receive(make_ct_instance(series=number, SeriesNumber=series_number))
    for order, expected in (("SeriesNumber", [3, 1, 2]), ("-SeriesNumber", [1, 3, 2])):
        rows = web.client().get(f"/dicom-web/series?orderby={order}").json()
        assert [int(row["0020000E"]["Value"][0].rsplit(".", 1)[1]) for row in rows] == expected


def test_a_search_is_in_the_audit_trail_once_for_each_look_and_without_what_was_searched_for(
    web: PaperWeb, client: Client
) -> None:
    for _ in range(3):
        assert client.get("/dicom-web/studies?PatientName=Test*").status_code == 200
    client.get(f"/dicom-web/studies/{uid(1)}/series")
    said = [(event.actor, event.study_instance_uid, event.detail) for event in web.audit.events()]
    assert said == [("local", uid(1), "search for series"), ("local", None, "search for studies")]
