"""What is kept long enough, and may go: never what is undelivered, unconfirmed, committed to, or still in question."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, and_, delete, exists, func, insert, or_, select

from storage import ledger, tables
from storage.audit import AuditAction, AuditOutcome, write_event
from storage.blobs import BlobStore
from storage.correction_tables import (
    changed_sources,
    rejection_notes,
    removed_files,
    removed_instances,
    retractions,
)
from storage.database import Database
from storage.deletion import count_again, delete_removed_files, without_variants
from storage.records import (
    DeliveryState,
    InstanceRole,
    ItemState,
    JobState,
    NoteState,
    RemovalCause,
    ResultState,
    StudyState,
    VariantState,
)

BY = "retention"

#: A study in another state is in work, waits for something, or for a person.
_OVER = (StudyState.ANSWERED, StudyState.DECLINED, StudyState.UNMATCHED, StudyState.DOCUMENTS)
_IN_WORK = (JobState.QUEUED, JobState.RUNNING, JobState.WAITING_FOR_ENGINE)
#: What a destination has for certain, or never needs to have.
_SETTLED = (DeliveryState.CONFIRMED, DeliveryState.SUPERSEDED, DeliveryState.WITHDRAWN)


@dataclass(frozen=True)
class Allowed:
    """What of the sources and results a site lets go."""

    archives: Collection[str]
    """Peers that keep the originals."""
    committed_since: datetime | None = None
    """Commitments from then on bind; None: all do, for ever."""


class Retention:
    """Lets go what may go, one study at a time."""

    def __init__(self, database: Database, blobs: BlobStore) -> None:
        self._database = database
        self._blobs = blobs

    def size_of(self, *, results: bool) -> int:
        """Bytes that all results, or all sources, have."""
        size = select(func.coalesce(func.sum(tables.instances.c.size), 0)).where(_is_result(results=results))
        with self._database.read() as connection:
            return int(connection.execute(size).scalar_one())

    def candidates(self, allowed: Allowed, *, results: bool, before: datetime | None, limit: int) -> list[str]:
        """Give studies whose results, or sources, may go, the oldest first; `before`: last touched before then."""
        studies = tables.studies.c
        wanted = select(studies.study_instance_uid).where(*_may_go(allowed, results=results))
        if before is not None:
            wanted = wanted.where(studies.last_instance_at < before, studies.state_since < before)
        with self._database.read() as connection:
            rows = connection.execute(
                wanted.order_by(studies.last_instance_at, studies.study_instance_uid).limit(limit)
            )
            return list(rows.scalars().all())

    def remove(self, study_instance_uid: str, allowed: Allowed, *, results: bool, at: datetime) -> int:
        """Remove the results, or the sources, of a study; give how many bytes went, 0 where they may not go now.

        All is looked at again in the transaction that removes.
        """
        studies = tables.studies.c
        this = studies.study_instance_uid == study_instance_uid
        with self._database.write() as connection:
            study = connection.execute(select(tables.studies).where(this).with_for_update()).one_or_none()
            may_go = select(studies.study_instance_uid).where(this, *_may_go(allowed, results=results))
            if study is None or connection.execute(may_go).first() is None:
                return 0
            rows = _instances(connection, study_instance_uid, results=results)
            _remove(connection, study, rows, at)
            said = f"{len(rows)} {'results' if results else 'sources'} expired"
            write_event(connection, AuditAction.DELETE, BY, study_instance_uid, AuditOutcome.DONE, said, at)
        delete_removed_files(self._database, self._blobs)
        return sum(row.size for row in rows)


def _is_result(*, results: bool) -> ColumnElement[bool]:
    role = tables.instances.c.role
    return role == InstanceRole.RESULT if results else role != InstanceRole.RESULT


def _of_study(*, results: bool) -> ColumnElement[bool]:
    return and_(
        tables.instances.c.study_instance_uid == tables.studies.c.study_instance_uid, _is_result(results=results)
    )


def _may_go(allowed: Allowed, *, results: bool) -> Sequence[ColumnElement[bool]]:
    """Give the conditions under which all of a study's results, or sources, may go."""
    mine = _of_study(results=results)
    kept = exists(select(1).where(mine))
    protected = exists(select(1).where(mine, or_(_is_committed(allowed), _is_only_copy(allowed, results=results))))
    return (tables.studies.c.state.in_(_OVER), kept, ~protected, *(~each for each in _questions()))


