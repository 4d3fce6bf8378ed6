"""Work items that name an engine of this node: begun once their study is decided on, ended as their job ends."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

from configs.routes import Priority
from dicom_node.worker.turns import Turns
from storage.database import Database
from storage.decisions import ask_for_job
from storage.errors import NotKept
from storage.index import Index
from storage.job_book import JobBook
from storage.jobs import Queue
from storage.model_writer import first_text, items_of
from storage.records import JobRecord, JobState, NewJob, ResultRecord
from storage.results import ResultBook
from storage.urgency import urgency_of
from storage.visibility import CANONICAL_FORM
from storage.workitems import (
    Workitem,
    Workitems,
    claim_for_job,
    end_canceled,
    end_completed,
    let_go_of_job,
)

log = logging.getLogger(__name__)

#: Seconds between two looks.
EVERY_S = 0.5
#: What asks for the job, where rules ask for others.
ROUTE = "work item"


@dataclass(frozen=True)
class WorkitemParts:
    """What work items need."""

    database: Database
    queue: Queue
    index: Index
    workitems: Workitems
    jobs: JobBook
    results: ResultBook


class WorkitemWatch:
    """Looks at open work items, again and again."""

    def __init__(self, parts: WorkitemParts) -> None:
        self._parts = parts
        self._turns = Turns("workitem_failed")

    def tick(self, now: datetime) -> int:
        """Begin and end what is due; give how many work items changed."""
        parts = self._parts
        due = [(item, begin) for item in parts.workitems.to_begin()]
        due += [(item, settle) for item in parts.workitems.in_work()]
        return sum(bool(self._turns.take(item.workitem_uid, now, partial(act, item, now, parts))) for item, act in due)

    def run(self, stop: threading.Event, now: Callable[[], datetime], *, every_s: float = EVERY_S) -> None:
        """Look until told to stop."""
        looks = Turns("workitems_failed")
        while not stop.wait(every_s):
            looks.take("tick", now(), lambda: bool(self.tick(now())))


def begin(item: Workitem, now: datetime, parts: WorkitemParts) -> bool:
    """Ask for the job of a work item; not yet where its study is not here or not decided on."""
    named = series_of(item)
    there = {each.series_instance_uid for each in parts.index.inputs_of(item.study_instance_uid)}
    chosen = tuple(sorted(there & set(named) if named else there))
    if not chosen:
        return False
    job = NewJob(
        engine=item.engine,
        route=ROUTE,
        task="default",
        series_instance_uids=chosen,
        selection="best" if not named or len(chosen) == 1 else "each",
        deliver_to=(),
        deliver_refusals=False,
        settle_until=now,
        priority=urgency_of(item.attributes) or Priority.ROUTINE,
    )
    with parts.database.write() as connection:
        job_id = ask_for_job(connection, parts.queue, item.study_instance_uid, job, now)
        if job_id is None:
            return False
        if not claim_for_job(connection, item, job_id, now):
            raise NotKept("The work item was taken by another.")  # and the job with it is not asked for
    log.info("work item begun", extra={"action": "workitem_begun", "workitem_uid": item.workitem_uid, "job_id": job_id})
    return True


def settle(item: Workitem, now: datetime, parts: WorkitemParts) -> bool:
    """End a work item whose job has ended; one whose job was superseded asks for another."""
    try:
        job = parts.jobs.job(item.job_id)
    except NotKept:
        with parts.database.write() as connection:
            end_canceled(connection, item, "The study was deleted.", now)
        return True
    if job.state in (JobState.QUEUED, JobState.RUNNING, JobState.WAITING_FOR_ENGINE):
        return False
    performed = performed_by(job, parts)
    with parts.database.write() as connection:
        if job.state is JobState.SUPERSEDED:
            let_go_of_job(connection, item)
        elif job.state is JobState.DONE:
            end_completed(connection, item, job.reason, performed, now)
        else:
            end_canceled(connection, item, job.reason, now, performed)
    return True


def series_of(item: Workitem) -> list[str]:
    """Give the series that the Input Information Sequence names; none: all of the study."""
    inputs = items_of(item.attributes, "00404021")
    return [uid for each in inputs if (uid := first_text(each, "0020000E"))]


def performed_by(job: JobRecord, parts: WorkitemParts) -> dict[str, Any]:
    """Give the Unified Procedure Step Performed Procedure Sequence: where the results are.

    Source: PS3.4 Table CC.2.5-3, PS3.3 C.30.3 (Output Information Sequence).
    """
    records = [each for key in job.run_keys for each in parts.results.of_run(key) if each.form == CANONICAL_FORM]
    item: dict[str, Any] = {"00404033": _sequence([_output(each) for each in records])}
    if job.started_at is not None:
        item["00404050"] = _moment(job.started_at)
    if job.ended_at is not None:
        item["00404051"] = _moment(job.ended_at)
    return {"00741216": _sequence([item])}


def _output(record: ResultRecord) -> dict[str, Any]:
    reference = {"00081150": _uid(record.sop_class_uid), "00081155": _uid(record.sop_instance_uid)}
    return {
        "0020000D": _uid(record.study_instance_uid),
        "0020000E": _uid(record.series_instance_uid),
        "00081199": _sequence([reference]),
        "0040E020": {"vr": "CS", "Value": ["DICOM"]},
    }


def _sequence(items: Sequence[dict[str, Any]]) -> dict[str, Any]:
    return {"vr": "SQ", "Value": list(items)} if items else {"vr": "SQ"}


def _uid(value: str) -> dict[str, Any]:
    return {"vr": "UI", "Value": [value]}


def _moment(at: datetime) -> dict[str, Any]:
    return {"vr": "DT", "Value": [f"{at:%Y%m%d%H%M%S}+0000"]}
