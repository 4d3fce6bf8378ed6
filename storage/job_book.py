"""What is known of every job, and what a study's state is, given its jobs."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, Row, Select, func, select, update

from configs.routes import Priority
from storage import ledger, tables
from storage.correction_tables import removed_instances
from storage.database import Database
from storage.errors import ForbiddenTransition, NotKept
from storage.records import InstanceRole, JobRecord, JobState, RemovalCause, StudyState
from storage.turns import OpenTurn, job_turn

if TYPE_CHECKING:
    from storage.jobs import Queue

#: A job in one of these is over, unless somebody asks for it again.
FINAL = frozenset({JobState.DONE, JobState.DECLINED, JobState.FAILED, JobState.SUPERSEDED})

#: A study's state by the states of the jobs of its current decision: the first row of which one job has a state.
STUDY_STATE: tuple[tuple[frozenset[JobState], StudyState], ...] = (
    (frozenset({JobState.QUEUED, JobState.RUNNING}), StudyState.ANALYSING),
    (frozenset({JobState.FAILED}), StudyState.FAILED),
    (frozenset({JobState.WAITING_FOR_ENGINE}), StudyState.WAITING_FOR_ENGINE),
    (frozenset({JobState.DONE}), StudyState.ANSWERED),
    (frozenset({JobState.DECLINED}), StudyState.DECLINED),
)

_SETTLED_BY_JOBS = frozenset({StudyState.ANALYSING, StudyState.WAITING_FOR_ENGINE})

_ANSWERED = "Every engine that was asked has answered."


def study_state_of(job_states: Collection[JobState]) -> StudyState | None:
    """Say where a study is, given the jobs of its current decision; None where they say nothing."""
    for states, study_state in STUDY_STATE:
        if states & set(job_states):
            return study_state
    return None


class JobBook:
    """The rows of all jobs."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def job(self, job_id: str) -> JobRecord:
        """Give one job; `NotKept` where there is none."""
        with self._database.read() as connection:
            return _one(connection, job_id)

    def jobs_of(self, study_instance_uid: str) -> list[JobRecord]:
        """Give the jobs of a study, those of earlier decisions first."""
        return self._jobs(
            _all()
            .where(tables.jobs.c.study_instance_uid == study_instance_uid)
            .order_by(tables.jobs.c.decision_number, tables.jobs.c.engine)
        )

    def jobs(self, states: Collection[JobState] | None = None, *, limit: int = 100, offset: int = 0) -> list[JobRecord]:
        """Give jobs, latest first; `states`: only those in one of them."""
        rows = _all().order_by(tables.jobs.c.created_at.desc(), tables.jobs.c.job_id)
        if states is not None:
            rows = rows.where(tables.jobs.c.state.in_(sorted(states)))
        return self._jobs(rows.limit(limit).offset(offset))

    def waiting(self, engine: str | None = None) -> list[JobRecord]:
        """Give the jobs whose engine was missing, oldest first; `engine`: only its."""
        rows = _all().where(tables.jobs.c.state == JobState.WAITING_FOR_ENGINE).order_by(tables.jobs.c.created_at)
        if engine is not None:
            rows = rows.where(tables.jobs.c.engine == engine)
        return self._jobs(rows)

    def begin(self, job_id: str, at: datetime) -> JobRecord | None:
        """Take a job in hand, for the first time or again after a crash.

        Returns
        -------
        JobRecord | None
            The job as it runs now; None where there is nothing to do any more: it has ended or was superseded.
        """
        with self._database.write() as connection:
            job = _one(connection, job_id, lock=True)
            if job.state not in (JobState.QUEUED, JobState.RUNNING):
                return None
            ledger.move(connection, job_id, JobState.RUNNING, reason="", at=at)
            _change(connection, job_id, attempts=job.attempts + 1, started_at=at, ended_at=None)
            return _one(connection, job_id)

    def know_runs(self, job_id: str, run_keys: Sequence[str]) -> None:
        """Note the runs that a job came to."""
        with self._database.write() as connection:
            _change(connection, job_id, run_keys=json.dumps(list(run_keys)))

    def finish(self, job_id: str, state: JobState, reason: str, at: datetime) -> None:
        """End a job, or set it to wait for its engine, and settle its study in the same effect.

        A job that ended so already stays as it is.

        Raises
        ------
        ForbiddenTransition
            The job has ended otherwise.
        """
        with self._database.write() as connection:
            self._finish(connection, job_id, state, reason, at)

    def open_turns(self) -> list[OpenTurn]:
        """Give the current turn of every job that is queued or runs."""
        with self._database.read() as connection:
            ids = connection.execute(
                select(tables.jobs.c.job_id).where(tables.jobs.c.state.in_([JobState.QUEUED, JobState.RUNNING]))
            ).scalars()
            return [OpenTurn(current_turn(connection, job_id), job_id) for job_id in ids.all()]

    def give_up(self, turn: OpenTurn, reason: str, at: datetime) -> bool:
        """Let a job fail whose turn is over, unless it ended or stands on another turn; tell whether it did."""
        with self._database.write() as connection:
            job = _one(connection, turn.subject_id)
            _lock_study(connection, job.study_instance_uid)
            job = _one(connection, turn.subject_id, lock=True)
            if job.state not in (JobState.QUEUED, JobState.RUNNING):
                return False
            if current_turn(connection, job.job_id) != turn.turn_id:
                return False
            self._finish(connection, job.job_id, JobState.FAILED, reason, at)
            return True

    def rerun(self, queue: Queue, job_id: str, at: datetime, *, reason: str = "Asked for again.") -> JobRecord:
        """Run a job again that has ended or waits for its engine: state, study and queue as one effect.

        Its findings are made once: where inputs and engine are as they were, the same results come out.

        Raises
        ------
        ForbiddenTransition
            The job is in work, its study gathers or is quarantined, or a later decision took its place.
        """
        with self._database.write() as connection:
            study = _lock_study(connection, _one(connection, job_id).study_instance_uid)
            job = _one(connection, job_id, lock=True)
            if job.state in (JobState.QUEUED, JobState.RUNNING):
                raise ForbiddenTransition(f"The job is {job.state} already.", job_id=job_id)
            if study.decision_number != job.decision_number:
                raise ForbiddenTransition("A later decision took the place of this job's.", job_id=job_id)
            if study.state in (StudyState.GATHERING, StudyState.QUARANTINED):
                raise ForbiddenTransition(f"The study is {study.state}.", job_id=job_id)
            if _has_expired(connection, job.study_instance_uid):
                raise ForbiddenTransition("Retention removed images of the study: send it again first.", job_id=job_id)
            run_again(connection, queue, job_id, at, reason)
            ledger.move(connection, job.study_instance_uid, StudyState.ANALYSING, reason=reason, at=at)
            return _one(connection, job_id)

    def _jobs(self, rows: Select[Any]) -> list[JobRecord]:
        with self._database.read() as connection:
            return [record(row) for row in connection.execute(rows).all()]

    def _finish(self, connection: Connection, job_id: str, state: JobState, reason: str, at: datetime) -> None:
        if state not in FINAL | {JobState.WAITING_FOR_ENGINE}:
            raise ValueError(f"a job does not end as {state}")
        study = _lock_study(connection, _one(connection, job_id).study_instance_uid)
        if ledger.move(connection, job_id, state, reason=reason, at=at):
            _change(connection, job_id, ended_at=at if state in FINAL else None)
        job = _one(connection, job_id)
        if study.decision_number == job.decision_number and study.state in _SETTLED_BY_JOBS:
            settle(connection, job.study_instance_uid, job.decision_number, at)


