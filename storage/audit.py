"""What an auditor asks about: who did what to which study, and how it ended. Only ever added to."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from sqlalchemy import Connection, insert, select

from storage.database import Database
from storage.peer_tables import audit_events


class AuditAction(StrEnum):
    """What was done."""

    ACCESS = "access"
    EXPORT = "export"
    DELETE = "delete"
    RETRACT = "retract"
    CONFIGURE = "configure"
    KEYS = "keys"
    OPERATE = "operate"
    CHAT = "chat"


class AuditOutcome(StrEnum):
    """How it ended."""

    DONE = "done"
    REFUSED = "refused"
    FAILED = "failed"


@dataclass(frozen=True)
class AuditEvent:
    """One thing that was done."""

    number: int
    """Order of recording, from 1."""
    at: datetime
    action: AuditAction
    actor: str
    """Name of the caller."""
    study_instance_uid: str | None
    outcome: AuditOutcome
    detail: str
    """Ids and settings, without patient data."""


class Audit:
    """The audit trail."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def record(
        self,
        action: AuditAction,
        actor: str,
        study_instance_uid: str | None,
        outcome: AuditOutcome,
        detail: str,
        at: datetime,
    ) -> None:
        """Write one event; it is durable when this returns."""
        with self._database.write() as connection:
            write_event(connection, action, actor, study_instance_uid, outcome, detail, at)

    def events(
        self, *, study_instance_uid: str | None = None, limit: int = 100, before: int | None = None
    ) -> list[AuditEvent]:
        """Give events, latest first.

        `study_instance_uid`: only of that study; `before`: only those recorded before the one of this number.
        """
        events = audit_events.c
        wanted = select(audit_events).order_by(events.number.desc()).limit(limit)
        if study_instance_uid is not None:
            wanted = wanted.where(events.study_instance_uid == study_instance_uid)
        if before is not None:
            wanted = wanted.where(events.number < before)
        with self._database.read() as connection:
            rows = connection.execute(wanted).all()
        return [
            AuditEvent(
                number=row.number,
                at=row.at,
                action=AuditAction(row.action),
                actor=row.actor,
                study_instance_uid=row.study_instance_uid,
                outcome=AuditOutcome(row.outcome),
                detail=row.detail,
            )
            for row in rows
        ]


def write_event(
    connection: Connection,
    action: AuditAction,
    actor: str,
    study_instance_uid: str | None,
    outcome: AuditOutcome,
    detail: str,
    at: datetime,
) -> None:
    """Write one event as part of the caller's transaction: it is recorded if what it tells of is done."""
    connection.execute(
        insert(audit_events).values(
            at=at,
            action=action.value,
            actor=actor,
            study_instance_uid=study_instance_uid,
            outcome=outcome.value,
            detail=detail,
        )
    )
