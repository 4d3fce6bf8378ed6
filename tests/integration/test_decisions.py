"""Deciding that a study is complete, on both databases: one effect, or none."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from storage.database import Database
from storage.decisions import decisions_of, job_id_of, take
from storage.job_book import JobBook
from storage.jobs import Queue
from storage.records import JobState, StudyState
from storage.turns import TurnState
from tests.builders.work import (
    add_late_instance,
    at,
    decision,
    new_job,
    put_gathering_study,
    put_job,
    study_of,
    transitions_of,
)


def test_a_decision_moves_the_study_and_puts_its_jobs_into_the_queue(database: Database, queue: Queue) -> None:
    uid = put_gathering_study(database)

    taken = take(database, queue, decision(uid, new_job()), to=StudyState.ANALYSING, reason="Complete.")

    job_id = job_id_of(uid, 1, "classical-lung")
    study = study_of(database, uid)
    assert taken
    assert (study.state, study.reason, study.decision_number) == (StudyState.ANALYSING, "Complete.", 1)
    assert JobBook(database).job(job_id).state is JobState.QUEUED
    assert queue.states([job_id]) == {job_id: TurnState.QUEUED}
    assert transitions_of(database, uid) == ["gathering", "analysing"]
    assert transitions_of(database, job_id) == ["queued"]


def test_a_decision_on_an_input_that_has_changed_since_writes_nothing(database: Database, queue: Queue) -> None:
    uid = put_gathering_study(database)
    add_late_instance(database, uid, at(1))

    taken = take(database, queue, decision(uid, new_job()), to=StudyState.ANALYSING, reason="Complete.")

    assert not taken
    assert study_of(database, uid).state == StudyState.GATHERING
    assert decisions_of(database, uid) == []
    assert JobBook(database).jobs_of(uid) == []
    assert set(queue.states([job_id_of(uid, 1, "classical-lung")]).values()) == {TurnState.UNKNOWN}


def test_of_two_who_decide_at_once_one_does(database: Database, queue: Queue) -> None:
    uid = put_gathering_study(database)

    def decide(_: int) -> bool:
        return take(database, queue, decision(uid, new_job()), to=StudyState.ANALYSING, reason="Complete.")

    with ThreadPoolExecutor(4) as pool:
        taken = list(pool.map(decide, range(4)))

    assert sorted(taken) == [False, False, False, True]
    assert len(JobBook(database).jobs_of(uid)) == 1


def test_a_decision_that_cannot_be_enqueued_leaves_no_trace(database: Database, queue: Queue) -> None:
    class Broken(Queue):
        def enqueue_analysis(self, *_: object, **__: object) -> None:
            raise RuntimeError("the queue broke")

    uid = put_gathering_study(database)
    broken = Broken(database)

    with pytest.raises(RuntimeError):
        take(database, broken, decision(uid, new_job()), to=StudyState.ANALYSING, reason="Complete.")

    assert study_of(database, uid).state == StudyState.GATHERING
    assert study_of(database, uid).decision_number == 0
    assert JobBook(database).jobs_of(uid) == []
    assert transitions_of(database, uid) == ["gathering"]


def test_a_job_whose_engine_is_missing_waits_outside_the_queue(database: Database, queue: Queue) -> None:
    uid = put_gathering_study(database)

    take(
        database,
        queue,
        decision(uid, new_job("medversa", waiting=True)),
        to=StudyState.WAITING_FOR_ENGINE,
        reason="medversa is not installed.",
    )

    job_id = job_id_of(uid, 1, "medversa")
    assert study_of(database, uid).state == StudyState.WAITING_FOR_ENGINE
    assert [job.job_id for job in JobBook(database).waiting("medversa")] == [job_id]
    assert queue.states([job_id]) == {job_id: TurnState.UNKNOWN}


def test_an_unmatched_study_has_a_decision_and_no_job(database: Database, queue: Queue) -> None:
    uid = put_gathering_study(database)

    take(database, queue, decision(uid), to=StudyState.UNMATCHED, reason="No rule matches: Modality is MR.")

    assert study_of(database, uid).state == StudyState.UNMATCHED
    assert decisions_of(database, uid) == [decision(uid)]


def test_a_later_decision_supersedes_jobs_that_have_not_begun(database: Database, queue: Queue) -> None:
    first = put_job(database, queue)
    uid = JobBook(database).job(first).study_instance_uid
    add_late_instance(database, uid, at(60))

    later = decision(uid, new_job(), number=2, input_version=2, when=at(70))
    take(database, queue, later, to=StudyState.ANALYSING, reason="Complete again.")

    states = {job.job_id: job.state for job in JobBook(database).jobs_of(uid)}
    assert states == {first: JobState.SUPERSEDED, job_id_of(uid, 2, "classical-lung"): JobState.QUEUED}
    assert JobBook(database).begin(first, at(71)) is None


def test_a_later_decision_leaves_a_job_that_runs(database: Database, queue: Queue) -> None:
    first = put_job(database, queue)
    book = JobBook(database)
    uid = book.job(first).study_instance_uid
    book.begin(first, at(1))
    add_late_instance(database, uid, at(60))

    later = decision(uid, new_job(), number=2, input_version=2, when=at(70))
    take(database, queue, later, to=StudyState.ANALYSING, reason="Complete again.")
    book.finish(first, JobState.DONE, "", at(80))

    assert book.job(first).state is JobState.DONE
    assert study_of(database, uid).state == StudyState.ANALYSING


def test_decisions_are_told_with_their_routes_and_jobs(database: Database, queue: Queue) -> None:
    uid = put_gathering_study(database)
    decided = decision(uid, new_job(), new_job("medversa", waiting=True))
    take(database, queue, decided, to=StudyState.ANALYSING, reason="Complete.")

    assert decisions_of(database, uid) == [decided]


def test_jobs_that_lead_elsewhere_than_said_are_refused(database: Database, queue: Queue) -> None:
    uid = put_gathering_study(database)

    with pytest.raises(ValueError, match="leave no study answered"):
        take(database, queue, decision(uid, new_job()), to=StudyState.ANSWERED, reason="")
