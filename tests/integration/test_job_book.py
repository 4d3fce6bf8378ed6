"""Jobs and the studies that they settle, on both databases."""

from __future__ import annotations

import pytest

from storage.database import Database
from storage.decisions import job_id_of, take
from storage.errors import ForbiddenTransition, NotKept
from storage.job_book import JobBook
from storage.jobs import Queue
from storage.records import JobState, StudyState
from storage.turns import OpenTurn, TurnState
from tests.builders.work import (
    add_late_instance,
    at,
    decision,
    new_job,
    put_gathering_study,
    put_job,
    study_of,
    transitions_of,
    uid_of,
)


@pytest.fixture
def book(database: Database) -> JobBook:
    return JobBook(database)


def test_a_job_that_begins_runs_and_counts_its_starts(database: Database, queue: Queue, book: JobBook) -> None:
    job_id = put_job(database, queue)

    first, again = book.begin(job_id, at(1)), book.begin(job_id, at(2))

    assert first is not None
    assert again is not None
    assert (first.state, first.attempts, first.started_at) == (JobState.RUNNING, 1, at(1))
    assert (again.state, again.attempts) == (JobState.RUNNING, 2)


def test_a_job_that_is_done_answers_its_study(database: Database, queue: Queue, book: JobBook) -> None:
    job_id = put_job(database, queue)
    book.begin(job_id, at(1))
    book.know_runs(job_id, ["key"])

    book.finish(job_id, JobState.DONE, "2 results kept.", at(2))

    job, study = book.job(job_id), study_of(database, uid_of(1))
    assert (job.state, job.reason, job.run_keys, job.ended_at) == (JobState.DONE, "2 results kept.", ("key",), at(2))
    assert (study.state, study.state_since) == (StudyState.ANSWERED, at(2))
    assert study.reason


def test_finishing_twice_is_finishing_once(database: Database, queue: Queue, book: JobBook) -> None:
    job_id = put_job(database, queue)
    book.begin(job_id, at(1))
    book.finish(job_id, JobState.DONE, "first", at(2))

    book.finish(job_id, JobState.DONE, "second", at(3))

    assert (book.job(job_id).reason, book.job(job_id).ended_at) == ("first", at(2))
    assert transitions_of(database, uid_of(1)) == ["gathering", "analysing", "answered"]


def test_a_study_is_answered_when_its_last_job_is(database: Database, queue: Queue, book: JobBook) -> None:
    uid = put_gathering_study(database)
    jobs = [new_job("classical-lung"), new_job("classical-tissue")]
    take(database, queue, decision(uid, *jobs), to=StudyState.ANALYSING, reason="Complete.")
    lung, tissue = (job_id_of(uid, 1, job.engine) for job in jobs)
    book.begin(lung, at(1))
    book.finish(lung, JobState.DECLINED, "The lungs are not covered.", at(2))
    before = study_of(database, uid).state
    book.begin(tissue, at(3))
    book.finish(tissue, JobState.DONE, "", at(4))

    assert (before, study_of(database, uid).state) == (StudyState.ANALYSING, StudyState.ANSWERED)


def test_a_study_that_failed_says_which_engine_and_why(database: Database, queue: Queue, book: JobBook) -> None:
    job_id = put_job(database, queue)
    book.begin(job_id, at(1))

    book.finish(job_id, JobState.FAILED, "The device is gone.", at(2))

    study = study_of(database, uid_of(1))
    assert (study.state, study.reason) == (StudyState.FAILED, "classical-lung: The device is gone.")


def test_a_job_ends_without_touching_a_study_that_gathers_again(
    database: Database, queue: Queue, book: JobBook
) -> None:
    job_id = put_job(database, queue)
    book.begin(job_id, at(1))
    add_late_instance(database, uid_of(1), at(2))

    book.finish(job_id, JobState.DONE, "", at(3))

    assert study_of(database, uid_of(1)).state == StudyState.GATHERING


def test_a_job_that_is_over_does_not_begin(database: Database, queue: Queue, book: JobBook) -> None:
    job_id = put_job(database, queue)
    book.begin(job_id, at(1))
    book.finish(job_id, JobState.DONE, "", at(2))

    assert book.begin(job_id, at(3)) is None