def run_again(connection: Connection, queue: Queue, job_id: str, at: datetime, reason: str) -> None:
    """Queue a job that is not in work, inside the caller's transaction; its study is the caller's to move."""
    ledger.move(connection, job_id, JobState.QUEUED, reason=reason, at=at)
    _change(connection, job_id, ended_at=None)
    priority = _one(connection, job_id).priority.rank
    queue.enqueue_analysis(connection, current_turn(connection, job_id), job_id, priority=priority)


def _has_expired(connection: Connection, study_instance_uid: str) -> bool:
    """Tell whether retention removed inputs of a study that did not come again."""
    removed = removed_instances.c
    gone = select(removed.number).where(
        removed.study_instance_uid == study_instance_uid,
        removed.cause == RemovalCause.EXPIRED,
        removed.role == InstanceRole.INPUT,
        removed.sop_instance_uid.not_in(select(tables.instances.c.sop_instance_uid)),
    )
    return connection.execute(gone.limit(1)).first() is not None


def settle(connection: Connection, study_instance_uid: str, decision_number: int, at: datetime) -> None:
    """Set a study to where the jobs of its current decision are, inside the caller's transaction."""
    jobs = [
        record(row)
        for row in connection.execute(
            _all()
            .where(tables.jobs.c.study_instance_uid == study_instance_uid)
            .where(tables.jobs.c.decision_number == decision_number)
            .order_by(tables.jobs.c.engine)
        ).all()
    ]
    state = study_state_of([job.state for job in jobs])
    if state is None:
        return
    deciding = next(states for states, study_state in STUDY_STATE if study_state is state)
    said = [f"{job.engine}: {job.reason}" for job in jobs if job.state in deciding and job.reason]
    if state is StudyState.ANSWERED:
        said = [_ANSWERED, *(f"{job.engine}: {job.reason}" for job in jobs if job.reason)]
    reason = " ".join(said)
    ledger.move(connection, study_instance_uid, state, reason=reason, at=at)


