"""The tables of allowed transitions: each subject has one, and each names every state."""

from __future__ import annotations

from enum import StrEnum

import pytest

from storage import ledger
from storage.ledger import _SUBJECTS
from storage.records import DeliveryState, JobState, ResultState, StudyState


@pytest.mark.parametrize("states", list(_SUBJECTS), ids=lambda states: states.__name__)
def test_every_state_of_a_subject_has_a_row(states: type[StrEnum]) -> None:
    allowed = _SUBJECTS[states][3]
    assert set(allowed) == set(states)
    assert all(set(to) <= set(states) for to in allowed.values())


@pytest.mark.parametrize("states", list(_SUBJECTS), ids=lambda states: states.__name__)
def test_every_state_is_reached_from_the_first_one(states: type[StrEnum]) -> None:
    allowed = _SUBJECTS[states][3]
    firsts = {StudyState: (StudyState.DOCUMENTS,), JobState: (JobState.QUEUED, JobState.WAITING_FOR_ENGINE)}
    reached = set(firsts.get(states, (next(iter(states)),)))  # type: ignore[call-overload]
    for _ in states:
        reached |= {to for state in reached for to in allowed[state]}
    assert reached == set(states)


def test_what_was_taken_back_never_counts_again() -> None:
    assert not ledger.RESULT[ResultState.RETRACTED]
    assert not ledger.DELIVERY[DeliveryState.WITHDRAWN]
