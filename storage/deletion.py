"""Studies, series and instances taken out for good, as somebody asked: rows, results and files.

What the node is answerable for stays: what it committed to keep, what is being analysed, results that were not
delivered, and sources of results unless these go with them. Rows go in one transaction, which notes the files;
a file that a kill leaves is removed later, and never taken in again.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import ColumnElement, Connection, Row, Select, and_, delete, exists, func, insert, not_, select, update

from storage import ledger, tables
from storage.audit import AuditAction, AuditOutcome, write_event
from storage.blobs import BlobStore
from storage.correction_tables import rejection_notes, removed_files, removed_instances, retractions
from storage.database import Database
from storage.errors import NotKept, Undeletable
from storage.json_store import make_again
from storage.records import (
    EVERYTHING,
    DeliveryState,
    InstanceRole,
    InstanceState,
    JobState,
    StudyFilter,
    StudyState,
)
from storage.retractions import Retraction, retract
from storage.turns import delivery_turn
from storage.visibility import NOTE_FORM, may_see

if TYPE_CHECKING:
    from storage.jobs import Queue

_IN_WORK = (JobState.QUEUED, JobState.RUNNING)
_UNDELIVERED = (DeliveryState.WAITING, DeliveryState.SENDING, DeliveryState.FAILED)
_AT_ONCE = 500
#: Code value of Data Retention Policy Expired: nothing was wrong with what is taken back. Source: PS3.16 CID 7011.
EXPIRED = "113039"


@dataclass(frozen=True)
class Named:
    """What is to be deleted."""

    study_instance_uid: str
    series_instance_uid: str | None = None
    sop_instance_uid: str | None = None

    def __str__(self) -> str:
        uids = (self.study_instance_uid, self.series_instance_uid, self.sop_instance_uid)
        return "/".join(uid for uid in uids if uid)


class Deletion:
    """Deletes."""

    def __init__(self, database: Database, blobs: BlobStore, queue: Queue) -> None:
        self._database = database
        self._blobs = blobs
        self._queue = queue

    def delete(self, named: Named, *, visible: StudyFilter = EVERYTHING, by: str, at: datetime) -> int:
        """Delete what is named; give the number of instances. The audit trail has it in the same effect.

        The last instances of a study take all of it with them: decisions, jobs, findings, deliveries. Where results
        of it went out, they are taken back first: who got them gets a note, and then the study may be deleted.

        Raises
        ------
        NotKept
            There is no such thing, or the asker may not see it.
        Undeletable
            It may not go, now or at all; the message says why.
        """
        if taken_back := self._take_back(named, visible, by, at):
            raise Undeletable(taken_back)
        self._forget_turns(named.study_instance_uid)
        with self._database.write() as connection:
            study = _locked(connection, named.study_instance_uid, visible)
            rows = _instances(connection, named)
            _refuse_in_use(connection, study)
            _refuse_committed(connection, named)
            if len(rows) == study.number_of_instances:
                paths = _whole_study(connection, study, at, by)
            else:
                paths = _part(connection, study, named, rows, at, by)
            _note_removed(connection, named, rows, at, by)
            connection.execute(insert(removed_files), [{"path": path, "removed_at": at} for path in paths])
            said = f"{named}: {len(rows)} instances"
            write_event(connection, AuditAction.DELETE, by, study.study_instance_uid, AuditOutcome.DONE, said, at)
        delete_removed_files(self._database, self._blobs)
        return len(rows)

    def _take_back(self, named: Named, visible: StudyFilter, by: str, at: datetime) -> str:
        """Take back what went out of a study that is to go as a whole; say whom that concerns, empty: nobody."""
        with self._database.write() as connection:
            study = _locked(connection, named.study_instance_uid, visible)
            rows = _instances(connection, named)
            if len(rows) != study.number_of_instances:
                return ""
            _refuse_in_use(connection, study)
            _refuse_committed(connection, named)
            went_out = _went_out(connection, named.study_instance_uid)
            said = "The study that it was made from was deleted."
            for run_key in {row.run_key for row in went_out}:
                retract(connection, Retraction(run_key, named.study_instance_uid, EXPIRED, said, by, at))
        names = ", ".join(sorted({row.destination for row in went_out}))
        return names and (
            f"Results of the study went to {names}: they are taken back first, by a note to each. "
            "Try again once the notes are delivered."
        )

    def _forget_turns(self, study_instance_uid: str) -> None:
        """Have the queue forget what it delivered: the same study may come again, and lead to the same deliveries."""
        deliveries = tables.deliveries.c
        with self._database.read() as connection:
            rows = connection.execute(
                select(deliveries.delivery_id, deliveries.attempts).where(
                    deliveries.study_instance_uid == study_instance_uid, deliveries.state.not_in(_UNDELIVERED)
                )
            ).all()
        turns = [delivery_turn(row.delivery_id, attempt + 1) for row in rows for attempt in range(row.attempts)]
        if turns:
            self._queue.forget(turns)


def delete_removed_files(database: Database, blobs: BlobStore) -> int:
    """Remove the files of what was deleted; give how many.

    One that rows refer to again stays: findings of the same run have the same name.
    """
    removed = 0
    while True:
        with database.read() as connection:
            paths = connection.execute(select(removed_files.c.path).limit(_AT_ONCE)).scalars().all()
            used = {
                path
                for table in (tables.instances, tables.variants, tables.findings)
                for path in connection.execute(select(table.c.path).where(table.c.path.in_(paths))).scalars()
            }
        if not paths:
            return removed
        for path in paths:
            if path not in used:
                blobs.delete(path)
                removed += 1
        with database.write() as connection:
            connection.execute(delete(removed_files).where(removed_files.c.path.in_(paths)))


def _locked(connection: Connection, study_instance_uid: str, visible: StudyFilter) -> Row[Any]:
    wanted = select(tables.studies).where(
        tables.studies.c.study_instance_uid == study_instance_uid,
        may_see(visible, tables.studies.c.study_instance_uid),
    )
    study = connection.execute(wanted.with_for_update()).one_or_none()
    if study is None:
        raise NotKept("Nothing is kept here under these UIDs.")
    return study


def _instances(connection: Connection, named: Named) -> list[Row[Any]]:
    columns = tables.instances.c
    wanted: Select[Any] = select(
        *(columns.sop_instance_uid, columns.series_instance_uid, columns.role, columns.state),
        *(columns.sha256, columns.path, columns.size),
    )
    rows = connection.execute(wanted.where(_those(named))).all()
    if not rows:
        raise NotKept("Nothing is kept here under these UIDs.")
    return list(rows)


def _note_removed(connection: Connection, named: Named, rows: Sequence[Row[Any]], at: datetime, by: str) -> None:
    """Keep in mind what was there, and let what it said go: notes that reject other instances."""
    uids = [row.sop_instance_uid for row in rows]
    for first in range(0, len(uids), _AT_ONCE):
        some = uids[first : first + _AT_ONCE]
        connection.execute(delete(rejection_notes).where(rejection_notes.c.sop_instance_uid.in_(some)))
    values = [
        {
            "sop_instance_uid": row.sop_instance_uid,
            "study_instance_uid": named.study_instance_uid,
            "series_instance_uid": row.series_instance_uid,
            "role": row.role,
            "sha256": row.sha256,
            "cause": ledger.DELETED,
            "reason": f"deleted as asked for: {named}",
            "removed_by": by,
            "removed_at": at,
        }
        for row in rows
    ]
    connection.execute(insert(removed_instances), values)


def _those(named: Named) -> ColumnElement[bool]:
    columns = tables.instances.c
    wanted = [columns.study_instance_uid == named.study_instance_uid]
    if named.series_instance_uid is not None:
        wanted.append(columns.series_instance_uid == named.series_instance_uid)
    if named.sop_instance_uid is not None:
        wanted.append(columns.sop_instance_uid == named.sop_instance_uid)
    return and_(*wanted)


def _refuse_in_use(connection: Connection, study: Row[Any]) -> None:
    """Raise where the study grows, is in work, or has results that somebody waits for."""
    if study.state == StudyState.GATHERING:
        raise Undeletable("Images of the study may still come. Try again once it is complete.")
    jobs, deliveries = tables.jobs.c, tables.deliveries.c
    in_work = select(jobs.job_id).where(jobs.study_instance_uid == study.study_instance_uid, jobs.state.in_(_IN_WORK))
    if connection.execute(in_work.limit(1)).first() is not None:
        raise Undeletable("The study is being analysed. Try again once it is answered.")
    open_ones = select(deliveries.destination, deliveries.state).where(
        deliveries.study_instance_uid == study.study_instance_uid,
        deliveries.state.in_(_UNDELIVERED),
        not_(and_(deliveries.form.like(f"{NOTE_FORM}%"), deliveries.state == DeliveryState.FAILED)),
    )
    if (row := connection.execute(open_ones.limit(1)).first()) is not None:
        raise Undeletable(f"Results of the study are not delivered to {row.destination} ({row.state}).")


def _went_out(connection: Connection, study_instance_uid: str) -> list[Row[Any]]:
    """Give run key and destination of results that somebody has and that are not taken back, or whose note is due.

    Those that retention removed here cannot be named in a note any more: they stay where they went.
    """
    deliveries = tables.deliveries.c
    told = exists(select(1).where(retractions.c.run_key == deliveries.run_key, retractions.c.noted_at.is_not(None)))
    here = exists(
        select(1)
        .select_from(tables.results)
        .join(tables.instances, tables.instances.c.sop_instance_uid == tables.results.c.sop_instance_uid)
        .where(tables.results.c.run_key == deliveries.run_key)
        .correlate(tables.deliveries)
    )
    wanted = select(deliveries.run_key, deliveries.destination).where(
        deliveries.study_instance_uid == study_instance_uid,
        deliveries.run_key.is_not(None),
        deliveries.form.not_like(f"{NOTE_FORM}%"),
        deliveries.state.in_([DeliveryState.DELIVERED, DeliveryState.CONFIRMED]),
        not_(told),
        here,
    )
    return list[Row[Any]](connection.execute(wanted))


def _refuse_committed(connection: Connection, named: Named) -> None:
    """Raise where the node told somebody that it keeps an instance: that one may have deleted its own copy."""
    items = tables.commitment_items.c
    committed = select(items.sop_instance_uid).where(
        items.failure_reason.is_(None),
        items.sop_instance_uid.in_(select(tables.instances.c.sop_instance_uid).where(_those(named))),
    )
    if connection.execute(committed.limit(1)).first() is not None:
        raise Undeletable("The node has committed itself to keep instances among these.")


def _whole_study(connection: Connection, study: Row[Any], at: datetime, by: str) -> list[str]:
    uid = study.study_instance_uid
    paths = [
        path
        for table in (tables.instances, tables.findings)
        for path in connection.execute(select(table.c.path).where(table.c.study_instance_uid == uid)).scalars()
    ]
    paths += without_variants(connection, tables.instances.c.study_instance_uid == uid)
    deliveries, items = tables.deliveries, tables.delivery_items
    of_study = select(deliveries.c.delivery_id).where(deliveries.c.study_instance_uid == uid)
    for table in (tables.confirmations, items):
        connection.execute(delete(table).where(table.c.delivery_id.in_(of_study)))
    # Rows that refer to others go before these.
    for table in (
        *(
            deliveries,
            tables.results,
            retractions,
            tables.findings,
            tables.jobs,
            tables.decisions,
            tables.contributions,
        ),
        *(tables.json_segments, tables.instances, tables.series),
    ):
        connection.execute(delete(table).where(table.c.study_instance_uid == uid))
    ledger.end(connection, uid, StudyState(study.state), reason=f"deleted as asked for by {by}", at=at)
    connection.execute(delete(tables.studies).where(tables.studies.c.study_instance_uid == uid))
    return paths


def _part(
    connection: Connection, study: Row[Any], named: Named, rows: Sequence[Row[Any]], at: datetime, by: str
) -> list[str]:
    _refuse_results_and_sources(connection, study.study_instance_uid, rows)
    paths = [row.path for row in rows] + without_variants(connection, _those(named))
    for row in rows:
        state = InstanceState(row.state)
        ledger.end(connection, row.sop_instance_uid, state, reason=f"deleted as asked for by {by}", at=at)
    connection.execute(delete(tables.instances).where(_those(named)))
    inputs = count_again(connection, study, rows)
    if inputs:
        _decide_anew(connection, study, inputs, at)
    return paths


def count_again(connection: Connection, study: Row[Any], rows: Sequence[Row[Any]]) -> int:
    """Count a study and its series without rows that were deleted; give how many of these were inputs."""
    for series_instance_uid in sorted({row.series_instance_uid for row in rows}):
        _count_series(connection, study.study_instance_uid, series_instance_uid)
    inputs = sum(1 for row in rows if row.role == InstanceRole.INPUT)
    _count_study(connection, study, rows, inputs)
    return inputs


def _refuse_results_and_sources(connection: Connection, study_instance_uid: str, rows: Sequence[Row[Any]]) -> None:
    if any(row.role == InstanceRole.RESULT for row in rows):
        raise Undeletable("Results of this node go with their study alone.")
    facts = select(tables.findings.c.facts).where(tables.findings.c.study_instance_uid == study_instance_uid)
    used = {uid for text in connection.execute(facts).scalars() for uid in json.loads(text).get("inputs", {})}
    if used & {row.sop_instance_uid for row in rows}:
        raise Undeletable("Results were made from instances among these: they go with their study alone.")


def without_variants(connection: Connection, wanted: ColumnElement[bool]) -> list[str]:
    """Delete the other bytes that came under the UIDs of instances; give their files."""
    variants = tables.variants
    these = variants.c.sop_instance_uid.in_(select(tables.instances.c.sop_instance_uid).where(wanted))
    paths = list(connection.execute(select(variants.c.path).where(these)).scalars().all())
    connection.execute(delete(variants).where(these))
    return paths


def _count_series(connection: Connection, study_instance_uid: str, series_instance_uid: str) -> None:
    """Count a series anew, or let it go where nothing of it is left."""
    left = and_(
        tables.instances.c.study_instance_uid == study_instance_uid,
        tables.instances.c.series_instance_uid == series_instance_uid,
    )
    this = and_(
        tables.series.c.study_instance_uid == study_instance_uid,
        tables.series.c.series_instance_uid == series_instance_uid,
    )
    count = connection.execute(select(func.count()).select_from(tables.instances).where(left)).scalar_one()
    if not count:
        connection.execute(delete(tables.series).where(this))
        return
    inputs = select(func.count()).where(left, tables.instances.c.role == InstanceRole.INPUT.value)
    values = {"number_of_instances": count, "number_of_inputs": connection.execute(inputs).scalar_one()}
    connection.execute(update(tables.series).where(this).values(values))
    make_again(connection, study_instance_uid, series_instance_uid)


def _count_study(connection: Connection, study: Row[Any], rows: Sequence[Row[Any]], inputs: int) -> None:
    of_study = tables.series.c.study_instance_uid == study.study_instance_uid
    modalities = connection.execute(select(tables.series.c.modality).where(of_study)).scalars().all()
    connection.execute(
        update(tables.studies)
        .where(tables.studies.c.study_instance_uid == study.study_instance_uid)
        .values(
            modalities="\\".join(sorted({modality for modality in modalities if modality})),
            number_of_series=len(modalities),
            number_of_instances=study.number_of_instances - len(rows),
            number_of_inputs=study.number_of_inputs - inputs,
            size_bytes=study.size_bytes - sum(row.size for row in rows),
            input_version=study.input_version + inputs,
        )
    )


def _decide_anew(connection: Connection, study: Row[Any], inputs: int, at: datetime) -> None:
    """Let a study without some of its inputs be decided on again, or hold documents alone."""
    uid = study.study_instance_uid
    said = f"{inputs} of its images deleted"
    if study.number_of_inputs == inputs:
        ledger.move(connection, uid, StudyState.DOCUMENTS, reason=f"{said}; none is left to analyse", at=at)
        return
    ledger.move(connection, uid, StudyState.GATHERING, reason=said, at=at)
    connection.execute(
        update(tables.studies)
        .where(tables.studies.c.study_instance_uid == uid)
        .values(gathering_since=at, last_instance_at=at)
    )