def current_turn(connection: Connection, job_id: str) -> str:
    """Name the turn that a job stands on: the ledger counts how often it was queued."""
    transitions = tables.transitions.c
    runs = connection.execute(
        select(func.count())
        .select_from(tables.transitions)
        .where(transitions.subject == "job", transitions.subject_id == job_id, transitions.to_state == JobState.QUEUED)
    ).scalar_one()
    return job_turn(job_id, runs)


def record(row: Row[Any]) -> JobRecord:
    """Make the record of a row of `jobs`."""
    return JobRecord(
        job_id=row.job_id,
        study_instance_uid=row.study_instance_uid,
        decision_number=row.decision_number,
        engine=row.engine,
        route=row.route,
        task=row.task,
        series_instance_uids=tuple(json.loads(row.series_instance_uids)),
        selection=row.selection,
        deliver_to=tuple(json.loads(row.deliver_to)),
        deliver_refusals=row.deliver_refusals,
        settle_until=row.settle_until,
        state=JobState(row.state),
        reason=row.reason,
        attempts=row.attempts,
        run_keys=tuple(json.loads(row.run_keys)),
        created_at=row.created_at,
        started_at=row.started_at,
        ended_at=row.ended_at,
        priority=Priority(row.priority),
        not_before=row.not_before,
    )


def _all() -> Select[Any]:
    return select(tables.jobs)


def _one(connection: Connection, job_id: str, *, lock: bool = False) -> JobRecord:
    wanted = _all().where(tables.jobs.c.job_id == job_id)
    row = connection.execute(wanted.with_for_update() if lock else wanted).one_or_none()
    if row is None:
        raise NotKept("There is no such job.", job_id=job_id)
    return record(row)


def _lock_study(connection: Connection, study_instance_uid: str) -> Row[Any]:
    """Lock a study's row. Who changes jobs and their study locks the study first, so that none waits crosswise."""
    studies = tables.studies
    return connection.execute(
        select(studies).where(studies.c.study_instance_uid == study_instance_uid).with_for_update()
    ).one()


def _change(connection: Connection, job_id: str, **values: Any) -> None:
    connection.execute(update(tables.jobs).where(tables.jobs.c.job_id == job_id).values(values))
