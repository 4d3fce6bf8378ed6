from __future__ import annotations

import json

import pytest

from dicom_node.worker.revisions import RunFacts, revision_reason
from tests.builders.paper_parts import make_description


def make_run(inputs: dict[str, str], series: tuple[str, ...] = ("1.1",), **about: str) -> RunFacts:
    return RunFacts(make_description(**about), inputs, series)


BEFORE = make_run({"1": "a", "2": "b"})


@pytest.mark.parametrize(
    ("now", "reason"),
    [
        (make_run({"1": "a", "2": "b", "3": "c"}), "1 image arrived later."),
        (make_run({"1": "a", "2": "b", **{f"3.{n}": "c" for n in range(12)}}), "12 images arrived later."),
        (make_run({"1": "a"}), "1 image no longer counted."),
        (make_run({"1": "a", "2": "other"}), "1 image corrected."),
        (make_run({"1": "a", "3": "c"}), "1 image arrived later, 1 image no longer counted."),
        (make_run({"5": "e"}, ("1.2",)), "Another series was chosen."),
        (make_run({"1": "a", "2": "b"}, version="1.1"), "classical-lung 1.1 replaced 1.0."),
        (make_run({"1": "a", "2": "b"}), "Made anew with other settings."),
    ],
)
def test_a_revision_says_what_changed(now: RunFacts, reason: str) -> None:
    assert revision_reason(now, BEFORE) == reason


def test_facts_survive_being_kept() -> None:
    assert RunFacts.from_json(json.loads(json.dumps(BEFORE.to_json()))) == BEFORE
