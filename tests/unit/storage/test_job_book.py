"""What a study's state is, given its jobs; and how turns are named."""

from __future__ import annotations

import pytest

from storage.job_book import study_state_of
from storage.records import JobState, StudyState
from storage.turns import WHY_FAILED, TurnState, delivery_turn, job_turn


@pytest.mark.parametrize(
    ("jobs", "study"),
    [
        ([JobState.QUEUED], StudyState.ANALYSING),
        ([JobState.DONE, JobState.RUNNING], StudyState.ANALYSING),
        ([JobState.FAILED, JobState.QUEUED], StudyState.ANALYSING),
        ([JobState.FAILED, JobState.WAITING_FOR_ENGINE, JobState.DONE], StudyState.FAILED),
        ([JobState.WAITING_FOR_ENGINE, JobState.DONE], StudyState.WAITING_FOR_ENGINE),
        ([JobState.DECLINED, JobState.DONE], StudyState.ANSWERED),
        ([JobState.DECLINED], StudyState.DECLINED),
        ([JobState.SUPERSEDED, JobState.DECLINED], StudyState.DECLINED),
        ([JobState.SUPERSEDED], None),
        ([], None),
    ],
)
def test_the_state_of_a_study_follows_from_its_jobs(jobs: list[JobState], study: StudyState | None) -> None:
    assert study_state_of(jobs) is study


def test_the_first_turn_of_a_job_has_the_job_s_own_id() -> None:
    assert [job_turn("1.2:1:engine", run) for run in (1, 2, 3)] == ["1.2:1:engine", "1.2:1:engine:2", "1.2:1:engine:3"]


def test_each_attempt_of_a_delivery_is_a_turn_of_its_own() -> None:
    assert delivery_turn("key:form:pacs", 3) == "key:form:pacs:3"


def test_every_turn_that_is_over_has_words_for_it() -> None:
    assert set(WHY_FAILED) == set(TurnState) - {TurnState.QUEUED, TurnState.RUNNING}
