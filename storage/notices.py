"""What webhooks are told: read off the ledger once, and kept until somebody took it or it is given up."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Row, func, insert, select, update

from storage import tables
from storage.correction_tables import cursors, notices
from storage.database import Database
from storage.records import DeliveryState, ResultState, StudyState

#: Change of the ledger - subject and new state - → event.
EVENTS: Mapping[tuple[str, str], str] = {
    ("study", StudyState.ANSWERED): "study.result",
    ("study", StudyState.DECLINED): "study.declined",
    ("study", StudyState.FAILED): "study.failed",
    ("study", StudyState.QUARANTINED): "study.quarantined",
    ("delivery", DeliveryState.CONFIRMED): "delivery.confirmed",
    ("delivery", DeliveryState.FAILED): "delivery.failed",
    ("result", ResultState.RETRACTED): "result.retracted",
}
#: Told where something stands in a state in which it should not stay.
STUCK = "stuck"

WAITING, TAKEN, GIVEN_UP = "waiting", "taken", "given up"
_AT_ONCE = 200
#: On PostgreSQL an earlier number may be committed later: the latest changes are left for the next look.
_SETTLED_AFTER = timedelta(seconds=2)
_NAMESPACE = uuid.UUID("9b1cf0f2-6a9e-5b53-9c68-0c5d7a4f6d11")


@dataclass(frozen=True)
class Notice:
    """One event for one webhook."""

    number: int
    hook: str
    event: str
    body: str
    attempts: int


@dataclass(frozen=True)
class Hook:
    """Who wants to be told what."""

    name: str
    events: frozenset[str]
    patient_data: bool


class Notices:
    """The book of what is told."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def read_ledger(self, hooks: Sequence[Hook], now: datetime) -> int:
        """Note what the ledger says that a hook wants to know; each change once, however often this is asked.

        The first look begins at the present: nobody is told of the past.
        """
        moved = tables.transitions.c
        with self._database.write() as connection:
            last = connection.execute(select(cursors.c.number).where(cursors.c.name == "webhooks")).scalar_one_or_none()
            if last is None:
                end = connection.execute(select(func.coalesce(func.max(moved.number), 0))).scalar_one()
                connection.execute(insert(cursors).values(name="webhooks", number=end))
                return 0
            wanted = select(tables.transitions).where(moved.number > last).order_by(moved.number).limit(_AT_ONCE)
            if connection.dialect.name == "postgresql":
                wanted = wanted.where(moved.at <= now - _SETTLED_AFTER)
            rows = connection.execute(wanted).all()
            for row in rows:
                if (event := EVENTS.get((row.subject, row.to_state))) is not None:
                    _note(connection, hooks, event, row.subject_id, row.reason, row.at, now)
            if rows:
                connection.execute(update(cursors).values(number=rows[-1].number).where(cursors.c.name == "webhooks"))
        return len(rows)

    def stuck(self, hooks: Sequence[Hook], subject_id: str, why: str, now: datetime) -> None:
        """Note that something is stuck, once until it was told."""
        with self._database.write() as connection:
            known = select(notices.c.number).where(notices.c.event == STUCK, notices.c.subject_id == subject_id[:255])
            if connection.execute(known.limit(1)).first() is None:
                _note(connection, hooks, STUCK, subject_id[:255], why, now, now)

    def due(self, hook: str, now: datetime, *, limit: int) -> list[Notice]:
        """Give what is to be told to one hook now, in order."""
        rows = notices.c
        wanted = select(notices).where(rows.hook == hook, rows.state == WAITING, rows.next_attempt_at <= now)
        with self._database.read() as connection:
            found = connection.execute(wanted.order_by(rows.number).limit(limit)).all()
        return [Notice(row.number, row.hook, row.event, row.body, row.attempts) for row in found]

    def taken(self, notice: Notice, at: datetime) -> None:
        """Record that a hook took a notice."""
        self._change(notice, state=TAKEN, reason="", ended_at=at, attempts=notice.attempts + 1)

    def put_off(self, notice: Notice, reason: str, until: datetime) -> None:
        """Record why a notice was not taken, and when it is tried again."""
        self._change(notice, reason=reason, next_attempt_at=until, attempts=notice.attempts + 1)

    def give_up(self, notice: Notice, reason: str, at: datetime) -> None:
        """Record that a notice is not tried any more."""
        self._change(notice, state=GIVEN_UP, reason=reason, ended_at=at, attempts=notice.attempts + 1)

    def counts(self) -> dict[tuple[str, str], int]:
        """Count notices by hook and state."""
        with self._database.read() as connection:
            rows = connection.execute(
                select(notices.c.hook, notices.c.state, func.count()).group_by(notices.c.hook, notices.c.state)
            ).all()
        return {(hook, state): count for hook, state, count in rows}

    def _change(self, notice: Notice, **values: Any) -> None:
        with self._database.write() as connection:
            connection.execute(update(notices).where(notices.c.number == notice.number).values(values))


def _note(
    connection: Connection, hooks: Sequence[Hook], event: str, subject_id: str, reason: str, at: datetime, now: datetime
) -> None:
    for hook in hooks:
        if event not in hook.events:
            continue
        study = _study_of(connection, subject_id)
        said: dict[str, Any] = {
            "id": str(uuid.uuid5(_NAMESPACE, f"{hook.name}/{event}/{subject_id}/{at.isoformat()}")),
            "event": event,
            "at": at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "subject_id": subject_id,
            "reason": reason,
        }
        if study is not None:
            said["study_instance_uid"] = study.study_instance_uid
            if hook.patient_data:
                names = ("patient_id", "patient_name", "accession_number")
                said["patient"] = {name: getattr(study, name) for name in names}
        connection.execute(
            insert(notices).values(
                hook=hook.name,
                event=event,
                subject_id=subject_id,
                body=json.dumps(said, ensure_ascii=False),
                state=WAITING,
                next_attempt_at=now,
                created_at=now,
            )
        )


def _study_of(connection: Connection, subject_id: str) -> Row[Any] | None:
    """Find the study that a subject is, or belongs to."""
    uid = subject_id
    for table, key in (
        (tables.deliveries, tables.deliveries.c.delivery_id),
        (tables.results, tables.results.c.sop_instance_uid),
        (tables.jobs, tables.jobs.c.job_id),
    ):
        found = connection.execute(select(table.c.study_instance_uid).where(key == subject_id)).scalar_one_or_none()
        uid = found or uid
    studies = tables.studies.c
    return connection.execute(select(tables.studies).where(studies.study_instance_uid == uid)).one_or_none()
