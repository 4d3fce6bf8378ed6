"""Storage commitment: what peers asked us to be answerable for, what we took on, and the report of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import IntEnum
from typing import Any

from sqlalchemy import Connection, Row, func, insert, select, update

from storage import ledger
from storage.blobs import BlobStore
from storage.database import Database
from storage.errors import NotKept
from storage.peer_records import CommitmentItem, CommitmentRecord, CommitmentState
from storage.records import Origin
from storage.tables import commitment_items, commitments, instances

#: Names in one question to the database.
_AT_ONCE = 500


class FailureReason(IntEnum):
    """Why we are not answerable for an instance. Source: PS3.3 C.14.1.1."""

    PROCESSING_FAILURE = 0x0110
    NO_SUCH_INSTANCE = 0x0112
    CLASS_INSTANCE_CONFLICT = 0x0119
    CLASS_NOT_SUPPORTED = 0x0122
    DUPLICATE_TRANSACTION_UID = 0x0131


#: In words, for the conformance statement.
FAILURE_REASONS: dict[FailureReason, str] = {
    FailureReason.PROCESSING_FAILURE: "Processing failure: its file here is not as it was kept",
    FailureReason.NO_SUCH_INSTANCE: "No such object instance: it is not kept here",
    FailureReason.CLASS_INSTANCE_CONFLICT: "Class/Instance conflict: it is kept here as of another SOP Class",
    FailureReason.CLASS_NOT_SUPPORTED: "Referenced SOP Class not supported: no instance of it is kept here",
    FailureReason.DUPLICATE_TRANSACTION_UID: "Duplicate Transaction UID: it was used before, for other instances",
}


@dataclass(frozen=True)
class Reference:
    """One instance that a request names."""

    sop_class_uid: str
    sop_instance_uid: str
    supported: bool = True
    """Instances of the class are kept here at all."""


@dataclass(frozen=True)
class _Judged:
    """What is known of one reference before the rows are locked."""

    reference: Reference
    failure: FailureReason | None
    path: str = ""


class Commitments:
    """The storage commitments of this node."""

    def __init__(self, database: Database, blobs: BlobStore) -> None:
        self._database = database
        self._blobs = blobs

    def request(
        self,
        origin: Origin,
        transaction_uid: str,
        references: Sequence[Reference],
        *,
        at: datetime,
        report_at: datetime,
    ) -> CommitmentRecord:
        """Record a request with what it comes to; both are durable when this returns.

        An instance counts as ours only where its row is committed and its file has its size. The same request
        again is reported again.

        Parameters
        ----------
        report_at
            When the courier is to report, unless the report was taken before on the association of the request.

        Raises
        ------
        IndexUnavailable, DiskFull
            Nothing was recorded; the peer may ask again.
        """
        judged = self._judge(references)
        with self._database.write() as connection:
            former = _latest(connection, origin, transaction_uid)
            if former is not None and not former.names(references):
                judged = [_Judged(each, FailureReason.DUPLICATE_TRANSACTION_UID) for each in references]
                former = None
            if former is not None:
                self._ask_again(connection, former.commitment_id, at=at, report_at=report_at)
                _commit_late(connection, former.commitment_id, judged, at)
                return _record(connection, former.commitment_id)
            commitment_id = _insert(connection, origin, transaction_uid, at=at, report_at=report_at)
            here = _still_there(connection, judged)
            connection.execute(
                insert(commitment_items),
                [_item_values(commitment_id, n, each, here, at) for n, each in enumerate(judged)],
            )
            return _record(connection, commitment_id)

    def due(self, now: datetime, *, limit: int = 100) -> list[CommitmentRecord]:
        """Give reports whose time has come, without their instances, the longest due first."""
        rows = commitments.c
        statement = (
            select(commitments)
            .where(rows.state == CommitmentState.WAITING, rows.next_attempt_at <= now)
            .order_by(rows.next_attempt_at)
            .limit(limit)
        )
        with self._database.read() as connection:
            return [_record_of(row, ()) for row in connection.execute(statement).all()]

    def claim(self, seen: CommitmentRecord, *, now: datetime, until: datetime) -> CommitmentRecord | None:
        """Take one report in hand; None: somebody else has it, or it was taken.

        What was not here at the request is looked for again: an instance may have been on its way then.

        `until`: who claimed it has failed where nothing more is heard by then.
        """
        judged = self._judge([Reference(item.sop_class_uid, item.sop_instance_uid) for item in self._missing(seen)])
        with self._database.write() as connection:
            claimed = connection.execute(
                update(commitments)
                .where(
                    commitments.c.commitment_id == seen.commitment_id,
                    commitments.c.state == CommitmentState.WAITING,
                    commitments.c.attempts == seen.attempts,
                )
                .values(attempts=seen.attempts + 1, next_attempt_at=until)
            )
            if claimed.rowcount != 1:
                return None
            _commit_late(connection, seen.commitment_id, judged, now)
            return _record(connection, seen.commitment_id)

    def end(self, commitment_id: str, state: CommitmentState, reason: str, at: datetime) -> None:
        """Record that the report was taken, or is given up."""
        with self._database.write() as connection:
            if ledger.move(connection, commitment_id, state, reason=reason, at=at):
                _change(connection, commitment_id, ended_at=at)

    def put_off(self, commitment_id: str, reason: str, next_attempt_at: datetime) -> None:
        """Record why the report was not taken, and when it is tried again."""
        with self._database.write() as connection:
            _change(connection, commitment_id, reason=reason, next_attempt_at=next_attempt_at)

    def waiting(self) -> list[CommitmentRecord]:
        """Give all requests whose report was not taken yet, with their instances, the latest first."""
        statement = (
            select(commitments.c.commitment_id)
            .where(commitments.c.state == CommitmentState.WAITING)
            .order_by(commitments.c.requested_at.desc())
        )
        with self._database.read() as connection:
            return [_record(connection, each) for each in connection.execute(statement).scalars().all()]

    def get(self, commitment_id: str) -> CommitmentRecord:
        """Give one request.

        Raises
        ------
        NotKept
            There is none of this name.
        """
        with self._database.read() as connection:
            return _record(connection, commitment_id)

    def exempt(self, sop_instance_uids: Sequence[str], *, committed_since: datetime | None = None) -> set[str]:
        """Tell which of these instances must not be purged: after our commitment a peer may delete its only copy.

        `committed_since`: commitments before this time no longer bind (a site's own retention rule).
        """
        found: set[str] = set()
        items = commitment_items.c
        with self._database.read() as connection:
            for uids in _chunks(sop_instance_uids):
                wanted = select(items.sop_instance_uid).where(
                    items.sop_instance_uid.in_(uids), items.failure_reason.is_(None)
                )
                if committed_since is not None:
                    wanted = wanted.where(items.committed_at >= committed_since)
                found |= set(connection.execute(wanted).scalars())
        return found

    def _judge(self, references: Sequence[Reference]) -> list[_Judged]:
        """Say of each reference whether it is durably here. Files are looked at outside any transaction."""
        kept: dict[str, Row[Any]] = {}
        columns = (instances.c.sop_instance_uid, instances.c.sop_class_uid, instances.c.path, instances.c.size)
        with self._database.read() as connection:
            for uids in _chunks([each.sop_instance_uid for each in references]):
                rows = connection.execute(select(*columns).where(instances.c.sop_instance_uid.in_(uids)))
                kept |= {row.sop_instance_uid: row for row in rows}
        return [self._judge_one(each, kept.get(each.sop_instance_uid)) for each in references]

    def _judge_one(self, reference: Reference, row: Row[Any] | None) -> _Judged:
        if row is None:
            supported = FailureReason.NO_SUCH_INSTANCE if reference.supported else FailureReason.CLASS_NOT_SUPPORTED
            return _Judged(reference, supported)
        if row.sop_class_uid != reference.sop_class_uid:
            return _Judged(reference, FailureReason.CLASS_INSTANCE_CONFLICT)
        try:
            whole = self._blobs.size(row.path) == row.size
        except NotKept:
            whole = False
        return _Judged(reference, None if whole else FailureReason.PROCESSING_FAILURE, row.path)

    def _missing(self, seen: CommitmentRecord) -> list[CommitmentItem]:
        with self._database.read() as connection:
            items = _items(connection, seen.commitment_id)
        return [item for item in items if item.failure_reason == FailureReason.NO_SUCH_INSTANCE]

    @staticmethod
    def _ask_again(connection: Connection, commitment_id: str, *, at: datetime, report_at: datetime) -> None:
        ledger.move(connection, commitment_id, CommitmentState.WAITING, reason="asked for again", at=at)
        _change(connection, commitment_id, attempts=0, next_attempt_at=report_at, ended_at=None)


@dataclass(frozen=True)
class _Former:
    """An earlier request under the same Transaction UID."""

    commitment_id: str
    items: tuple[CommitmentItem, ...]

    def names(self, references: Sequence[Reference]) -> bool:
        """Tell whether it names the same instances, in any order."""
        return {(each.sop_class_uid, each.sop_instance_uid) for each in self.items} == {
            (each.sop_class_uid, each.sop_instance_uid) for each in references
        }


def _latest(connection: Connection, origin: Origin, transaction_uid: str) -> _Former | None:
    """Find the request of this peer under a Transaction UID that was not itself a duplicate."""
    rows = commitments.c
    wanted = (
        select(rows.commitment_id)
        .where(
            rows.transaction_uid == transaction_uid,
            rows.peer == origin.peer,
            rows.calling_ae_title == origin.calling_ae_title,
        )
        .order_by(rows.requested_at)
    )
    first = connection.execute(wanted.limit(1)).scalar_one_or_none()
    return None if first is None else _Former(first, _items(connection, first))


def _insert(connection: Connection, origin: Origin, transaction_uid: str, *, at: datetime, report_at: datetime) -> str:
    same = select(func.count()).select_from(commitments).where(commitments.c.transaction_uid == transaction_uid)
    number = connection.execute(same).scalar_one() + 1
    commitment_id = f"{origin.calling_ae_title}:{transaction_uid}:{number}"
    connection.execute(
        insert(commitments).values(
            commitment_id=commitment_id,
            transaction_uid=transaction_uid,
            peer=origin.peer,
            calling_ae_title=origin.calling_ae_title,
            called_ae_title=origin.called_ae_title,
            host=origin.host,
            association_id=origin.association_id or "",
            state=CommitmentState.WAITING.value,
            reason="",
            attempts=0,
            next_attempt_at=report_at,
            requested_at=at,
        )
    )
    ledger.begin(connection, commitment_id, CommitmentState.WAITING, reason="asked for", at=at)
    return commitment_id


def _still_there(connection: Connection, judged: Sequence[_Judged]) -> set[str]:
    """Paths that rows still refer to, read where no purge can come in between."""
    found: set[str] = set()
    for uids in _chunks([each.reference.sop_instance_uid for each in judged if each.failure is None]):
        found |= set(
            connection.execute(select(instances.c.path).where(instances.c.sop_instance_uid.in_(uids))).scalars()
        )
    return found


def _item_values(commitment_id: str, position: int, judged: _Judged, here: set[str], at: datetime) -> dict[str, Any]:
    if judged.failure is None and judged.path not in here:
        judged = replace(judged, failure=FailureReason.NO_SUCH_INSTANCE)
    return {
        "commitment_id": commitment_id,
        "position": position,
        "sop_class_uid": judged.reference.sop_class_uid,
        "sop_instance_uid": judged.reference.sop_instance_uid,
        "failure_reason": judged.failure,
        "committed_at": at if judged.failure is None else None,
    }


def _commit_late(connection: Connection, commitment_id: str, judged: Sequence[_Judged], at: datetime) -> None:
    """Commit to what came after the request."""
    here = _still_there(connection, judged)
    for each in judged:
        if each.failure is not None or each.path not in here:
            continue
        connection.execute(
            update(commitment_items)
            .where(
                commitment_items.c.commitment_id == commitment_id,
                commitment_items.c.sop_instance_uid == each.reference.sop_instance_uid,
                commitment_items.c.sop_class_uid == each.reference.sop_class_uid,
                commitment_items.c.failure_reason == FailureReason.NO_SUCH_INSTANCE,
            )
            .values(failure_reason=None, committed_at=at)
        )


def _change(connection: Connection, commitment_id: str, **values: Any) -> None:
    connection.execute(update(commitments).where(commitments.c.commitment_id == commitment_id).values(values))


def _record(connection: Connection, commitment_id: str) -> CommitmentRecord:
    row = connection.execute(select(commitments).where(commitments.c.commitment_id == commitment_id)).one_or_none()
    if row is None:
        raise NotKept("no such storage commitment was asked for", commitment_id=commitment_id)
    return _record_of(row, _items(connection, commitment_id))


def _record_of(row: Row[Any], items: tuple[CommitmentItem, ...]) -> CommitmentRecord:
    return CommitmentRecord(
        commitment_id=row.commitment_id,
        transaction_uid=row.transaction_uid,
        peer=row.peer,
        calling_ae_title=row.calling_ae_title,
        called_ae_title=row.called_ae_title,
        host=row.host,
        state=CommitmentState(row.state),
        reason=row.reason,
        attempts=row.attempts,
        next_attempt_at=row.next_attempt_at,
        requested_at=row.requested_at,
        items=items,
    )


def _items(connection: Connection, commitment_id: str) -> tuple[CommitmentItem, ...]:
    items = commitment_items.c
    rows = connection.execute(
        select(items.sop_class_uid, items.sop_instance_uid, items.failure_reason)
        .where(items.commitment_id == commitment_id)
        .order_by(items.position)
    )
    return tuple(CommitmentItem(*row) for row in rows)


def _chunks(uids: Sequence[str]) -> Iterator[list[str]]:
    distinct = list(dict.fromkeys(uids))
    for start in range(0, len(distinct), _AT_ONCE):
        yield distinct[start : start + _AT_ONCE]
