"""The runner on both databases: what is asked for is done once, and what cannot be done says so."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from storage.blobs import LocalBlobs
from storage.database import Database
from storage.deliveries import Deliveries
from storage.errors import IndexUnavailable, NotKept
from storage.findings_store import FindingsStore
from storage.job_book import JobBook
from storage.jobs import Analysis, Delivery, Queue, Runner, utc_now
from storage.pruning import prune
from storage.records import DeliveryState, ItemState, JobState, StudyState
from storage.turns import TurnState
from tests.builders.work import at, put_findings, put_job, study_of, uid_of

Run = Callable[..., AbstractContextManager[Runner]]

FORM = "binary+comprehensive-3d"


@pytest.fixture
def book(database: Database) -> JobBook:
    return JobBook(database)


@pytest.fixture
def run(database: Database, queue: Queue, tmp_path: Path) -> Run:
    """Run work until the block ends."""

    @contextmanager
    def running(
        analysis: Analysis | None = None, delivery: Delivery | None = None, *, reap_every_s: float = 0.2
    ) -> Iterator[Runner]:
        runner = Runner(
            database,
            executor_id="worker-0",
            lock_dir=tmp_path / "locks",
            analysis=analysis,
            delivery=delivery,
            reap_every_s=reap_every_s,
        )
        runner.start()
        try:
            yield runner
        finally:
            runner.stop(within_s=5)

    return running


def until(happened: Callable[[], bool], within_s: float = 20.0) -> None:
    """Wait for something that another thread brings about."""
    deadline = time.monotonic() + within_s
    while not happened():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def finishing(book: JobBook, state: JobState = JobState.DONE) -> tuple[tuple[str, Callable[[str], None]], ...]:
    """Steps that do what a job needs and no more."""

    def infer(job_id: str) -> None:
        assert book.begin(job_id, at(1)) is not None

    def publish(job_id: str) -> None:
        book.finish(job_id, state, "Said by the test.", at(2))

    return (("infer", infer), ("publish", publish))


def put_delivery(
    database: Database, queue: Queue, blobs: LocalBlobs, *destinations: str, number: int = 1, delay_s: float = 0
) -> list[str]:
    """Ask for the delivery of a job's results."""
    job_id = put_job(database, queue, number)
    findings = put_findings(FindingsStore(database, blobs), uid_of(number), f"key{number}")
    now = utc_now()
    return Deliveries(database, queue).ask_for(
        job_id,
        findings.run_key,
        FORM,
        uid_of(number),
        [(f"2.25.{number}", "sr")],
        destinations,
        not_before=now + timedelta(seconds=delay_s),
        at=now,
    )


def sending(deliveries: Deliveries) -> Callable[[str, int], None]:
    """A courier whose destinations take everything."""

    def deliver(delivery_id: str, attempt: int) -> None:
        delivery = deliveries.begin(delivery_id, attempt, utc_now())
        if delivery is None:
            return
        for item in delivery.items:
            deliveries.item_answered(delivery_id, item.sop_instance_uid, ItemState.ACCEPTED, 0, "", utc_now())
        deliveries.finish(delivery_id, DeliveryState.DELIVERED, "", utc_now())

    return deliver


def test_a_job_goes_through_its_steps(database: Database, queue: Queue, book: JobBook, run: Run) -> None:
    with run(Analysis(finishing(book), book)):
        job_id = put_job(database, queue)
        until(lambda: book.job(job_id).state is JobState.DONE)

    assert study_of(database, uid_of(1)).state == StudyState.ANSWERED
    assert book.job(job_id).attempts == 1


def test_jobs_that_waited_before_the_start_are_done(database: Database, queue: Queue, book: JobBook, run: Run) -> None:
    ids = [put_job(database, queue, number) for number in range(1, 6)]

    with run(Analysis(finishing(book), book)):
        until(lambda: all(book.job(job_id).state is JobState.DONE for job_id in ids))


def test_no_more_jobs_are_in_hand_than_allowed(database: Database, queue: Queue, book: JobBook, run: Run) -> None:
    in_hand, most = threading.Semaphore(1), threading.Event()

    def infer(job_id: str) -> None:
        if not in_hand.acquire(blocking=False):
            most.set()
        book.begin(job_id, at(1))
        time.sleep(0.1)
        book.finish(job_id, JobState.DONE, "", at(2))
        in_hand.release()

    ids = [put_job(database, queue, number) for number in range(1, 5)]
    with run(Analysis((("infer", infer),), book)):
        until(lambda: all(book.job(job_id).state is JobState.DONE for job_id in ids))

    assert not most.is_set()