def test_a_job_whose_engine_is_away_waits_and_so_does_its_study(
    database: Database, queue: Queue, book: JobBook
) -> None:
    job_id = put_job(database, queue)
    book.begin(job_id, at(1))

    book.finish(job_id, JobState.WAITING_FOR_ENGINE, "The weights are missing.", at(2))

    assert study_of(database, uid_of(1)).state == StudyState.WAITING_FOR_ENGINE
    assert [job.job_id for job in book.waiting()] == [job_id]
    assert book.job(job_id).ended_at is None


def test_a_rerun_is_a_new_turn_of_the_same_job(database: Database, queue: Queue, book: JobBook) -> None:
    job_id = put_job(database, queue)
    book.begin(job_id, at(1))
    book.finish(job_id, JobState.FAILED, "Out of memory.", at(2))

    job = book.rerun(queue, job_id, at(3))

    assert job.state is JobState.QUEUED
    assert study_of(database, uid_of(1)).state == StudyState.ANALYSING
    assert book.open_turns() == [OpenTurn(f"{job_id}:2", job_id)]
    assert queue.states([f"{job_id}:2"]) == {f"{job_id}:2": TurnState.QUEUED}


def test_a_waiting_job_that_is_run_at_last_has_its_first_turn(database: Database, queue: Queue, book: JobBook) -> None:
    uid = put_gathering_study(database)
    waiting = decision(uid, new_job("medversa", waiting=True))
    take(database, queue, waiting, to=StudyState.WAITING_FOR_ENGINE, reason="medversa is not installed.")
    job_id = job_id_of(uid, 1, "medversa")

    book.rerun(queue, job_id, at(5))

    assert book.open_turns() == [OpenTurn(job_id, job_id)]
    assert queue.states([job_id]) == {job_id: TurnState.QUEUED}


def test_what_is_in_work_or_replaced_is_not_run_again(database: Database, queue: Queue, book: JobBook) -> None:
    first = put_job(database, queue)
    with pytest.raises(ForbiddenTransition, match="queued already"):
        book.rerun(queue, first, at(1))
    add_late_instance(database, uid_of(1), at(2))
    later = decision(uid_of(1), new_job(), number=2, input_version=2, when=at(3))
    take(database, queue, later, to=StudyState.ANALYSING, reason="Complete again.")

    with pytest.raises(ForbiddenTransition, match="later decision"):
        book.rerun(queue, first, at(4))


def test_a_turn_that_is_over_fails_its_job(database: Database, queue: Queue, book: JobBook) -> None:
    job_id = put_job(database, queue)
    (turn,) = book.open_turns()

    assert book.give_up(turn, "It ended its process.", at(1))
    assert book.job(job_id).state is JobState.FAILED
    assert study_of(database, uid_of(1)).state == StudyState.FAILED


def test_an_old_turn_does_not_fail_a_job_that_was_asked_for_again(
    database: Database, queue: Queue, book: JobBook
) -> None:
    job_id = put_job(database, queue)
    (old,) = book.open_turns()
    book.begin(job_id, at(1))
    book.finish(job_id, JobState.FAILED, "", at(2))
    ended = book.give_up(old, "late", at(3))
    book.rerun(queue, job_id, at(4))

    assert (ended, book.give_up(old, "late", at(5))) == (False, False)
    assert book.job(job_id).state is JobState.QUEUED


def test_jobs_are_listed_latest_first_and_by_state(database: Database, queue: Queue, book: JobBook) -> None:
    ids = [put_job(database, queue, number) for number in (1, 2, 3)]
    book.begin(ids[1], at(1))

    assert [job.job_id for job in book.jobs([JobState.RUNNING])] == [ids[1]]
    assert [job.job_id for job in book.jobs(limit=1, offset=2)] == [ids[2]]
    assert len(book.jobs()) == 3


def test_an_unknown_job_is_said_to_be_none(database: Database, queue: Queue, book: JobBook) -> None:
    with pytest.raises(NotKept):
        book.job("1.2:1:none")
