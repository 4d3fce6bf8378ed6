"""Which earlier studies are relevant, and what of them is fetched."""

from __future__ import annotations

from dataclasses import replace
from datetime import date

import pytest

from configs.routes import PriorsWanted
from dicom_node.routing.priors import FoundSeries, FoundStudy, relevant, series_to_fetch
from tests.builders.studies import make_study

WANTED = PriorsWanted.model_validate({"from": ["pacs"], "modalities": ["CT"], "within_days": 365, "studies": 2})
PRIOR = FoundStudy("1.2.1", "TEST-1", "", "20260101", ("CT", "SR"))
TODAY = date(2026, 3, 1)


def chosen(*found: FoundStudy, issuer: str = "", wanted: PriorsWanted = WANTED) -> list[str]:
    return [each.study_instance_uid for each in relevant(found, make_study(), issuer, wanted, TODAY)]


def test_the_latest_studies_come_first_and_no_more_than_the_rule_asks_for() -> None:
    found = [replace(PRIOR, study_instance_uid=f"1.2.{month}", study_date=f"20250{month}01") for month in range(4, 9)]
    assert chosen(*found) == ["1.2.8", "1.2.7"]
    assert chosen(PRIOR, PRIOR) == ["1.2.1"]


@pytest.mark.parametrize(
    "other",
    [
        {"patient_id": "TEST-10"},  # peers match parts of it, or take * and ? for wildcards
        {"patient_id": ""},
        {"issuer_of_patient_id": "ELSEWHERE"},
        {"study_date": "20250228"},  # a day too old
        {"study_date": "20260302"},  # later than the study
        {"study_date": ""},
        {"study_date": "20261399"},
        {"modalities": ("MR",)},
        {"study_instance_uid": make_study().study_instance_uid},
        {"study_instance_uid": "../../1"},
    ],
    ids=str,
)
def test_what_is_not_of_the_patient_or_not_asked_for_is_left_where_it_is(other: dict[str, object]) -> None:
    assert chosen(replace(PRIOR, **other), issuer="HERE") == []  # type: ignore[arg-type]
    assert chosen(PRIOR, issuer="HERE") == ["1.2.1"]


SERIES = [
    FoundSeries("1.1", "CT", "CHEST", 300),
    FoundSeries("1.2", "SR", "CHEST", 1),
    FoundSeries("1.3", "CT", "HEAD", 50),
    FoundSeries("../3", "CT", "CHEST", 1),
]


@pytest.mark.parametrize(
    ("wanted", "here", "fetched", "left_out"),
    [
        ({}, {}, ["1.1", "1.3"], 0),
        ({}, {"1.1": 300}, ["1.3"], 0),
        ({}, {"1.1": 299}, ["1.1", "1.3"], 0),
        ({"same_body_part": True}, {}, ["1.1"], 0),
        ({"instances": 299}, {}, ["1.3"], 1),
        ({"instances": 320}, {}, ["1.1"], 1),
    ],
)
def test_series_are_fetched_that_lack_something_up_to_the_limit(
    wanted: dict[str, object], here: dict[str, int], fetched: list[str], left_out: int
) -> None:
    rule = WANTED.model_copy(update=wanted)
    found, over = series_to_fetch(SERIES, here, {"CHEST"}, rule)
    assert [each.series_instance_uid for each in found] == fetched
    assert over == left_out
