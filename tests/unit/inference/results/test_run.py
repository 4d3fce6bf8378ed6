"""Names and times that follow from a run."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from inference.results.run import (
    derived_uid,
    object_time,
    offset_of,
    result_uid,
    run_key,
    series_number,
    series_uid,
    tracking_uid,
)
from tests.builders.findings import engine, make_run

INPUTS = [("1.2.3", "aa"), ("1.2.4", "bb")]


def key(**overrides: object) -> str:
    values: dict[str, object] = {
        "study_instance_uid": "1.2",
        "inputs": INPUTS,
        "engine": engine(),
        "task": "segmentation",
        "parameters": {"seed": "1"},
    }
    return run_key(**{**values, **overrides})  # type: ignore[arg-type]


def test_run_key_is_the_same_in_whatever_order_the_inputs_come() -> None:
    assert key() == key(inputs=reversed(INPUTS))


@pytest.mark.parametrize(
    "other",
    [
        {"study_instance_uid": "1.3"},
        {"inputs": INPUTS[:1]},
        {"inputs": [("1.2.3", "aa"), ("1.2.4", "cc")]},
        {"engine": engine(version="1.1")},
        {"engine": engine(digest="1" * 64)},
        {"engine": engine(name="classical-tissue")},
        {"engine": engine(parameters=(("threshold_hu", "-500"),))},
        {"task": "report"},
        {"parameters": {"seed": "2"}},
    ],
)
def test_run_key_changes_with_everything_that_the_answer_depends_on(other: dict[str, object]) -> None:
    assert key(**other) != key()


def test_derived_uids_are_valid_and_at_most_44_characters() -> None:
    uids = [derived_uid("name", str(index)) for index in range(500)]
    assert all(uid.is_valid and len(uid) <= 44 and uid.startswith("2.25.") for uid in uids)
    assert len(set(uids)) == 500


def test_names_cannot_run_together() -> None:
    assert derived_uid("a", "b/c") != derived_uid("a/b", "c")


def test_set_and_kind_enter_the_names_of_results_and_series() -> None:
    assert result_uid("k", "binary+comprehensive-3d", "sr") != result_uid("k", "binary+comprehensive-3d", "seg")
    assert series_uid("1.2", "e", "sr", "a") != series_uid("1.2", "e", "sr", "b")
    assert tracking_uid("1.2", "e", "x") == tracking_uid("1.2", "e", "x")


def test_first_engine_has_the_series_numbers_of_the_table() -> None:
    assert (series_number(make_run(), "sr"), series_number(make_run(), "seg")) == (9001, 9003)


def test_engines_do_not_share_series_numbers() -> None:
    names = ("classical-lung", "classical-tissue", "classical-skin", "medversa", "remote-a", "remote-b")
    numbers = {series_number(make_run(engine=engine(name=name)), kind) for name in names for kind in ("sr", "seg")}
    assert len(numbers) == 12


def test_series_number_of_the_study_is_avoided() -> None:
    assert series_number(make_run(used_series_numbers={9001, 10001}), "sr") == 11001


@pytest.mark.parametrize(
    ("text", "minutes"), [("+0100", 60), ("-0330", -210), ("+1400", 840), ("-1200", -720), ("+0000", 0)]
)
def test_offsets_are_read(text: str, minutes: int) -> None:
    assert offset_of(text) == timezone(timedelta(minutes=minutes))


@pytest.mark.parametrize("text", ["", "0100", "+1500", "-1230", "+0160", "CET", "+01:00"])
def test_what_is_no_offset_is_none(text: str) -> None:
    assert offset_of(text) is None


def test_source_offset_comes_before_the_node_zone() -> None:
    moment = datetime(2026, 7, 1, 12, 0, tzinfo=UTC)
    assert object_time(moment, source_offset="-0500", zone="Europe/Vienna").hour == 7
    assert object_time(moment, source_offset="", zone="Europe/Vienna").hour == 14


def test_times_without_a_zone_are_refused() -> None:
    with pytest.raises(ValueError, match="aware"):
        object_time(datetime(2026, 7, 1), source_offset="", zone="UTC")  # noqa: DTZ001
