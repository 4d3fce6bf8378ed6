"""Which result objects belong to which run. Their UIDs stand here before the objects themselves are kept."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, exists, insert, select

from storage import ledger, tables
from storage.database import Database
from storage.errors import NotKept, StorageError
from storage.records import ResultRecord, ResultState
from storage.visibility import NOTE_FORM, is_note


class UidTaken(StorageError):
    """A derived UID belongs to another result already."""


#: A result in one of these stands no longer for what its engine says.
NOT_CURRENT = frozenset({ResultState.SUPERSEDED, ResultState.RETRACTED})


def utc_now() -> datetime:
    """Return the present time."""
    return datetime.now(UTC)


class ResultBook:
    """The rows of all result objects."""

    def __init__(self, database: Database, clock: Callable[[], datetime] = utc_now) -> None:
        self._database = database
        self._clock = clock

    def reserve(self, records: Sequence[ResultRecord]) -> None:
        """Name the result objects of runs as ours, before they are kept; those named already stay as they are.

        From then on a copy of one that a peer sends is known to be our own result.

        Raises
        ------
        NotKept
            A run has no findings.
        UidTaken
            A SOP Instance UID stands for another result.
        """
        with self._database.write() as connection:
            for record in records:
                _reserve(connection, record, self._clock())

    def of_study(self, study_instance_uid: str) -> list[ResultRecord]:
        """Give the results of a study, in order of engine, revision, form and kind."""
        return self._records(tables.results.c.study_instance_uid == study_instance_uid)

    def of_run(self, run_key: str) -> list[ResultRecord]:
        """Give the results of one run, in order of form and kind."""
        return self._records(tables.results.c.run_key == run_key)

    def is_ours(self, sop_instance_uid: str) -> bool:
        """Tell whether an instance is a result of this node, kept or about to be."""
        with self._database.read() as connection:
            results = tables.results.c
            row = connection.execute(select(results.run_key).where(results.sop_instance_uid == sop_instance_uid))
            return row.first() is not None

    def _records(self, wanted: ColumnElement[bool]) -> list[ResultRecord]:
        findings, later = tables.findings.c, tables.findings.alias("later")
        superseded = exists().where(
            later.c.study_instance_uid == findings.study_instance_uid,
            later.c.engine == findings.engine,
            later.c.task == findings.task,
            later.c.revision > findings.revision,
        )
        with self._database.read() as connection:
            rows = connection.execute(
                select(tables.results, findings.engine, findings.revision, superseded.label("superseded"))
                .join(tables.findings, findings.run_key == tables.results.c.run_key)
                .where(wanted)
                .order_by(findings.engine, findings.task, findings.revision, tables.results.c.form, "kind")
            ).all()
        return [_record(row) for row in rows]


def note_kept(connection: Connection, sop_instance_uids: Collection[str], at: datetime) -> None:
    """Record that result objects are kept now, in the transaction that keeps them.

    What earlier revisions said of the same (study, engine, task) is superseded by them; what a later one has
    superseded already, is so from the start.
    """
    results = tables.results.c
    rows = connection.execute(
        select(results.sop_instance_uid, results.run_key, results.form)
        .where(results.sop_instance_uid.in_(sop_instance_uids))
        .where(results.state.in_([ResultState.NAMED, ResultState.EXPIRED]))
    ).all()
    for row in rows:
        ledger.move(connection, row.sop_instance_uid, ResultState.KEPT, reason="", at=at)
    for run_key in dict.fromkeys(row.run_key for row in rows):
        _supersede(connection, run_key, at)


def _supersede(connection: Connection, run_key: str, at: datetime) -> None:
    """Have the last kept revision of a run's (study, engine, task) supersede all others."""
    findings, results = tables.findings.c, tables.results.c
    run = connection.execute(select(tables.findings).where(findings.run_key == run_key)).one()
    kept = connection.execute(
        select(results.sop_instance_uid, findings.revision)
        .join(tables.findings, findings.run_key == results.run_key)
        .where(
            findings.study_instance_uid == run.study_instance_uid,
            findings.engine == run.engine,
            findings.task == run.task,
            results.state == ResultState.KEPT,
            results.form.not_like(f"{NOTE_FORM}%"),
        )
    ).all()
    last = max((row.revision for row in kept), default=0)
    for row in kept:
        if row.revision < last:
            said = f"Revision {last} took its place."
            ledger.move(connection, row.sop_instance_uid, ResultState.SUPERSEDED, reason=said, at=at)


def _reserve(connection: Connection, record: ResultRecord, at: datetime) -> None:
    # The run's row is locked, so that two who reserve the same results come one after the other.
    run = connection.execute(
        select(tables.findings.c.run_key).where(tables.findings.c.run_key == record.run_key).with_for_update()
    ).one_or_none()
    if run is None:
        raise NotKept("A result needs kept findings.", run_key=record.run_key)
    held = connection.execute(
        select(tables.results).where(tables.results.c.sop_instance_uid == record.sop_instance_uid)
    ).one_or_none()
    if held is not None:
        if (held.run_key, held.form, held.kind) != (record.run_key, record.form, record.kind):
            raise UidTaken(sop_instance_uid=record.sop_instance_uid)
        return
    connection.execute(
        insert(tables.results).values(
            sop_instance_uid=record.sop_instance_uid,
            run_key=record.run_key,
            form=record.form,
            kind=record.kind,
            study_instance_uid=record.study_instance_uid,
            series_instance_uid=record.series_instance_uid,
            sop_class_uid=record.sop_class_uid,
            refusal=record.refusal,
            state=ResultState.NAMED.value,
            reason="",
            state_since=at,
        )
    )
    ledger.begin(connection, record.sop_instance_uid, ResultState.NAMED, reason="", at=at)


def _record(row: Row[Any]) -> ResultRecord:
    return ResultRecord(
        run_key=row.run_key,
        form=row.form,
        kind=row.kind,
        study_instance_uid=row.study_instance_uid,
        series_instance_uid=row.series_instance_uid,
        sop_instance_uid=row.sop_instance_uid,
        sop_class_uid=row.sop_class_uid,
        engine=row.engine,
        revision=row.revision,
        refusal=row.refusal,
        current=not row.superseded and row.state not in NOT_CURRENT and not is_note(row.form),
        state=ResultState(row.state),
        reason=row.reason,
    )
