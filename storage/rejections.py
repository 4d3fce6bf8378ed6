"""Rejection notes from peers: what they take out of the count, here already or still to come.

Source: IHE RAD TF-2 4.66 (Rejection Note Stored), PS3.16 CID 7011.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, insert, select, update

from storage import ledger, tables
from storage.correction_tables import rejected_instances, rejection_notes
from storage.corrections import gather_again
from storage.database import Database
from storage.records import DeliveryState, InstanceRole, InstanceState, NoteState
from storage.retractions import Retraction, note_change, retract

#: What a rejection says, by the value of its code. Source: PS3.16 CID 7011.
TITLES: Mapping[str, str] = {
    "113001": "Rejected for Quality Reasons",
    "113037": "Rejected for Patient Safety Reasons",
    "113038": "Incorrect Modality Worklist Entry",
    "113039": "Data Retention Policy Expired",
}
#: What was made from an image stands when its time of retention alone has ended.
EXPIRED = "113039"

_AT_ONCE = 500


@dataclass(frozen=True)
class Note:
    """One Key Object Selection from a peer."""

    sop_instance_uid: str
    study_instance_uid: str
    state: NoteState
    reason: str
    title: str
    peer: str
    received_at: datetime


class Rejections:
    """Notes and what they name."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def unread(self, *, limit: int = 20) -> list[Note]:
        """Give Key Object Selections that nobody has read, the oldest first."""
        wanted = select(rejection_notes).where(rejection_notes.c.state == NoteState.UNREAD)
        return self._notes(wanted.order_by(rejection_notes.c.received_at).limit(limit))

    def of_study(self, study_instance_uid: str) -> list[Note]:
        """Give the notes that name something of a study or stand in it, the oldest first."""
        named = select(rejected_instances.c.note_uid).where(
            rejected_instances.c.study_instance_uid == study_instance_uid
        )
        notes = rejection_notes.c
        wanted = select(rejection_notes).where(
            (notes.study_instance_uid == study_instance_uid) | notes.sop_instance_uid.in_(named)
        )
        return self._notes(wanted.order_by(notes.received_at))

    def set_down(self, note: Note, reason: str, at: datetime) -> None:
        """Record that a note rejects nothing, or is not followed."""
        with self._database.write() as connection:
            ledger.move(connection, note.sop_instance_uid, NoteState.NOTED, reason=reason, at=at)

    def read(
        self, note: Note, title: str, named: Sequence[tuple[str, str]], *, trusted: bool, at: datetime
    ) -> NoteState:
        """Record what a note rejects, and follow it where its sender may reject that.

        A peer may reject what it sent itself, and results that were delivered to it.

        Parameters
        ----------
        named
            Study Instance UID and SOP Instance UID of each rejected instance.
        trusted
            Whether the peer may reject what others sent, too.
        """
        with self._database.write() as connection:
            connection.execute(update(rejection_notes).where(_this(note)).values(title=title))
            values = [
                {"note_uid": note.sop_instance_uid, "study_instance_uid": study, "sop_instance_uid": sop}
                for study, sop in dict.fromkeys(named)
            ]
            connection.execute(insert(rejected_instances), values)
            rows = _here(connection, [sop for _, sop in named])
            if not trusted and not all(_may_reject(connection, row, note.peer) for row in rows):
                reason = f"{TITLES[title]}: {note.peer or 'its sender'} did not send all that it rejects. It waits."
                ledger.move(connection, note.sop_instance_uid, NoteState.HELD, reason=reason, at=at)
                return NoteState.HELD
            _follow(connection, note, title, rows, at)
        return NoteState.APPLIED

    def apply(self, note: Note, *, by: str, at: datetime) -> None:
        """Follow a note that waited for a person.

        Raises
        ------
        ForbiddenTransition
            It was followed already, or rejects nothing.
        """
        rejected = rejected_instances.c
        with self._database.write() as connection:
            uids = connection.execute(
                select(rejected.sop_instance_uid).where(rejected.note_uid == note.sop_instance_uid)
            ).scalars()
            _follow(connection, note, note.title, _here(connection, uids.all()), at, by=by)

    def follow_late(self, at: datetime) -> int:
        """Have what came after the note that rejects it not count either; give how many instances that were."""
        instances = tables.instances.c
        wanted = (
            select(rejection_notes, instances.sop_instance_uid.label("rejected"))
            .join(rejected_instances, rejected_instances.c.note_uid == rejection_notes.c.sop_instance_uid)
            .join(tables.instances, instances.sop_instance_uid == rejected_instances.c.sop_instance_uid)
            .where(
                rejection_notes.c.state == NoteState.APPLIED,
                instances.role == InstanceRole.INPUT,
                instances.state == InstanceState.FOLLOWS_STUDY,
            )
            .limit(_AT_ONCE)
        )
        with self._database.read() as connection:
            late = connection.execute(wanted).all()
        by_note: dict[str, list[Row[Any]]] = {}
        for row in late:
            by_note.setdefault(row.sop_instance_uid, []).append(row)
        for rows in by_note.values():
            with self._database.write() as connection:
                here = _here(connection, [row.rejected for row in rows])
                _exclude(connection, rows[0].peer, rows[0].title, here, at)
        return len(late)

    def _notes(self, wanted: Any) -> list[Note]:
        with self._database.read() as connection:
            rows = connection.execute(wanted).all()
        return [Note(**{**row._mapping, "state": NoteState(row.state)}) for row in rows]