def _is_committed(allowed: Allowed) -> ColumnElement[bool]:
    items = tables.commitment_items.c
    bound = [items.sop_instance_uid == tables.instances.c.sop_instance_uid, items.failure_reason.is_(None)]
    if allowed.committed_since is not None:
        bound.append(items.committed_at >= allowed.committed_since)
    return exists(select(1).where(*bound))


def _is_only_copy(allowed: Allowed, *, results: bool) -> ColumnElement[bool]:
    """Sources: nobody who archives sent it. Results: no destination has confirmed it."""
    instances = tables.instances.c
    if not results:
        return instances.peer.not_in(sorted(allowed.archives))
    deliveries, items = tables.deliveries.c, tables.delivery_items.c
    confirmed = exists(
        select(1).where(
            items.sop_instance_uid == instances.sop_instance_uid,
            items.state == ItemState.ACCEPTED,
            items.delivery_id == deliveries.delivery_id,
            deliveries.state == DeliveryState.CONFIRMED,
        )
    )
    return ~confirmed


def _questions() -> list[ColumnElement[bool]]:
    """What is open about a study: then nothing of it goes."""
    uid = tables.studies.c.study_instance_uid
    instances, variants = tables.instances.c, tables.variants.c
    return [
        exists(select(1).where(tables.jobs.c.study_instance_uid == uid, tables.jobs.c.state.in_(_IN_WORK))),
        exists(
            select(1).where(tables.deliveries.c.study_instance_uid == uid, tables.deliveries.c.state.not_in(_SETTLED))
        ),
        exists(select(1).where(changed_sources.c.study_instance_uid == uid)),
        exists(select(1).where(retractions.c.study_instance_uid == uid, retractions.c.noted_at.is_(None))),
        exists(
            select(1).where(
                rejection_notes.c.study_instance_uid == uid,
                rejection_notes.c.state.in_([NoteState.UNREAD, NoteState.HELD]),
            )
        ),
        exists(
            select(1).where(
                instances.study_instance_uid == uid,
                variants.sop_instance_uid == instances.sop_instance_uid,
                variants.state.in_([VariantState.UNCLASSED, VariantState.HELD, VariantState.CONFLICT]),
            )
        ),
    ]


def _instances(connection: Connection, study_instance_uid: str, *, results: bool) -> list[Row[Any]]:
    instances = tables.instances.c
    columns = (
        *(instances.sop_instance_uid, instances.series_instance_uid, instances.role),
        *(instances.sha256, instances.path, instances.size),
    )
    wanted = select(*columns).where(instances.study_instance_uid == study_instance_uid, _is_result(results=results))
    return list[Row[Any]](connection.execute(wanted))


def _remove(connection: Connection, study: Row[Any], rows: Sequence[Row[Any]], at: datetime) -> None:
    uid = study.study_instance_uid
    these = and_(
        tables.instances.c.study_instance_uid == uid,
        tables.instances.c.role.in_(sorted({row.role for row in rows})),
    )
    paths = [*(row.path for row in rows), *without_variants(connection, these)]
    for row in rows:
        if row.role == InstanceRole.RESULT:
            _expire(connection, row.sop_instance_uid, at)
    uids = select(tables.instances.c.sop_instance_uid).where(these)
    connection.execute(delete(rejection_notes).where(rejection_notes.c.sop_instance_uid.in_(uids)))
    connection.execute(delete(tables.instances).where(these))
    count_again(connection, study, rows)
    values = [
        {
            "sop_instance_uid": row.sop_instance_uid,
            "study_instance_uid": uid,
            "series_instance_uid": row.series_instance_uid,
            "role": row.role,
            "sha256": row.sha256,
            "cause": RemovalCause.EXPIRED.value,
            "reason": "kept long enough",
            "removed_by": BY,
            "removed_at": at,
        }
        for row in rows
    ]
    connection.execute(insert(removed_instances), values)
    connection.execute(insert(removed_files), [{"path": path, "removed_at": at} for path in paths])


def _expire(connection: Connection, sop_instance_uid: str, at: datetime) -> None:
    """A result that was taken back stays so; any other is known to have been here."""
    state = connection.execute(
        select(tables.results.c.state).where(tables.results.c.sop_instance_uid == sop_instance_uid)
    ).scalar_one_or_none()
    if state in (ResultState.KEPT, ResultState.SUPERSEDED):
        reason = "Kept long enough here; its destinations have it."
        ledger.move(connection, sop_instance_uid, ResultState.EXPIRED, reason=reason, at=at)
