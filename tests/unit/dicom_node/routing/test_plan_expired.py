"""A study that retention took images of is not analysed by the rest."""

from __future__ import annotations

from datetime import UTC, datetime

from dicom_node.routing.plan import Plan, as_far_as_kept
from storage.records import StudyState
from tests.builders.work import decision, new_job, uid_of


def plan() -> Plan:
    return Plan(
        decision(uid_of(1), new_job(), when=datetime(2026, 3, 1, tzinfo=UTC)), StudyState.ANALYSING, "Complete."
    )


def test_a_whole_study_is_analysed() -> None:
    assert as_far_as_kept(plan(), 0) == plan()


def test_a_study_in_part_is_not_and_says_what_to_do() -> None:
    planned = as_far_as_kept(plan(), 12)
    assert (planned.to, planned.decision.jobs) == (StudyState.UNMATCHED, ())
    assert planned.reason == (
        "12 images were removed by retention: send the whole study again to have it analysed anew."
    )
