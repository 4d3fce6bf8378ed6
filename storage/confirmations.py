"""Whether what a destination accepted is kept there: what was asked, what was answered, when to ask again."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, insert, select, update

from storage import ledger
from storage.database import Database
from storage.records import DeliveryState
from storage.tables import confirmations, deliveries


@dataclass(frozen=True)
class Report:
    """What a report of storage commitment says."""

    committed: frozenset[str]
    """SOP Instance UIDs that the destination keeps."""
    failed: Mapping[str, int]
    """SOP Instance UID → Failure Reason."""


@dataclass(frozen=True)
class Confirmation:
    """How the confirmation of one delivery stands."""

    delivery_id: str
    destination: str
    transaction_uid: str
    """Of the storage commitment that was asked for last; empty: none was."""
    report: Report | None
    attempts: int
    """How often the destination was asked, in vain."""
    misses: int
    """How often it was asked, one time after the other, and did not have all."""
    sent_again: int


class Confirmations:
    """The confirmations of all deliveries."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def due(self, now: datetime, *, limit: int = 100) -> list[Confirmation]:
        """Give those whose time has come, the longest due first."""
        rows = confirmations.c
        statement = (
            select(confirmations, deliveries.c.destination)
            .join(deliveries, deliveries.c.delivery_id == rows.delivery_id)
            .where(rows.ended_at.is_(None), rows.next_attempt_at <= now)
            .order_by(rows.next_attempt_at)
            .limit(limit)
        )
        with self._database.read() as connection:
            return [_confirmation(row) for row in connection.execute(statement).all()]

    def asked(self, delivery_id: str, transaction_uid: str, next_attempt_at: datetime) -> None:
        """Record that storage commitment is asked for, before it is: a report may come at once."""
        self._change(delivery_id, transaction_uid=transaction_uid, answer="", next_attempt_at=next_attempt_at)

    def reported(self, transaction_uid: str, destination: str, report: Report, at: datetime) -> bool:
        """Record the report of a commitment that we asked a destination for; False: we did not."""
        said = json.dumps({"committed": sorted(report.committed), "failed": dict(report.failed)})
        with self._database.write() as connection:
            wanted = (
                select(confirmations.c.delivery_id)
                .join(deliveries, deliveries.c.delivery_id == confirmations.c.delivery_id)
                .where(confirmations.c.transaction_uid == transaction_uid, deliveries.c.destination == destination)
            )
            delivery_id = connection.execute(wanted).scalar_one_or_none()
            if not transaction_uid or delivery_id is None:
                return False
            _update(connection, delivery_id, answer=said, next_attempt_at=at)
            return True

    def put_off(self, delivery_id: str, reason: str, next_attempt_at: datetime, *, attempts: int, misses: int) -> None:
        """Record why it is not known yet, and when to ask again."""
        self._change(
            delivery_id,
            reason=reason,
            next_attempt_at=next_attempt_at,
            attempts=attempts,
            misses=misses,
            transaction_uid="",
            answer="",
        )

    def sent_again(self, delivery_id: str, number: int, reason: str) -> None:
        """Record how often the destination was sent again what it had lost."""
        self._change(delivery_id, sent_again=number, reason=reason, misses=0, attempts=0, transaction_uid="", answer="")

    def end(self, delivery_id: str, reason: str, at: datetime, *, to: DeliveryState | None = None) -> None:
        """Ask no more; `to`: the state that the delivery comes to, none where it stays as it is."""
        with self._database.write() as connection:
            if to is not None:
                ledger.move(connection, delivery_id, to, reason=reason, at=at)
                connection.execute(
                    update(deliveries).where(deliveries.c.delivery_id == delivery_id).values(ended_at=at)
                )
            _update(connection, delivery_id, ended_at=at, reason=reason)

    def reason_of(self, delivery_id: str) -> str | None:
        """Say how the confirmation of a delivery stands; None: there is none."""
        with self._database.read() as connection:
            return connection.execute(
                select(confirmations.c.reason).where(confirmations.c.delivery_id == delivery_id)
            ).scalar_one_or_none()

    def _change(self, delivery_id: str, **values: Any) -> None:
        with self._database.write() as connection:
            _update(connection, delivery_id, **values)


def begin(connection: Connection, delivery_id: str, at: datetime) -> None:
    """Have a delivery confirmed that has just ended well, inside the caller's transaction."""
    known = connection.execute(
        select(confirmations.c.delivery_id).where(confirmations.c.delivery_id == delivery_id)
    ).first()
    fresh = {"attempts": 0, "misses": 0, "transaction_uid": "", "answer": "", "next_attempt_at": at, "ended_at": None}
    if known is None:
        connection.execute(insert(confirmations).values(delivery_id=delivery_id, **fresh))
    else:
        _update(connection, delivery_id, **fresh)


def missing_of(report: Report, sop_instance_uids: Collection[str]) -> list[str]:
    """Name the instances that a destination does not keep."""
    return [uid for uid in sop_instance_uids if uid not in report.committed]


def _update(connection: Connection, delivery_id: str, **values: Any) -> None:
    connection.execute(update(confirmations).where(confirmations.c.delivery_id == delivery_id).values(values))


def _confirmation(row: Row[Any]) -> Confirmation:
    said = json.loads(row.answer) if row.answer else None
    return Confirmation(
        delivery_id=row.delivery_id,
        destination=row.destination,
        transaction_uid=row.transaction_uid,
        report=Report(frozenset(said["committed"]), said["failed"]) if said is not None else None,
        attempts=row.attempts,
        misses=row.misses,
        sent_again=row.sent_again,
    )
