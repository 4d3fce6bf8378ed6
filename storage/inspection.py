"""Disk, index and queue held against each other: every fault that can be seen, and what would be done about it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import Column, Row, Table, exists, func, select

from storage import tables
from storage.blobs import LocalBlobs
from storage.correction_tables import removed_files
from storage.database import Database
from storage.deliveries import Deliveries
from storage.errors import NotKept, UnreadableInstance
from storage.job_book import JobBook
from storage.jobs import Queue
from storage.part10 import pass_file_meta
from storage.reconcile import orphans
from storage.records import InstanceRole, JobState, StudyState
from storage.turns import ALIVE, OpenTurn, TurnBook

_PAGE = 500
_CHUNK = 1 << 20


class FaultKind(StrEnum):
    """What does not agree."""

    HALF_WRITTEN = "half-written file"
    ORPHAN = "file without a row"
    MISSING_FILE = "row without a file"
    WRONG_FILE = "file with other bytes"
    FINDINGS_WITHOUT_ROW = "findings without a row"
    MISSING_FINDINGS = "findings without their content"
    NOT_DELETED = "deleted instance with a file"
    MISSING_JSON = "instance without metadata"
    WRONG_COUNT = "wrong count"
    STUCK_JOB = "stuck job"
    STUCK_DELIVERY = "stuck delivery"
    UNSETTLED = "unsettled study"
    NOT_AT_DESTINATION = "delivered and not there"
    UNEXPLAINED = "unexplained"


#: What a repair does; a kind that is not here is reported and left to a person.
REPAIRS: Mapping[FaultKind, str] = {
    FaultKind.HALF_WRITTEN: "removed: nobody was told that it is kept",
    FaultKind.ORPHAN: "entered through the one door again",
    FaultKind.MISSING_FILE: "a result is built again; an image must be sent again",
    FaultKind.WRONG_FILE: "set aside; a result is built again, an image must be sent again",
    FaultKind.FINDINGS_WITHOUT_ROW: "removed: its run was never recorded",
    FaultKind.NOT_DELETED: "deleted",
    FaultKind.MISSING_JSON: "made again in the background",
    FaultKind.WRONG_COUNT: "counted again",
    FaultKind.STUCK_JOB: "asked for again",
    FaultKind.STUCK_DELIVERY: "asked for again",
    FaultKind.UNSETTLED: "settled by its jobs",
    FaultKind.NOT_AT_DESTINATION: "sent again",
}


@dataclass(frozen=True)
class Fault:
    """One thing that does not agree."""

    kind: FaultKind
    subject_id: str
    """A path, UID, or the id of a job or delivery."""
    why: str
    turn: OpenTurn | None = None
    """Of what is stuck: the turn that is over."""


class Inspection:
    """Looks at everything, in short reads, while the node works on."""

    def __init__(self, database: Database, blobs: LocalBlobs, queue: Queue) -> None:
        self._database = database
        self._blobs = blobs
        self._queue = queue

    def faults(self, *, before: datetime, digests: bool = False) -> Iterator[Fault]:
        """Give what does not agree, in an order in which it can be repaired.

        Parameters
        ----------
        before
            Files placed later may still get their row.
        digests
            Whether each file is read and its SHA-256 compared, not its size alone.
        """
        yield from self._half_written()
        yield from self._not_deleted()
        yield from self._files(tables.instances, digests=digests)
        yield from self._files(tables.variants, digests=digests)
        for path in orphans(self._database, self._blobs, before):
            yield Fault(FaultKind.ORPHAN, path, "It was placed and its row was never committed.")
        yield from self._findings(before)
        yield from self._json()
        yield from self._counts()
        yield from self._stuck(FaultKind.STUCK_JOB, JobBook(self._database))
        yield from self._stuck(FaultKind.STUCK_DELIVERY, Deliveries(self._database, self._queue))
        yield from self._unsettled()

    def _half_written(self) -> Iterator[Fault]:
        for path in self._blobs.leftovers():
            yield Fault(FaultKind.HALF_WRITTEN, path, "The process that wrote it is gone.")

    def _not_deleted(self) -> Iterator[Fault]:
        with self._database.read() as connection:
            paths = connection.execute(select(removed_files.c.path).order_by(removed_files.c.path)).scalars().all()
        for path in paths:
            yield Fault(FaultKind.NOT_DELETED, path, "Its row is gone.")

    def _files(self, table: Table, *, digests: bool) -> Iterator[Fault]:
        columns = table.c
        for row in self._pages(table, columns.path, (columns.sop_instance_uid, columns.size, columns.sha256)):
            try:
                size = self._blobs.size(row.path)
            except NotKept:
                yield Fault(FaultKind.MISSING_FILE, row.sop_instance_uid, f"{row.path} is not there.")
                continue
            if size != row.size:
                said = f"{row.path} has {size} bytes instead of {row.size}."
                yield Fault(FaultKind.WRONG_FILE, row.sop_instance_uid, said)
            elif digests and digest_of(self._blobs, row.path) != row.sha256:
                yield Fault(FaultKind.WRONG_FILE, row.sop_instance_uid, f"{row.path} has another SHA-256.")

    def _findings(self, before: datetime) -> Iterator[Fault]:
        table = tables.findings
        known: set[str] = set()
        for row in self._pages(table, table.c.path, (table.c.run_key,)):
            known.add(row.path)
            if not self._blobs.exists(row.path):
                yield Fault(FaultKind.MISSING_FINDINGS, row.run_key, f"{row.path} is not there.")
        for path in findings_without_row(self._database, self._blobs, before):
            if path not in known:
                yield Fault(FaultKind.FINDINGS_WITHOUT_ROW, path, "No run refers to it.")

    def _json(self) -> Iterator[Fault]:
        """Instances whose DICOM JSON is neither kept nor to be made."""
        segments = tables.json_segments
        series = tables.series.c
        for row in self._pages(tables.series, series.series_instance_uid, (series.study_instance_uid,)):
            instances = tables.instances.c
            pending = exists().where(tables.json_pending.c.sop_instance_uid == instances.sop_instance_uid)
            of_series = (
                instances.study_instance_uid == row.study_instance_uid,
                instances.series_instance_uid == row.series_instance_uid,
            )
            with self._database.read() as connection:
                wanted = set(
                    connection.execute(select(instances.sop_instance_uid).where(*of_series, ~pending)).scalars()
                )
                entries = connection.execute(
                    select(segments.c.entries)
                    .where(segments.c.study_instance_uid == row.study_instance_uid)
                    .where(segments.c.series_instance_uid == row.series_instance_uid)
                ).scalars()
                made = {entry[0] for text in entries for entry in json.loads(text)}
            for uid in sorted(wanted - made):
                yield Fault(FaultKind.MISSING_JSON, uid, "Its metadata is neither kept nor to be made.")

    def _counts(self) -> Iterator[Fault]:
        studies = tables.studies.c
        columns = (studies.number_of_instances, studies.number_of_inputs, studies.size_bytes)
        for row in self._pages(tables.studies, studies.study_instance_uid, columns):
            with self._database.read() as connection:
                told, counted = counts_of(connection, row.study_instance_uid)
            if told != counted:
                yield Fault(FaultKind.WRONG_COUNT, row.study_instance_uid, f"It says {told} and has {counted}.")

    def _stuck(self, kind: FaultKind, book: TurnBook) -> Iterator[Fault]:
        turns = book.open_turns()
        states = self._queue.states(turn.turn_id for turn in turns)
        for turn in turns:
            if states[turn.turn_id] not in ALIVE:
                said = f"Its turn in the queue is {states[turn.turn_id]}."
                yield Fault(kind, turn.subject_id, said, turn)

    def _unsettled(self) -> Iterator[Fault]:
        """Studies that count as being analysed though no job of their decision is in work."""
        studies, jobs = tables.studies.c, tables.jobs.c
        working = exists().where(
            jobs.study_instance_uid == studies.study_instance_uid,
            jobs.decision_number == studies.decision_number,
            jobs.state.in_([JobState.QUEUED, JobState.RUNNING]),
        )
        wanted = select(studies.study_instance_uid).where(studies.state == StudyState.ANALYSING, ~working)
        with self._database.read() as connection:
            uids = connection.execute(wanted.order_by(studies.study_instance_uid)).scalars().all()
        for uid in uids:
            yield Fault(FaultKind.UNSETTLED, uid, "It is being analysed, and no job of its decision is in work.")

    def _pages(self, table: Table, key: Column[Any], others: Sequence[Column[Any]]) -> Iterator[Row[Any]]:
        """Read a table in pages, by the primary key of its rows."""
        primary = list(table.primary_key.columns)
        last: tuple[Any, ...] | None = None
        while True:
            wanted = select(key, *others, *(each.label(f"key_{n}") for n, each in enumerate(primary)))
            if last is not None:
                wanted = wanted.where(_after(primary, last))
            with self._database.read() as connection:
                rows = connection.execute(wanted.order_by(*primary).limit(_PAGE)).all()
            if not rows:
                return
            yield from rows
            last = tuple(getattr(rows[-1], f"key_{n}") for n in range(len(primary)))


def _after(columns: Sequence[Column[Any]], last: Sequence[Any]) -> Any:
    """Give the condition that a row comes after a key; row values compare alike on both engines."""
    condition: Any = columns[-1] > last[-1]
    for column, value in list(zip(columns, last, strict=True))[-2::-1]:
        condition = (column > value) | ((column == value) & condition)
    return condition


def digest_of(blobs: LocalBlobs, path: str) -> str:
    """Give the SHA-256 of the data set in a file; empty: it cannot be read."""
    digest = hashlib.sha256()
    try:
        with blobs.open(path) as file:
            pass_file_meta(file)
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
    except (NotKept, UnreadableInstance):
        return ""
    return digest.hexdigest()


def findings_without_row(database: Database, blobs: LocalBlobs, before: datetime) -> Iterator[str]:
    """Give findings that were placed before a time and that no run refers to."""
    for digit in range(16):
        prefix = f"findings/{digit:x}"
        if files := list(blobs.placed(prefix, before=before)):
            with database.read() as connection:
                wanted = select(tables.findings.c.path).where(tables.findings.c.path.startswith(prefix))
                known = set(connection.execute(wanted).scalars())
            yield from (path for path in files if path not in known)


def counts_of(connection: Any, study_instance_uid: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Give what a study's row says - instances, inputs, bytes - and what its instances come to."""
    studies, instances = tables.studies.c, tables.instances.c
    told = connection.execute(
        select(studies.number_of_instances, studies.number_of_inputs, studies.size_bytes).where(
            studies.study_instance_uid == study_instance_uid
        )
    ).one_or_none()
    role = instances.role == InstanceRole.INPUT.value
    counted = connection.execute(
        select(
            func.count(),
            func.count().filter(role),
            func.coalesce(func.sum(instances.size), 0),
        ).where(instances.study_instance_uid == study_instance_uid)
    ).one()
    numbers = tuple(int(each) for each in counted)
    return (numbers if told is None else tuple(int(each) for each in told)), numbers
