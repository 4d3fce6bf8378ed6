"""How long an engine may take."""

from __future__ import annotations

from typing import Any, cast

from dicom_node.worker.deadlines import Deadlines
from storage.errors import IndexUnavailable
from storage.records import JobState
from tests.builders.paper_parts import JOB_ID, PaperJobs, make_job
from tests.builders.studies import at


class Clock:
    second = 0.0

    def __call__(self) -> float:
        return self.second


def make(jobs: PaperJobs, clock: Clock, ended: list[str]) -> Deadlines:
    return Deadlines(
        cast(Any, jobs),
        {"classical-lung": 900.0, "medversa": 60.0},
        now=lambda: at(clock.second),
        end=lambda: ended.append("ended"),
        monotonic=clock,
    )


def test_a_job_whose_engine_hangs_fails_and_the_worker_begins_anew() -> None:
    jobs, clock, ended = PaperJobs(make_job(state=JobState.RUNNING)), Clock(), list[str]()
    deadlines = make(jobs, clock, ended)

    def hang(_: str) -> None:
        clock.second = 899.0
        deadlines.look()
        assert (jobs.record.state, ended) == (JobState.RUNNING, [])
        clock.second = 900.0
        deadlines.look()

    deadlines.watched(hang)(JOB_ID)
    assert ended == ["ended"]
    assert jobs.record.state is JobState.FAILED
    assert jobs.record.reason == "classical-lung took longer than 900 s (engines.classical-lung.deadline_s)."


def test_what_came_to_its_end_is_watched_no_more_also_where_it_failed() -> None:
    jobs, clock, ended = PaperJobs(make_job(state=JobState.RUNNING)), Clock(), list[str]()
    deadlines = make(jobs, clock, ended)

    def fail(_: str) -> None:
        raise ValueError

    for step in (lambda _: None, fail):
        try:
            deadlines.watched(step)(JOB_ID)
        except ValueError:
            clock.second += 1
    clock.second += 5000
    deadlines.look()
    assert (jobs.record.state, ended) == (JobState.RUNNING, [])


def test_while_the_database_is_away_the_process_goes_on() -> None:
    class Away(PaperJobs):
        def job(self, _job_id: str) -> Any:
            raise IndexUnavailable

    jobs, clock, ended = Away(), Clock(), list[str]()
    deadlines = make(jobs, clock, ended)

    def hang(_: str) -> None:
        clock.second += 5000
        deadlines.look()

    deadlines.watched(hang)(JOB_ID)
    assert ended == []
