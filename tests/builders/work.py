"""Studies with decisions, jobs, findings and results, as rows."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import insert, select, update

from storage import ledger, tables
from storage.database import Database
from storage.decisions import job_id_of, take
from storage.findings_store import FindingsStore
from storage.jobs import Queue
from storage.records import Decision, FindingsRecord, NewJob, ResultRecord, RouteOutcome, StudyState

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)
SR = "1.2.840.10008.5.1.4.1.1.88.34"
SEG = "1.2.840.10008.5.1.4.1.1.66.4"


def at(seconds: float) -> datetime:
    """Give a time that many seconds after noon."""
    return NOON + timedelta(seconds=seconds)


def uid_of(number: int) -> str:
    """Give a study's UID."""
    return f"1.2.826.0.1.3680043.10.1.{number}"


def put_gathering_study(database: Database, uid: str = uid_of(1), *, input_version: int = 1) -> str:
    """Insert a study that gathers."""
    with database.write() as connection:
        connection.execute(
            insert(tables.studies).values(
                study_instance_uid=uid,
                state=StudyState.GATHERING.value,
                state_since=NOON,
                input_version=input_version,
                first_received_at=NOON,
                gathering_since=NOON,
                last_instance_at=NOON,
            )
        )
        ledger.begin(connection, uid, StudyState.GATHERING, reason="", at=NOON)
    return uid


def add_late_instance(database: Database, uid: str, when: datetime) -> None:
    """Change the study as the intake does for a new input."""
    studies = tables.studies
    with database.write() as connection:
        ledger.move(connection, uid, StudyState.GATHERING, reason="a late instance", at=when)
        connection.execute(
            update(studies)
            .where(studies.c.study_instance_uid == uid)
            .values(input_version=studies.c.input_version + 1, gathering_since=when, last_instance_at=when)
        )


def study_of(database: Database, uid: str) -> Any:
    """Give a study's row."""
    with database.read() as connection:
        return connection.execute(select(tables.studies).where(tables.studies.c.study_instance_uid == uid)).one()


def transitions_of(database: Database, subject_id: str) -> list[str]:
    """Give the states that something went through, first to last."""
    transitions = tables.transitions.c
    with database.read() as connection:
        states = select(transitions.to_state).where(transitions.subject_id == subject_id).order_by(transitions.number)
        return list(connection.execute(states).scalars().all())


def new_job(engine: str = "classical-lung", *, waiting: bool = False, deliver_to: Sequence[str] = ("pacs",)) -> NewJob:
    """Make what a decision asks for."""
    return NewJob(
        engine=engine,
        route="chest-ct",
        task="default",
        series_instance_uids=("1.2.3",),
        selection="best",
        deliver_to=tuple(deliver_to),
        deliver_refusals=False,
        settle_until=NOON,
        waiting_for_engine=waiting,
    )


def decision(uid: str, *jobs: NewJob, number: int = 1, input_version: int = 1, when: datetime = NOON) -> Decision:
    """Make a decision on a study."""
    return Decision(
        study_instance_uid=uid,
        decision_number=number,
        input_version=input_version,
        evidence="quiet",
        reason="Quiet for 5 s.",
        decided_at=when,
        routes=tuple(RouteOutcome(job.route, job.engine, True, "Modality is CT.") for job in jobs),
        jobs=jobs,
    )


def put_job(database: Database, queue: Queue, number: int = 1, engine: str = "classical-lung") -> str:
    """Insert a study and decide that one engine reads it; give the job's id."""
    uid = put_gathering_study(database, uid_of(number))
    assert take(database, queue, decision(uid, new_job(engine)), to=StudyState.ANALYSING, reason="Complete.")
    return job_id_of(uid, 1, engine)


def put_findings(
    findings: FindingsStore, uid: str, run_key: str, *, content: bytes = b"findings", task: str = "default"
) -> FindingsRecord:
    """Keep findings of a run."""
    return findings.once(
        run_key,
        study_instance_uid=uid,
        engine="classical-lung",
        task=task,
        facts={"inputs": {}},
        at=NOON,
        make=lambda: content,
    )


def results_of(findings: FindingsRecord, form: str = "binary+comprehensive-3d") -> list[ResultRecord]:
    """Make the records of a run's SEG and SR."""
    return [
        ResultRecord(
            run_key=findings.run_key,
            form=form,
            kind=kind,
            study_instance_uid=findings.study_instance_uid,
            series_instance_uid=f"2.25.{findings.revision}{position}",
            sop_instance_uid=f"2.25.{int(findings.run_key[:12], 36)}{position}",
            sop_class_uid=sop_class,
            engine=findings.engine,
            revision=findings.revision,
            refusal=False,
            current=True,
        )
        for position, (kind, sop_class) in enumerate((("seg", SEG), ("sr", SR)), start=1)
    ]
