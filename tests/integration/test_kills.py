"""Killed at any moment: nothing is lost, nothing is doubled, and work goes on at once."""

from __future__ import annotations

import random
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import select

from configs.errors import ConfigError
from storage import tables
from storage.database import Database
from storage.job_book import JobBook
from storage.jobs import MOST_STARTS, Analysis, Queue, Runner, utc_now
from storage.records import DeliveryState, JobState, StudyState
from tests.builders import children
from tests.builders.work import put_job, study_of, uid_of

Start = Callable[[str], "subprocess.Popen[bytes]"]


@pytest.fixture
def start(database: Database, queue: Queue, tmp_path: Path) -> Iterator[Start]:
    """Start children that end with the test."""
    started: list[subprocess.Popen[bytes]] = []
    (tmp_path / "received").mkdir()

    def one(role: str) -> subprocess.Popen[bytes]:
        child = children.start(role, database.url, tmp_path)
        started.append(child)
        return child

    yield one
    for child in started:
        child.kill()
        child.wait()


def until(happened: Callable[[], bool], within_s: float = 60.0) -> None:
    deadline = time.monotonic() + within_s
    while not happened():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


def rows(database: Database, table: object) -> list[object]:
    with database.read() as connection:
        return list(connection.execute(select(table)).all())  # type: ignore[call-overload]


@pytest.mark.timeout(240)
def test_kills_at_random_moments_lose_nothing_and_double_nothing(
    database: Database, queue: Queue, start: Start, tmp_path: Path
) -> None:
    chance = random.Random(20261124)
    roles = {role: start(role) for role in ("decider", "worker", "courier")}
    for _ in range(15):
        time.sleep(chance.uniform(0.3, 1.5))
        role = chance.choice(list(roles))
        roles[role].kill()
        roles[role].wait()
        roles[role] = start(role)
    book = JobBook(database)

    def all_is_over() -> bool:
        studies = rows(database, tables.studies)
        deliveries = rows(database, tables.deliveries)
        return (
            len(studies) == children.STUDIES
            and roles["decider"].poll() == 0
            and all(study.state == StudyState.ANSWERED for study in studies)
            and all(delivery.state in (DeliveryState.DELIVERED, DeliveryState.SUPERSEDED) for delivery in deliveries)
            and not book.open_turns()
        )

    until(all_is_over, within_s=150)
    jobs = rows(database, tables.jobs)
    done = {job.job_id for job in jobs if job.state == JobState.DONE}
    keys = {children.run_key_of(job_id) for job_id in done}
    assert Counter(row.study_instance_uid for row in rows(database, tables.decisions)) == {
        uid_of(number): children.decisions_expected(number) for number in range(1, children.STUDIES + 1)
    }
    assert {job.state for job in jobs} <= {JobState.DONE, JobState.SUPERSEDED}
    assert len(jobs) == sum(map(children.decisions_expected, range(1, children.STUDIES + 1)))
    assert keys <= {row.run_key for row in rows(database, tables.findings)}
    assert Counter(row.run_key for row in rows(database, tables.results)) >= Counter(dict.fromkeys(keys, 2))
    assert Counter(row.run_key for row in rows(database, tables.deliveries)) == Counter(keys)
    delivered = {row.delivery_id for row in rows(database, tables.deliveries) if row.state == DeliveryState.DELIVERED}
    items = {row.sop_instance_uid for row in rows(database, tables.delivery_items) if row.delivery_id in delivered}
    assert items <= {file.name for file in (tmp_path / "received").iterdir()}
    assert max(Counter(_ends(database)).values()) == 1


def _ends(database: Database) -> list[tuple[str, str]]:
    """Give each end of a job and of a delivery, as the ledger has them."""
    final = {JobState.DONE.value, DeliveryState.DELIVERED.value}
    return [(row.subject, row.subject_id) for row in rows(database, tables.transitions) if row.to_state in final]


def test_a_job_that_ends_its_process_each_time_fails(
    database: Database, queue: Queue, start: Start, tmp_path: Path
) -> None:
    job_id = put_job(database, queue)
    book = JobBook(database)
    child = start("killer")

    def failed() -> bool:
        nonlocal child
        if child.poll() is not None:
            child = start("killer")
        return book.job(job_id).state is JobState.FAILED

    until(failed)
    assert (tmp_path / "starts").read_text() == "x" * MOST_STARTS
    assert "ended its process" in book.job(job_id).reason
    assert study_of(database, uid_of(1)).state == StudyState.FAILED


def test_an_executor_id_works_once_at_a_time(database: Database, queue: Queue, start: Start, tmp_path: Path) -> None:
    child = start("worker")
    job_id = put_job(database, queue)
    book = JobBook(database)
    until(lambda: book.job(job_id).state is JobState.DONE)
    runner = Runner(
        database,
        executor_id="worker-0",
        lock_dir=tmp_path / "locks",
        analysis=Analysis((), book),
    )

    with pytest.raises(ConfigError, match="works as worker-0"):
        runner.start(lock_within_s=0.1)

    child.kill()
    runner.start()
    runner.stop()


def test_a_killed_worker_goes_on_where_it_was(database: Database, queue: Queue, start: Start, tmp_path: Path) -> None:
    job_id = put_job(database, queue)
    book = JobBook(database)
    child = start("killer")
    until(lambda: child.poll() is not None)
    before = book.job(job_id)
    assert (before.state, before.attempts) == (JobState.RUNNING, 1)
    ended: list[str] = []

    def infer(taken: str) -> None:
        book.begin(taken, utc_now())
        book.finish(taken, JobState.DONE, "", utc_now())
        ended.append(taken)

    runner = Runner(
        database, executor_id="killer-0", lock_dir=tmp_path / "locks", analysis=Analysis((("infer", infer),), book)
    )
    runner.start()
    until(lambda: bool(ended))
    runner.stop(within_s=5)

    assert ended == [job_id]
    assert book.job(job_id).attempts == 2
