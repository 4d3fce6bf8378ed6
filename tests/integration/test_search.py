"""Attribute matching over the index, on both engines.

Source: PS3.4 C.2.2.2, PS3.18 10.6.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from pydicom import Dataset
from pydicom.sequence import Sequence

from storage.database import Database
from storage.errors import MalformedQuery
from storage.index import Index
from storage.matching import Key, Level, Query, tag_path
from storage.records import Kept, Origin, OriginKind, StudyFilter
from tests.builders.ct import make_ct_instance, uid

Receive = Callable[..., Kept]


@pytest.fixture
def index(database: Database) -> Index:
    return Index(database)


def keys(**values: str) -> tuple[Key, ...]:
    return tuple(Key(tag_path(name.replace("__", ".")), value) for name, value in values.items())


def studies_of(index: Index, *, fuzzy: bool = False, **values: str) -> list[int]:
    """Number of each study that matches, in order of the answer."""
    answer = index.search(Level.STUDY, Query(keys(**values), fuzzy=fuzzy))
    return [int(row["0020000D"]["Value"][0].rsplit(".", 1)[1]) for row in answer.rows]


@pytest.fixture
def three(receive: Receive) -> None:
    """Three studies of three patients."""
    receive(
        make_ct_instance(
            study=1, PatientName="Quiet^Anna", PatientID="A[1]", StudyDate="20260101", StudyTime="080000",
            StudyDescription="CT Chest 50%", ReferringPhysicianName="House^Greg",
        )
    )  # fmt: skip
    receive(
        make_ct_instance(
            study=2, PatientName="Müller^Jörg=Test^Ideo=", PatientID="A_1", StudyDate="20260102", StudyTime="10",
            StudyDescription="ct chest",
        )
    )  # fmt: skip
    receive(
        make_ct_instance(
            study=3, PatientName="Yamada^Tarou=山田^太郎=やまだ^たろう", PatientID="B", StudyDate="20260103",
            StudyTime="235959.5", StudyDescription="MR*Head", Modality="MR",
        )
    )  # fmt: skip
    receive(make_ct_instance(2, study=3, series=2, Modality="SC"))


@pytest.mark.usefixtures("three")
@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({}, [3, 2, 1]),
        ({"PatientID": ""}, [3, 2, 1]),
        ({"PatientID": "*"}, [3, 2, 1]),
        ({"PatientID": "B"}, [3]),
        ({"PatientID": "b"}, []),
        ({"PatientID": "A[1]"}, [1]),
        ({"PatientID": "A[*"}, [1]),
        ({"PatientID": "A_*"}, [2]),
        ({"PatientID": "?"}, [3]),
        ({"PatientID": "B\\A_1"}, [3, 2]),
        ({"StudyDescription": "*50%"}, [1]),
        ({"StudyDescription": "CT*"}, [1]),
        ({"StudyDate": "20260102"}, [2]),
        ({"StudyDate": "20260102-20260103"}, [3, 2]),
        ({"StudyDate": "-20260102"}, [2, 1]),
        ({"StudyDate": "20260103-"}, [3]),
        ({"StudyTime": "080000-1000"}, [2, 1]),
        ({"StudyTime": "1000-"}, [3, 2]),
        ({"StudyTime": "23"}, [3]),
        ({"StudyDate": "20260101-20260102", "StudyTime": "070000-110000"}, [2, 1]),
        ({"StudyDate": "20260101-20260102", "StudyTime": "090000-090000"}, []),
        ({"StudyDate": "20260101-20260103", "StudyTime": "090000-235959"}, [3, 2]),
        ({"ModalitiesInStudy": "SC"}, [3]),
        ({"ModalitiesInStudy": "CT,MR"}, [3, 2, 1]),
        ({"ModalitiesInStudy": "C"}, []),
        ({"ModalitiesInStudy": "S?"}, [3]),
        ({"StudyInstanceUID": f"{uid(1)},{uid(3)}"}, [3, 1]),
        ({"StudyInstanceUID": f"{uid(1)}\\{uid(2)}"}, [2, 1]),
        ({"NumberOfStudyRelatedInstances": "2"}, [3]),
        ({"ReferringPhysicianName": "house^GREG"}, [1]),
    ],
)
def test_a_study_matches_by_each_kind_of_matching(index: Index, values: dict[str, str], expected: list[int]) -> None:
    assert studies_of(index, **values) == expected


@pytest.mark.usefixtures("three")
@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("quiet^anna", [1]),
        ("QUIET^ANNA^^", [1]),
        ("quiet", []),
        ("quiet*", [1]),
        ("*anna*", [1]),
        ("muller*", [2]),
        ("MÜLLER^JORG", [2]),
        ("test^ideo", [2]),
        ("山田*", [3]),
        ("やまだ^たろう", [3]),
        ("yamada^tarou=山田^太郎=やまだ^たろう", [3]),
    ],
)
def test_a_person_matches_in_any_component_group_without_regard_to_case(
    index: Index, name: str, expected: list[int]
) -> None:
    assert studies_of(index, PatientName=name) == expected


@pytest.mark.usefixtures("three")
@pytest.mark.parametrize(
    ("name", "expected"),
    [("ann qui", [1]), ("jorg", [2]), ("*jör*", [2]), ("nna", []), ("*nna*", [1]), ("ann mul", [])],
)
def test_fuzzy_matching_takes_beginnings_of_words_in_any_order(index: Index, name: str, expected: list[int]) -> None:
    assert studies_of(index, fuzzy=True, PatientName=name) == expected


@pytest.mark.parametrize(
    "values",
    [
        {"StudyDate": "yesterday"},
        {"StudyDate": "-"},
        {"StudyDate": "20260101-x"},
        {"StudyTime": "1"},
        {"StudyInstanceUID": "1.2'; drop table studies"},
        {"NumberOfStudyRelatedSeries": "many"},
    ],
)
def test_a_value_that_its_attribute_cannot_have_is_refused(index: Index, values: dict[str, str]) -> None:
    with pytest.raises(MalformedQuery):
        studies_of(index, **values)


@pytest.mark.parametrize("name", ["NoSuchKeyword", "00081", "0008FFFF", "patientname", "PatientName.Nothing"])
def test_a_name_that_is_no_attribute_is_refused(name: str) -> None:
    with pytest.raises(MalformedQuery):
        tag_path(name)


def test_a_name_is_a_keyword_a_tag_or_a_dotted_path() -> None:
    assert tag_path("PatientID") == tag_path("00100020") == (0x00100020,)
    assert tag_path("RequestAttributesSequence.00400009") == (0x00400275, 0x00400009)
    assert tag_path("00091001") == (0x00091001,)


@pytest.mark.usefixtures("three")
def test_an_attribute_that_is_not_indexed_is_named_and_not_matched(index: Index) -> None:
    answer = index.search(Level.STUDY, Query(keys(PatientComments="x", Modality="CT")))
    assert answer.unsupported == ("PatientComments", "Modality")
    assert len(answer.rows) == 3


@pytest.mark.usefixtures("three")
def test_a_study_answer_has_all_required_attributes(index: Index) -> None:
    (row,) = index.search(Level.STUDY, Query(keys(PatientID="B"))).rows
    assert row["00080061"] == {"vr": "CS", "Value": ["MR", "SC"]}
    assert row["00201206"]["Value"] == [2]
    assert row["00201208"]["Value"] == [2]
    assert row["00080056"]["Value"] == ["ONLINE"]
    assert row["00080090"] == {"vr": "PN"}
    assert row["00100010"]["Value"][0]["Ideographic"] == "山田^太郎"
    assert row["00080005"]["Value"] == ["ISO_IR 192"]
    assert "00081030" not in row


def test_included_attributes_are_given_and_all_gives_all(index: Index, receive: Receive) -> None:
    receive(make_ct_instance())
    described = index.search(Level.STUDY, Query(include=frozenset({0x00081030}))).rows[0]
    assert described["00081030"]["Value"] == ["Test chest"]
    assert "00081030" in index.search(Level.STUDY, Query(include_all=True)).rows[0]
    in_series = index.search(Level.SERIES, Query(include=frozenset({0x00081030, 0x00200052}))).rows[0]
    assert in_series["00081030"]["Value"] == ["Test chest"]
    assert in_series["00200052"]["Value"] == [uid(1, 0)]
    assert "00100010" not in in_series


def test_series_and_instances_are_found_below_a_study_and_across_studies(index: Index, receive: Receive) -> None:
    for study, series, number in ((1, 2, 1), (1, 1, 2), (1, 1, 1), (2, 1, 1)):
        receive(make_ct_instance(number, study=study, series=series))
    below = index.search(Level.SERIES, Query(study_instance_uid=uid(1))).rows
    assert [row["0020000E"]["Value"][0] for row in below] == [uid(1, 1), uid(1, 2)]
    assert [row["00201209"]["Value"][0] for row in below] == [2, 1]
    instances = index.search(Level.INSTANCE, Query(study_instance_uid=uid(1), series_instance_uid=uid(1, 1))).rows
    assert [row["00080018"]["Value"][0] for row in instances] == [uid(1, 1, 1), uid(1, 1, 2)]
    assert instances[0]["00280010"]["Value"] == [16]
    everywhere = index.search(Level.INSTANCE, Query(keys(PatientID="TEST-1"), with_parents=True)).rows
    assert len(everywhere) == 4
    assert everywhere[0]["0020000D"]["Value"] == [uid(1)]
    assert everywhere[0]["00080060"]["Value"] == ["CT"]


def test_an_attribute_in_a_sequence_matches_in_any_item(index: Index, receive: Receive) -> None:
    items = Sequence([Dataset(), Dataset()])
    items[0].ScheduledProcedureStepID, items[1].ScheduledProcedureStepID = "SPS1", "SPS2"
    receive(make_ct_instance(1, series=1, RequestAttributesSequence=items, PerformedProcedureStepStartDate="20260105"))
    receive(make_ct_instance(2, series=2))

    def found(**values: str) -> int:
        answer = index.search(Level.SERIES, Query(keys(**values)))
        assert answer.unsupported == ()
        return len(answer.rows)

    assert found(RequestAttributesSequence__ScheduledProcedureStepID="SPS2") == 1
    assert found(RequestAttributesSequence__ScheduledProcedureStepID="SPS*") == 1
    assert found(RequestAttributesSequence__ScheduledProcedureStepID="SPS3") == 0
    assert found(RequestAttributesSequence__ScheduledProcedureStepID="") == 2
    assert found(PerformedProcedureStepStartDate="20260101-20260131") == 1
    assert found(PerformedProcedureStepStartDate="20260106-") == 0


def test_a_page_is_stable_and_says_that_there_is_more(index: Index, receive: Receive) -> None:
    for number in range(1, 6):
        receive(make_ct_instance(study=number))

    def page(offset: int) -> tuple[list[Any], bool]:
        answer = index.search(Level.STUDY, Query(limit=2, offset=offset))
        return [row["0020000D"]["Value"][0] for row in answer.rows], answer.more

    assert page(0) == ([uid(1), uid(2)], True)
    assert page(2) == ([uid(3), uid(4)], True)
    assert page(4) == ([uid(5)], False)
    assert page(9) == ([], False)


def test_a_search_finds_only_what_the_caller_may_see(index: Index, receive: Receive) -> None:
    receive(make_ct_instance(study=1), Origin(OriginKind.DIMSE, peer="ct1"))
    receive(make_ct_instance(study=2), Origin(OriginKind.DIMSE, peer="ct2"))
    visible = StudyFilter(frozenset({"ct2"}))
    for level in Level:
        rows = index.search(level, Query(with_parents=True), visible).rows
        assert [row["0020000D"]["Value"][0] for row in rows] == [uid(2)]