def _this(note: Note) -> Any:
    return rejection_notes.c.sop_instance_uid == note.sop_instance_uid


def _here(connection: Connection, uids: Sequence[str]) -> list[Row[Any]]:
    instances = tables.instances
    found: list[Row[Any]] = []
    columns = (
        *(instances.c.sop_instance_uid, instances.c.study_instance_uid),
        *(instances.c.role, instances.c.state, instances.c.peer),
    )
    for first in range(0, len(uids), _AT_ONCE):
        some = uids[first : first + _AT_ONCE]
        wanted = select(*columns).where(instances.c.sop_instance_uid.in_(some))
        found += list[Row[Any]](connection.execute(wanted.order_by(instances.c.study_instance_uid)))
    return found


def _may_reject(connection: Connection, row: Row[Any], peer: str) -> bool:
    if row.role != InstanceRole.RESULT:
        return bool(row.peer == peer)
    deliveries, items = tables.deliveries, tables.delivery_items
    got = (
        select(deliveries.c.delivery_id)
        .join(items, items.c.delivery_id == deliveries.c.delivery_id)
        .where(items.c.sop_instance_uid == row.sop_instance_uid, deliveries.c.destination == peer)
        .where(deliveries.c.state.in_([DeliveryState.DELIVERED, DeliveryState.CONFIRMED]))
    )
    return connection.execute(got.limit(1)).first() is not None


def _follow(
    connection: Connection, note: Note, title: str, rows: Sequence[Row[Any]], at: datetime, *, by: str = ""
) -> None:
    reason = f"{TITLES[title]}: {len(rows)} of the rejected instances are here." + (f" Applied by {by}." if by else "")
    ledger.move(connection, note.sop_instance_uid, NoteState.APPLIED, reason=reason, at=at)
    _exclude(connection, note.peer, title, rows, at)
    for row in rows:
        if row.role == InstanceRole.RESULT:
            _reject_result(connection, row, note.peer, title, at)


def _exclude(connection: Connection, peer: str, title: str, rows: Sequence[Row[Any]], at: datetime) -> None:
    """Have inputs and documents count no more, and their studies be decided on anew."""
    reason = f"Rejected by {peer or 'a peer'}: {TITLES[title]}."
    changed: set[str] = set()
    for row in rows:
        if row.role == InstanceRole.RESULT or row.state == InstanceState.EXCLUDED:
            continue
        ledger.move(connection, row.sop_instance_uid, InstanceState.EXCLUDED, reason=reason, at=at)
        changed |= {row.study_instance_uid} if row.role == InstanceRole.INPUT else set()
    for study_instance_uid in sorted(changed if title != EXPIRED else ()):
        said = f"An image that it was made from was rejected by {peer or 'a peer'}: {TITLES[title]}."
        note_change(connection, study_instance_uid, title, said, by=peer, at=at)
        gather_again(connection, study_instance_uid, f"{peer or 'a peer'} rejected images", at)


def _reject_result(connection: Connection, row: Row[Any], peer: str, title: str, at: datetime) -> None:
    run_key = connection.execute(
        select(tables.results.c.run_key).where(tables.results.c.sop_instance_uid == row.sop_instance_uid)
    ).scalar_one_or_none()
    if run_key is not None:
        said = f"{TITLES[title]}, by {peer or 'a peer'}."
        retract(connection, Retraction(run_key, row.study_instance_uid, title, said, peer, at))
