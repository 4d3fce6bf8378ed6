"""Processes that a test may kill at any moment: one decides, one analyses, one delivers.

python -m tests.builders.children decider|worker|courier|killer URL FOLDER
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from sqlalchemy import select

from storage import tables
from storage.blobs import LocalBlobs
from storage.database import Database
from storage.decisions import decisions_of, take
from storage.deliveries import Deliveries
from storage.findings_store import FindingsStore
from storage.job_book import JobBook
from storage.jobs import Analysis, Delivery, Queue, Runner, utc_now
from storage.records import DeliveryState, ItemState, JobState, StudyState
from storage.results import ResultBook
from tests.builders.work import add_late_instance, decision, new_job, put_gathering_study, results_of, uid_of

ROOT = Path(__file__).parents[2]
FORM = "binary+comprehensive-3d"
STUDIES = 24
#: Studies whose late instance leads to a second decision.
LATE = frozenset(range(1, STUDIES + 1, 3))


def start(role: str, url: str, folder: Path) -> subprocess.Popen[bytes]:
    """Start one process."""
    return subprocess.Popen(
        [sys.executable, "-m", "tests.builders.children", role, url, str(folder)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )


def decisions_expected(number: int) -> int:
    """Count the decisions that a study comes to."""
    return 2 if number in LATE else 1


def run_key_of(job_id: str) -> str:
    """Name the run of a job, by study and decision."""
    uid, number, _ = job_id.split(":")
    return f"k{uid.rsplit('.', 1)[1]}d{number}"


def decide_all(database: Database, queue: Queue) -> None:
    """Let each study be complete, and those with a late instance once more."""
    while True:
        left = [number for number in range(1, STUDIES + 1) if not _decide(database, queue, number)]
        if not left:
            return
        time.sleep(0.05)


def _decide(database: Database, queue: Queue, number: int) -> bool:
    uid = uid_of(number)
    with database.read() as connection:
        study = connection.execute(
            select(tables.studies).where(tables.studies.c.study_instance_uid == uid)
        ).one_or_none()
    if study is None:
        put_gathering_study(database, uid)
        return False
    if study.state == StudyState.GATHERING:
        wanted = decision(
            uid,
            new_job(),
            number=study.decision_number + 1,
            input_version=study.input_version,
            when=utc_now(),
        )
        take(database, queue, wanted, to=StudyState.ANALYSING, reason="Complete.")
        return False
    if len(decisions_of(database, uid)) < decisions_expected(number):
        add_late_instance(database, uid, utc_now())
        return False
    return True


def analysis(database: Database, queue: Queue, blobs: LocalBlobs) -> Analysis:
    """Make steps that do what a worker does, without pictures."""
    book, findings = JobBook(database), FindingsStore(database, blobs)

    def infer(job_id: str) -> None:
        job = book.begin(job_id, utc_now())
        if job is None:
            return
        time.sleep(0.02)
        findings.once(
            run_key_of(job_id),
            study_instance_uid=job.study_instance_uid,
            engine=job.engine,
            task=job.task,
            facts={},
            at=utc_now(),
            make=job_id.encode,
        )
        book.know_runs(job_id, [run_key_of(job_id)])

    def publish(job_id: str) -> None:
        job = book.job(job_id)
        if job.state is not JobState.RUNNING:
            return
        record = findings.of(run_key_of(job_id))
        assert record is not None
        results = results_of(record)
        ResultBook(database).reserve(results)
        items = [(result.sop_instance_uid, result.kind) for result in results]
        Deliveries(database, queue).ask_for(
            job_id,
            record.run_key,
            FORM,
            job.study_instance_uid,
            items,
            job.deliver_to,
            not_before=utc_now(),
            at=utc_now(),
        )
        book.finish(job_id, JobState.DONE, "", utc_now())

    return Analysis((("infer", infer), ("publish", publish)), book)


def delivery(database: Database, queue: Queue, received: Path) -> Delivery:
    """Make a courier whose destination is a folder: a copy sent again replaces itself."""
    deliveries = Deliveries(database, queue)

    def deliver(delivery_id: str, attempt: int) -> None:
        one = deliveries.begin(delivery_id, attempt, utc_now())
        if one is None:
            return
        for item in one.items:
            (received / item.sop_instance_uid).write_text(delivery_id)
            time.sleep(0.01)
            deliveries.item_answered(delivery_id, item.sop_instance_uid, ItemState.ACCEPTED, 0, "", utc_now())
        deliveries.finish(delivery_id, DeliveryState.DELIVERED, "", utc_now())

    return Delivery(deliver, deliveries)


def killer(database: Database, folder: Path) -> Analysis:
    """Make an analysis that ends its process, and counts how often."""
    book = JobBook(database)

    def infer(job_id: str) -> None:
        book.begin(job_id, utc_now())
        with (folder / "starts").open("a") as starts:
            starts.write("x")
        os._exit(9)

    return Analysis((("infer", infer),), book)


def main(role: str, url: str, folder: Path) -> None:
    """Do one role until killed."""
    database = Database(url)
    queue, blobs = Queue(database), LocalBlobs(folder / "blobs")
    if role == "decider":
        decide_all(database, queue)
        return
    works: dict[str, Callable[[], Runner]] = {
        "worker": lambda: _runner(role, database, folder, analysis=analysis(database, queue, blobs)),
        "courier": lambda: _runner(role, database, folder, delivery=delivery(database, queue, folder / "received")),
        "killer": lambda: _runner(role, database, folder, analysis=killer(database, folder)),
    }
    works[role]().start()
    threading.Event().wait()


def _runner(role: str, database: Database, folder: Path, **work: Analysis | Delivery) -> Runner:
    return Runner(database, executor_id=f"{role}-0", lock_dir=folder / "locks", reap_every_s=0.2, **work)  # type: ignore[arg-type]


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
