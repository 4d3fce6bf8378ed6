"""That a study is complete: decided once for each state of its input, with all that follows, as one effect."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING

from sqlalchemy import Connection, insert, select, update

from storage import ledger, tables
from storage.database import Database
from storage.job_book import current_turn, record, study_state_of
from storage.records import Decision, JobRecord, JobState, NewJob, RouteOutcome, StudyState

if TYPE_CHECKING:
    from storage.jobs import Queue


def take(database: Database, queue: Queue, decision: Decision, *, to: StudyState, reason: str) -> bool:
    """Decide, if the study is still as the decision saw it.

    One transaction: the study's state and decision number, the ledger, the decision, its jobs, their place in
    the queue, and the end of jobs of earlier decisions that have not begun.

    Parameters
    ----------
    to
        Where the study goes; where there are jobs it follows from them.
    reason
        Why, for the ledger and the console.

    Returns
    -------
    bool
        False: something changed since (an instance came, somebody else decided); nothing was written.
    """
    states = [_first_state(job) for job in decision.jobs]
    if states and study_state_of(states) is not to:
        raise ValueError(f"jobs {states} leave no study {to}")
    with database.write() as connection:
        if not _claim(connection, decision):
            return False
        uid, at = decision.study_instance_uid, decision.decided_at
        ledger.move(connection, uid, to, reason=reason, at=at)
        connection.execute(
            insert(tables.decisions).values(
                study_instance_uid=uid,
                decision_number=decision.decision_number,
                input_version=decision.input_version,
                evidence=decision.evidence,
                reason=decision.reason,
                decided_at=at,
                routes=json.dumps([asdict(outcome) for outcome in decision.routes]),
            )
        )
        _supersede_earlier(connection, decision)
        for job in decision.jobs:
            _begin_job(connection, queue, decision, job)
    return True


def decisions_of(database: Database, study_instance_uid: str) -> list[Decision]:
    """Give the decisions on a study, first to last, with their jobs as these are now."""
    decisions, jobs = tables.decisions, tables.jobs
    with database.read() as connection:
        rows = connection.execute(
            select(decisions)
            .where(decisions.c.study_instance_uid == study_instance_uid)
            .order_by(decisions.c.decision_number)
        ).all()
        records = [
            record(row)
            for row in connection.execute(
                select(jobs).where(jobs.c.study_instance_uid == study_instance_uid).order_by(jobs.c.engine)
            ).all()
        ]
    return [
        Decision(
            study_instance_uid=row.study_instance_uid,
            decision_number=row.decision_number,
            input_version=row.input_version,
            evidence=row.evidence,
            reason=row.reason,
            decided_at=row.decided_at,
            routes=tuple(RouteOutcome(**outcome) for outcome in json.loads(row.routes)),
            jobs=tuple(_as_asked(job) for job in records if job.decision_number == row.decision_number),
        )
        for row in rows
    ]


def job_id_of(study_instance_uid: str, decision_number: int, engine: str) -> str:
    """Name the job of one engine on one decision of a study."""
    return f"{study_instance_uid}:{decision_number}:{engine}"


def _claim(connection: Connection, decision: Decision) -> bool:
    """Set the decision's number on the study, only while the study is as the decision saw it."""
    studies = tables.studies.c
    claimed = connection.execute(
        update(tables.studies)
        .where(
            studies.study_instance_uid == decision.study_instance_uid,
            studies.state == StudyState.GATHERING,
            studies.input_version == decision.input_version,
            studies.decision_number == decision.decision_number - 1,
        )
        .values(decision_number=decision.decision_number)
    )
    return claimed.rowcount == 1


def _first_state(job: NewJob) -> JobState:
    return JobState.WAITING_FOR_ENGINE if job.waiting_for_engine else JobState.QUEUED


def _begin_job(connection: Connection, queue: Queue, decision: Decision, job: NewJob) -> None:
    job_id = job_id_of(decision.study_instance_uid, decision.decision_number, job.engine)
    state = _first_state(job)
    reason = f"{job.engine} is not installed." if job.waiting_for_engine else ""
    connection.execute(
        insert(tables.jobs).values(
            job_id=job_id,
            study_instance_uid=decision.study_instance_uid,
            decision_number=decision.decision_number,
            engine=job.engine,
            route=job.route,
            task=job.task,
            series_instance_uids=json.dumps(list(job.series_instance_uids)),
            selection=job.selection,
            deliver_to=json.dumps(list(job.deliver_to)),
            deliver_refusals=job.deliver_refusals,
            settle_until=job.settle_until,
            state=state.value,
            reason=reason,
            created_at=decision.decided_at,
        )
    )
    ledger.begin(connection, job_id, state, reason=reason, at=decision.decided_at)
    if state is JobState.QUEUED:
        queue.enqueue_analysis(connection, current_turn(connection, job_id), job_id)


def _supersede_earlier(connection: Connection, decision: Decision) -> None:
    """End what has not begun of earlier decisions. Its turns find nothing to do when the queue comes to them."""
    jobs = tables.jobs.c
    earlier = connection.execute(
        select(jobs.job_id).where(
            jobs.study_instance_uid == decision.study_instance_uid,
            jobs.decision_number < decision.decision_number,
            jobs.state.in_([JobState.QUEUED, JobState.WAITING_FOR_ENGINE]),
        )
    ).scalars()
    reason = f"Decision {decision.decision_number} took its place."
    for job_id in earlier.all():
        _supersede(connection, job_id, reason, decision.decided_at)


def _supersede(connection: Connection, job_id: str, reason: str, at: datetime) -> None:
    # Locked before it is moved: a worker may have begun it since.
    state = connection.execute(
        select(tables.jobs.c.state).where(tables.jobs.c.job_id == job_id).with_for_update()
    ).scalar_one()
    if state in (JobState.QUEUED, JobState.WAITING_FOR_ENGINE):
        ledger.move(connection, job_id, JobState.SUPERSEDED, reason=reason, at=at)
        connection.execute(update(tables.jobs).where(tables.jobs.c.job_id == job_id).values(ended_at=at))


def _as_asked(job: JobRecord) -> NewJob:
    return NewJob(
        engine=job.engine,
        route=job.route,
        task=job.task,
        series_instance_uids=job.series_instance_uids,
        selection=job.selection,
        deliver_to=job.deliver_to,
        deliver_refusals=job.deliver_refusals,
        settle_until=job.settle_until,
        waiting_for_engine=job.state is JobState.WAITING_FOR_ENGINE,
    )