def test_an_unexpected_error_fails_the_job_and_keeps_its_text_to_the_log(
    database: Database, queue: Queue, book: JobBook, run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    later: list[str] = []

    def infer(job_id: str) -> None:
        book.begin(job_id, at(1))
        raise ValueError("Test^Quiet is not to be seen")

    with run(Analysis((("infer", infer), ("publish", later.append)), book)):
        job_id = put_job(database, queue)
        until(lambda: book.job(job_id).state is JobState.FAILED)

    assert book.job(job_id).reason == "The work ended unexpectedly: ValueError"
    assert study_of(database, uid_of(1)).state == StudyState.FAILED
    assert later == []
    assert any(record.exc_info for record in caplog.records if getattr(record, "action", "") == "turn_failed")


def test_a_foreseen_error_that_nobody_foresaw_here_says_what_it_is(
    database: Database, queue: Queue, book: JobBook, run: Run
) -> None:
    def infer(_: str) -> None:
        raise NotKept("The file of an instance is missing.")

    with run(Analysis((("infer", infer),), book)):
        job_id = put_job(database, queue)
        until(lambda: book.job(job_id).state is JobState.FAILED)

    assert book.job(job_id).reason == "The work ended unexpectedly: The file of an instance is missing."


def test_work_waits_while_the_database_does_not_answer(
    database: Database, queue: Queue, book: JobBook, run: Run
) -> None:
    failures = iter([IndexUnavailable(), IndexUnavailable()])

    def infer(job_id: str) -> None:
        if (failure := next(failures, None)) is not None:
            raise failure
        book.begin(job_id, at(1))
        book.finish(job_id, JobState.DONE, "", at(2))

    with run(Analysis((("infer", infer),), book)):
        job_id = put_job(database, queue)
        until(lambda: book.job(job_id).state is JobState.DONE)

    assert book.job(job_id).attempts == 1


def test_work_that_ends_without_an_outcome_is_found(database: Database, queue: Queue, book: JobBook, run: Run) -> None:
    with run(Analysis((("infer", lambda _: None),), book)):
        job_id = put_job(database, queue)
        until(lambda: book.job(job_id).state is JobState.FAILED)

    assert book.job(job_id).reason == "The work ended without an outcome; the log has the details."


def test_work_that_the_queue_does_not_know_any_more_is_found(
    database: Database, queue: Queue, book: JobBook, run: Run
) -> None:
    job_id = put_job(database, queue)
    queue.forget([job_id])

    with run(Analysis(finishing(book), book)):
        until(lambda: book.job(job_id).state is JobState.FAILED)

    assert book.job(job_id).reason == "The queue does not know this work any more."


def test_a_cancelled_job_fails_with_that_reason(database: Database, queue: Queue, book: JobBook, run: Run) -> None:
    job_id = put_job(database, queue)
    queue.cancel(job_id)

    with run(Analysis(finishing(book), book)):
        until(lambda: book.job(job_id).state is JobState.FAILED)

    assert book.job(job_id).reason == "The work was cancelled in the queue."


def test_a_failed_job_runs_again_when_asked(database: Database, queue: Queue, book: JobBook, run: Run) -> None:
    with run(Analysis(finishing(book, JobState.FAILED), book)):
        job_id = put_job(database, queue)
        until(lambda: book.job(job_id).state is JobState.FAILED)
    with run(Analysis(finishing(book), book)):
        book.rerun(queue, job_id, at(10))
        until(lambda: book.job(job_id).state is JobState.DONE)

    assert study_of(database, uid_of(1)).state == StudyState.ANSWERED


def test_what_is_in_hand_ends_before_the_runner_stops(
    database: Database, queue: Queue, book: JobBook, run: Run
) -> None:
    begun = threading.Event()

    def infer(job_id: str) -> None:
        book.begin(job_id, at(1))
        begun.set()
        time.sleep(0.5)
        book.finish(job_id, JobState.DONE, "", at(2))

    with run(Analysis((("infer", infer),), book)):
        job_id = put_job(database, queue)
        assert begun.wait(20)

    assert book.job(job_id).state is JobState.DONE


def test_a_process_hosts_one_runner(database: Database, queue: Queue, book: JobBook, run: Run, tmp_path: Path) -> None:
    work = Analysis(finishing(book), book)
    with run(work), pytest.raises(RuntimeError):
        Runner(database, executor_id="worker-1", lock_dir=tmp_path, analysis=work).start()


def test_a_delivery_goes_out(database: Database, queue: Queue, blobs: LocalBlobs, run: Run) -> None:
    deliveries = Deliveries(database, queue)

    with run(delivery=Delivery(sending(deliveries), deliveries)):
        (delivery_id,) = put_delivery(database, queue, blobs, "pacs")
        until(lambda: deliveries.delivery(delivery_id).state is DeliveryState.DELIVERED)


def test_a_delivery_waits_for_its_time(database: Database, queue: Queue, blobs: LocalBlobs, run: Run) -> None:
    deliveries = Deliveries(database, queue)

    with run(delivery=Delivery(sending(deliveries), deliveries)):
        asked_at = time.monotonic()
        (delivery_id,) = put_delivery(database, queue, blobs, "pacs", delay_s=1.0)
        until(lambda: deliveries.delivery(delivery_id).state is DeliveryState.DELIVERED)

    assert time.monotonic() - asked_at >= 1.0


def test_a_delivery_is_tried_until_it_ends(database: Database, queue: Queue, blobs: LocalBlobs, run: Run) -> None:
    deliveries = Deliveries(database, queue)
    attempts: list[int] = []

    def deliver(delivery_id: str, attempt: int) -> None:
        attempts.append(attempt)
        if attempt == 3:
            sending(deliveries)(delivery_id, attempt)
            return
        deliveries.begin(delivery_id, attempt, utc_now())
        deliveries.retry(delivery_id, "Not reached.", utc_now(), utc_now(), attempt)

    with run(delivery=Delivery(deliver, deliveries)):
        (delivery_id,) = put_delivery(database, queue, blobs, "pacs")
        until(lambda: deliveries.delivery(delivery_id).state is DeliveryState.DELIVERED)

    assert attempts == [1, 2, 3]
    assert deliveries.delivery(delivery_id).attempts == 3


def test_an_unexpected_error_fails_the_delivery(database: Database, queue: Queue, blobs: LocalBlobs, run: Run) -> None:
    deliveries = Deliveries(database, queue)

    def deliver(delivery_id: str, attempt: int) -> None:
        deliveries.begin(delivery_id, attempt, utc_now())
        raise KeyError("surprise")

    with run(delivery=Delivery(deliver, deliveries)):
        (delivery_id,) = put_delivery(database, queue, blobs, "pacs")
        until(lambda: deliveries.delivery(delivery_id).state is DeliveryState.FAILED)

    assert deliveries.delivery(delivery_id).reason == "The work ended unexpectedly: KeyError"


def test_a_destination_that_hangs_delays_no_other(
    database: Database, queue: Queue, blobs: LocalBlobs, run: Run
) -> None:
    deliveries = Deliveries(database, queue)
    released, hanging = threading.Event(), []

    def deliver(delivery_id: str, attempt: int) -> None:
        if delivery_id.endswith(":hung"):
            hanging.append(delivery_id)
            released.wait(30)
        sending(deliveries)(delivery_id, attempt)

    hung = [put_delivery(database, queue, blobs, "hung", number=number)[0] for number in range(1, 13)]
    others = [put_delivery(database, queue, blobs, "pacs", "archive", number=number) for number in range(13, 17)]
    with run(delivery=Delivery(deliver, deliveries, concurrency=8, concurrency_per_destination=2)):
        until(lambda: all(deliveries.delivery(one).state is DeliveryState.DELIVERED for both in others for one in both))
        held = len(hanging)
        released.set()
        until(lambda: all(deliveries.delivery(one).state is DeliveryState.DELIVERED for one in hung))

    assert held == 2


def test_old_turns_are_forgotten_once_their_rows_have_ended(
    database: Database, queue: Queue, book: JobBook, run: Run
) -> None:
    with run(Analysis(finishing(book), book)):
        job_id = put_job(database, queue)
        until(lambda: queue.states([job_id])[job_id] is TurnState.ENDED)
    unended = put_job(database, queue, 2)
    queue.cancel(unended)
    now = utc_now()

    assert prune(database, queue, now - timedelta(days=1)) == 0
    assert prune(database, queue, now + timedelta(days=1)) == 1
    assert queue.states([job_id, unended]) == {job_id: TurnState.UNKNOWN, unended: TurnState.CANCELLED}


def test_many_old_turns_are_forgotten_in_batches(database: Database, queue: Queue, book: JobBook) -> None:
    for number in range(1, 16):
        queue.cancel(put_job(database, queue, number))
    for turn in book.open_turns()[3:]:
        book.give_up(turn, "cancelled", at(1))
    pauses: list[float] = []

    removed = prune(database, queue, utc_now() + timedelta(days=1), batch=5, pause=pauses.append)

    assert removed == 12
    assert len(pauses) == 3


def test_a_runner_without_work_is_none(database: Database, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="needs work"):
        Runner(database, executor_id="worker-0", lock_dir=tmp_path)
