"""That a study is complete: decided once for each state of its input, with all that follows, as one effect."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from sqlalchemy import Connection, func, insert, select, update

from configs.routes import Priority
from storage import ledger, tables
from storage.database import Database
from storage.errors import NotKept
from storage.job_book import current_turn, record, run_again, study_state_of
from storage.originals import ask_onward
from storage.prior_book import ask_for_priors
from storage.records import Decision, JobRecord, JobState, NewJob, RouteOutcome, StudyState

if TYPE_CHECKING:
    from storage.jobs import Queue

_AN_HOUR = timedelta(hours=1)
#: Jobs that were decided before this are not looked at for the next free slot of their rule.
_SLOTS_SEEN = timedelta(days=2)
_NOT_TO_ANALYSE = (StudyState.GATHERING, StudyState.QUARANTINED, StudyState.DOCUMENTS)


def take(database: Database, queue: Queue, decision: Decision, *, to: StudyState, reason: str) -> bool:
    """Decide, if the study is still as the decision saw it.

    One transaction: the study's state and decision number, the ledger, the decision, its jobs, the originals
    that go onward, their place in the queue, and the end of jobs of earlier decisions that have not begun.

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
            _begin_job(connection, queue, uid, decision.decision_number, job, at)
        for asked in decision.priors:
            ask_for_priors(connection, uid, asked, at)
        for onward in decision.onward:
            ask_onward(connection, queue, uid, decision.decision_number, onward, at)
    return True


def ask_for_job(connection: Connection, queue: Queue, study_instance_uid: str, job: NewJob, at: datetime) -> str | None:
    """Have an engine read a decided study, whatever the rules say; give the job's id.

    An engine that reads it already goes on; one that has read it reads it again, and the same inputs come to the
    same results. None: the study is not decided on yet, or must not be analysed.

    Raises
    ------
    NotKept
        There is no such study.
    """
    studies, jobs = tables.studies, tables.jobs
    study = connection.execute(
        select(studies).where(studies.c.study_instance_uid == study_instance_uid).with_for_update()
    ).one_or_none()
    if study is None:
        raise NotKept("No such study is kept here.", study_instance_uid=study_instance_uid)
    if not study.decision_number or study.state in _NOT_TO_ANALYSE:
        return None
    job_id = job_id_of(study_instance_uid, study.decision_number, job.engine)
    this = jobs.c.job_id == job_id
    held = connection.execute(select(jobs.c.state).where(this).with_for_update()).scalar_one_or_none()
    if held in (JobState.QUEUED, JobState.RUNNING):
        return job_id
    said = f"{job.engine} was asked for by {job.route}."
    if held is None:
        _begin_job(connection, queue, study_instance_uid, study.decision_number, job, at)
    else:
        again = {"series_instance_uids": json.dumps(list(job.series_instance_uids)), "selection": job.selection}
        again |= {"priority": job.priority.value}
        connection.execute(update(jobs).where(this).values(created_at=at, **again))
        run_again(connection, queue, job_id, at, said)
    to = study_state_of([_first_state(job)]) if held is None else StudyState.ANALYSING
    if to is StudyState.ANALYSING or study.state == StudyState.UNMATCHED:
        ledger.move(connection, study_instance_uid, to or StudyState.ANALYSING, reason=said, at=at)
    return job_id


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


def _begin_job(
    connection: Connection, queue: Queue, study_instance_uid: str, decision_number: int, job: NewJob, at: datetime
) -> None:
    job_id = job_id_of(study_instance_uid, decision_number, job.engine)
    state = _first_state(job)
    reason = f"{job.engine} is not installed." if job.waiting_for_engine else ""
    not_before = _next_slot(connection, job, at) if state is JobState.QUEUED else None
    if not_before is not None:
        most = f'rule "{job.route}" starts at most {job.at_most_per_hour} jobs in an hour'
        reason = f"Waits until {not_before:%Y-%m-%d %H:%M:%S} UTC: {most}."
    connection.execute(
        insert(tables.jobs).values(
            job_id=job_id,
            study_instance_uid=study_instance_uid,
            decision_number=decision_number,
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
            created_at=at,
            priority=job.priority.value,
            not_before=not_before,
        )
    )
    ledger.begin(connection, job_id, state, reason=reason, at=at)
    if state is JobState.QUEUED:
        delay_s = (not_before - at).total_seconds() if not_before else 0.0
        turn_id = current_turn(connection, job_id)
        queue.enqueue_analysis(connection, turn_id, job_id, priority=job.priority.rank, delay_s=delay_s)


def _next_slot(connection: Connection, job: NewJob, at: datetime) -> datetime | None:
    """When a job may start so that its rule starts no more than it may in any hour; None: at once."""
    if job.at_most_per_hour is None or job.priority is Priority.STAT:
        return None
    jobs = tables.jobs.c
    starts_at = func.coalesce(jobs.not_before, jobs.created_at, type_=tables.UtcDateTime())
    nth_latest: datetime | None = connection.execute(
        select(starts_at)
        .where(jobs.route == job.route, jobs.state != JobState.SUPERSEDED, jobs.created_at > at - _SLOTS_SEEN)
        .order_by(starts_at.desc())
        .offset(job.at_most_per_hour - 1)
        .limit(1)
    ).scalar_one_or_none()
    if nth_latest is None or nth_latest + _AN_HOUR <= at:
        return None
    return nth_latest + _AN_HOUR


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
        priority=job.priority,
    )
