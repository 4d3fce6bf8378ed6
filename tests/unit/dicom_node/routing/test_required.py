"""Whether the series that rules wait for are here."""

from __future__ import annotations

import pytest

from dicom_node.routing.required import least_images, required
from tests.builders.studies import make_facts, make_header, make_route

THIN = {"SliceThickness": {"max": 2}}
CT = make_route({"Modality": "CT"}, requires=[{"when": THIN, "images": 100}])
FACTS = make_facts(make_header(), make_header(SliceThickness="5"))


@pytest.mark.parametrize(
    ("images", "gaps", "whole", "reason"),
    [
        ({"1.1": 100, "1.2": 1}, {}, True, 'All series that rule "chest-ct" requires are here without gaps.'),
        ({"1.1": 99, "1.2": 300}, {}, False, "A required series has 99 images here, 100 are needed."),
        ({"1.1": 100}, {"1.1": "a gap."}, False, "A required series has gaps: a gap."),
        ({"1.1": 100}, {"1.2": "a gap."}, True, 'All series that rule "chest-ct" requires are here without gaps.'),
    ],
)
def test_required_series_must_be_here_in_number_and_without_gaps(
    images: dict[str, int], gaps: dict[str, str], whole: bool, reason: str
) -> None:
    found = required([CT], FACTS, images, lambda uid: gaps.get(uid, ""))
    assert found is not None
    assert (found.whole, found.reason) == (whole, reason)


def test_a_series_that_is_not_here_is_missing() -> None:
    found = required([CT], make_facts(make_header(SliceThickness="5")), {"1.1": 300}, lambda _: "")
    assert found is not None
    assert not found.whole
    assert found.reason == "A required series is not here."


def test_another_rule_that_matches_and_waits_for_nothing_leaves_the_decision_to_silence() -> None:
    other = make_route({"Modality": "CT"}, name="other", engine="medversa")
    assert required([CT, other], FACTS, {"1.1": 100}, lambda _: "") is None


def test_without_a_rule_that_matches_silence_decides() -> None:
    assert required([make_route({"Modality": "MR"})], FACTS, {}, lambda _: "") is None


def test_all_series_of_all_rules_that_match_must_be_here() -> None:
    thick = make_route(
        {"Modality": "CT"},
        name="thick",
        engine="medversa",
        requires=[{"when": {"SliceThickness": {"min": 4}}, "images": 10}],
    )
    assert required([CT, thick], FACTS, {"1.1": 100, "1.2": 9}, lambda _: "").whole is False  # type: ignore[union-attr]
    found = required([CT, thick], FACTS, {"1.1": 100, "1.2": 10}, lambda _: "")
    assert found is not None
    assert found.reason == 'All series that rules "chest-ct" and "thick" require are here without gaps.'


def test_how_many_images_must_be_here_at_least() -> None:
    assert least_images([CT, make_route(name="b")]) == 100
    assert least_images([make_route()]) is None
