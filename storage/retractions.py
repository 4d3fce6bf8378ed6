"""Results that are taken back: why, and whether who has them was told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, Select, exists, insert, select, update

from storage import ledger, tables
from storage.correction_tables import changed_sources, retractions
from storage.database import Database
from storage.deliveries import withdraw
from storage.records import DeliveryState, ResultState
from storage.visibility import NOTE_FORM

#: Results that are somebody's answer, or were, or are about to be.
_RETRACTABLE = (ResultState.NAMED, ResultState.KEPT, ResultState.SUPERSEDED, ResultState.EXPIRED)


@dataclass(frozen=True)
class Retraction:
    """The results of one run, taken back."""

    run_key: str
    study_instance_uid: str
    title: str
    """Code value of the reason. Source: PS3.16 CID 7011."""
    said: str
    """Why, for a reader, without patient data."""
    asked_by: str
    """A person's key, a peer that rejected them, or the node itself."""
    asked_at: datetime


@dataclass(frozen=True)
class SourceChange:
    """Images of a study were corrected, rejected or deleted: results made from them are to be taken back."""

    number: int
    study_instance_uid: str
    title: str
    said: str
    asked_by: str
    at: datetime


class Retractions:
    """What is taken back, and what is still to be done about it."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def ask(self, retraction: Retraction) -> bool:
        """Take the results of a run back, from now on; False: they were before.

        What has not gone out is withdrawn; who got something is told by notes that `pending` stands for.
        """
        with self._database.write() as connection:
            return retract(connection, retraction)

    def pending(self, *, limit: int = 20) -> list[Retraction]:
        """Give retractions whose notes are to be made, the oldest first; one that is being sent waits for its end."""
        being_sent = exists().where(
            tables.deliveries.c.run_key == retractions.c.run_key, tables.deliveries.c.state == DeliveryState.SENDING
        )
        wanted = select(retractions).where(retractions.c.noted_at.is_(None), ~being_sent)
        return self._records(wanted.order_by(retractions.c.asked_at, retractions.c.run_key).limit(limit))

    def of_study(self, study_instance_uid: str) -> list[Retraction]:
        """Give the retractions of a study's results, the oldest first."""
        wanted = select(retractions).where(retractions.c.study_instance_uid == study_instance_uid)
        return self._records(wanted.order_by(retractions.c.asked_at, retractions.c.run_key))

    def noted(self, run_key: str, at: datetime) -> None:
        """Record that everybody who got the results of a run is being told."""
        with self._database.write() as connection:
            connection.execute(update(retractions).where(retractions.c.run_key == run_key).values(noted_at=at))

    def changes(self, *, limit: int = 20) -> list[SourceChange]:
        """Give changes of sources that nobody has looked at, the oldest first."""
        with self._database.read() as connection:
            rows = connection.execute(select(changed_sources).order_by(changed_sources.c.number).limit(limit)).all()
        return [SourceChange(**row._mapping) for row in rows]

    def settle(self, change: SourceChange, run_keys: Sequence[str], at: datetime) -> int:
        """Take back what depended on a change, and be done with it; give how many runs that were."""
        # Who changed the images is told of the results as everybody is.
        by = f"change of images by {change.asked_by or 'a peer'}"
        with self._database.write() as connection:
            taken = [
                retract(
                    connection,
                    Retraction(run_key, change.study_instance_uid, change.title, change.said, by, at),
                )
                for run_key in run_keys
            ]
            connection.execute(changed_sources.delete().where(changed_sources.c.number == change.number))
        return taken.count(True)

    def run_keys_of(self, study_instance_uid: str) -> list[str]:
        """Give the runs of a study whose results are not taken back yet."""
        with self._database.read() as connection:
            return _standing(connection, tables.results.c.study_instance_uid == study_instance_uid)

    def _records(self, wanted: Select[Any]) -> list[Retraction]:
        with self._database.read() as connection:
            return [_record(row) for row in connection.execute(wanted).all()]


def note_change(
    connection: Connection, study_instance_uid: str, title: str, said: str, *, by: str, at: datetime
) -> None:
    """Record, in the transaction that changes sources of a study, that results made from them are to be looked at."""
    connection.execute(
        insert(changed_sources).values(
            study_instance_uid=study_instance_uid, title=title, said=said, asked_by=by, at=at
        )
    )


def retract(connection: Connection, retraction: Retraction) -> bool:
    """Take the results of a run back, inside the caller's transaction; False: they were before."""
    run_key = retraction.run_key
    known = select(retractions.c.run_key).where(retractions.c.run_key == run_key)
    if connection.execute(known).first() is not None:
        return False
    results = tables.results.c
    uids = connection.execute(
        select(results.sop_instance_uid).where(results.run_key == run_key, results.state.in_(_RETRACTABLE))
    ).scalars()
    reason = f"Taken back: {retraction.said}"
    for uid in uids.all():
        ledger.move(connection, uid, ResultState.RETRACTED, reason=reason, at=retraction.asked_at)
    withdraw(connection, run_key, reason, retraction.asked_at)
    connection.execute(
        insert(retractions).values(
            run_key=run_key,
            study_instance_uid=retraction.study_instance_uid,
            title=retraction.title,
            said=retraction.said,
            asked_by=retraction.asked_by,
            asked_at=retraction.asked_at,
        )
    )
    return True


def _standing(connection: Connection, wanted: ColumnElement[bool]) -> list[str]:
    results = tables.results.c
    rows = connection.execute(
        select(results.run_key)
        .where(wanted, results.state.in_(_RETRACTABLE), results.form.not_like(f"{NOTE_FORM}%"))
        .distinct()
        .order_by(results.run_key)
    )
    return list(rows.scalars().all())


def _record(row: Row[Any]) -> Retraction:
    return Retraction(row.run_key, row.study_instance_uid, row.title, row.said, row.asked_by, row.asked_at)
