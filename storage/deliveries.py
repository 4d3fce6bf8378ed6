"""Result sets on their way to destinations: what was asked for, what each destination said, when to try again."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, Row, Select, exists, func, insert, select, update

from storage import confirmations, ledger, tables
from storage.correction_tables import retractions
from storage.database import Database
from storage.errors import ForbiddenTransition, NotKept
from storage.records import DeliveryItem, DeliveryRecord, DeliveryState, ItemState
from storage.turns import OpenTurn, delivery_turn
from storage.visibility import NOTE_FORM, ORIGINALS, is_note

if TYPE_CHECKING:
    from storage.jobs import Queue

#: States in which a delivery still has something to do, or waits for it.
OPEN = frozenset({DeliveryState.WAITING, DeliveryState.SENDING})

#: States from which a delivery of a later revision takes over.
_SUPERSEDABLE = (DeliveryState.WAITING, DeliveryState.FAILED)

_SUPERSEDED = "A later revision of this result took its place."


class Deliveries:
    """The rows of all deliveries, and their place in the queue."""

    def __init__(self, database: Database, queue: Queue) -> None:
        self._database = database
        self._queue = queue

    def ask_for(
        self,
        job_id: str,
        run_key: str,
        form: str,
        study_instance_uid: str,
        items: Sequence[tuple[str, str]],
        destinations: Sequence[str],
        *,
        not_before: datetime,
        at: datetime,
    ) -> list[str]:
        """Ask for the delivery of a result set to each destination, together with its place in the queue.

        Asking again changes nothing. Deliveries of earlier revisions (same study, engine and task) that have not
        gone out are superseded, also where this set goes nowhere; where a later revision has results already,
        this one is superseded at once.

        Parameters
        ----------
        items
            SOP Instance UID and kind of each instance, in sending order.
        not_before
            First attempt at the earliest; `at` or earlier: as soon as the queue comes to it.

        Returns
        -------
        list[str]
            Id of the delivery to each destination, in their order.
        """
        ids = [delivery_id_of(run_key, form, destination) for destination in destinations]
        with self._database.write() as connection:
            _lock_study(connection, study_instance_uid)
            if not is_note(form):
                _supersede_earlier(connection, run_key, at)
            overtaken = _overtaken(connection, run_key, form)
            for delivery_id, destination in zip(ids, destinations, strict=True):
                if _row(connection, delivery_id) is not None:
                    continue
                connection.execute(
                    insert(tables.deliveries).values(
                        delivery_id=delivery_id,
                        job_id=job_id,
                        run_key=run_key,
                        form=form,
                        study_instance_uid=study_instance_uid,
                        destination=destination,
                        state=DeliveryState.WAITING.value,
                        next_attempt_at=max(not_before, at),
                        created_at=at,
                    )
                )
                ledger.begin(connection, delivery_id, DeliveryState.WAITING, reason="", at=at)
                _insert_items(connection, delivery_id, items)
                if overtaken is not None:
                    _end(connection, delivery_id, *overtaken, at)
                    continue
                self._enqueue(connection, delivery_id, 1, destination, due=not_before, at=at)
        return ids

    def delivery(self, delivery_id: str) -> DeliveryRecord:
        """Give one delivery; `NotKept` where there is none."""
        with self._database.read() as connection:
            return _one(connection, delivery_id)

    def of_study(self, study_instance_uid: str) -> list[DeliveryRecord]:
        """Give the deliveries of a study's results, oldest first."""
        deliveries = tables.deliveries.c
        return self._records(
            select(tables.deliveries)
            .where(deliveries.study_instance_uid == study_instance_uid)
            .order_by(deliveries.created_at, deliveries.delivery_id)
        )

    def by_state(
        self, states: Collection[DeliveryState] | None = None, *, limit: int = 100, offset: int = 0
    ) -> list[DeliveryRecord]:
        """Give deliveries, latest first; `states`: only those in one of them."""
        deliveries = tables.deliveries.c
        rows = select(tables.deliveries).order_by(deliveries.created_at.desc(), deliveries.delivery_id)
        if states is not None:
            rows = rows.where(deliveries.state.in_(sorted(states)))
        return self._records(rows.limit(limit).offset(offset))

    def begin(self, delivery_id: str, attempt: int, at: datetime) -> DeliveryRecord | None:
        """Take an attempt, from 1, in hand: for the first time, or again after a crash.

        Returns
        -------
        DeliveryRecord | None
            None where there is nothing to do: the delivery has ended, or another attempt is its current one.
        """
        with self._database.write() as connection:
            row = _row(connection, delivery_id, lock=True)
            if row is None:
                raise NotKept("There is no such delivery.", delivery_id=delivery_id)
            if row.state not in OPEN or current_attempt(row.state, row.attempts) != attempt:
                return None
            ledger.move(connection, delivery_id, DeliveryState.SENDING, reason=row.reason, at=at)
            _change(connection, delivery_id, attempts=attempt)
            return _one(connection, delivery_id)

    def item_answered(
        self,
        delivery_id: str,
        sop_instance_uid: str,
        state: ItemState,
        status: int | None,
        reason: str,
        at: datetime,
        transfer_syntax_uid: str = "",
    ) -> None:
        """Note what the destination said of one instance; what it accepted stays accepted.

        `status`: its DIMSE Status, None where it gave none. `transfer_syntax_uid`: that it went in; empty: it did not.
        """
        items = tables.delivery_items
        accepted_at = at if state is ItemState.ACCEPTED else None
        with self._database.write() as connection:
            connection.execute(
                update(items)
                .where(
                    items.c.delivery_id == delivery_id,
                    items.c.sop_instance_uid == sop_instance_uid,
                    items.c.state != ItemState.ACCEPTED,
                )
                .values(
                    state=state.value,
                    status=status,
                    reason=reason,
                    accepted_at=accepted_at,
                    transfer_syntax_uid=transfer_syntax_uid,
                )
            )

    def leave_out(self, delivery_id: str, sop_instance_uid: str, reason: str, at: datetime) -> None:
        """Note that one instance does not go any more; what was accepted stays accepted."""
        self.item_answered(delivery_id, sop_instance_uid, ItemState.REPLACED, None, reason, at)

    def finish(self, delivery_id: str, state: DeliveryState, reason: str, at: datetime) -> None:
        """End a delivery; one that ended so already stays as it is.

        Raises
        ------
        ForbiddenTransition
            It ended otherwise; or it is called delivered although an instance was refused, or none was accepted.
        """
        with self._database.write() as connection:
            if state is DeliveryState.DELIVERED:
                delivery = _one(connection, delivery_id)
                _check_accepted(delivery)
                if delivery.state is DeliveryState.SENDING:
                    confirmations.begin(connection, delivery_id, at)
            _end(connection, delivery_id, state, reason, at)

    def retry(self, delivery_id: str, reason: str, at: datetime, next_attempt_at: datetime, attempt: int) -> None:
        """Leave an attempt that failed, and have the next one wait in the queue until its time.

        `attempt`: the one that failed, from 1; said again after a crash, it changes nothing. Where a later revision
        has results by now, the delivery is superseded instead.
        """
        with self._database.write() as connection:
            row = _row(connection, delivery_id, lock=True)
            if row is None:
                raise NotKept("There is no such delivery.", delivery_id=delivery_id)
            if row.state != DeliveryState.SENDING or row.attempts != attempt:
                return
            ledger.move(connection, delivery_id, DeliveryState.WAITING, reason=reason, at=at)
            if (overtaken := _overtaken(connection, row.run_key, row.form)) is not None:
                _end(connection, delivery_id, *overtaken, at)
                return
            _change(connection, delivery_id, next_attempt_at=next_attempt_at)
            self._enqueue(connection, delivery_id, attempt + 1, row.destination, due=next_attempt_at, at=at)

    def replace(
        self, delivery_id: str, form: str, items: Sequence[tuple[str, str]], reason: str, at: datetime, attempt: int
    ) -> None:
        """Leave an attempt at a set that is not taken, and have another set go in its place at once.

        What was accepted of the former set stays delivered; the rest of it is replaced. Said again after a crash, it
        changes nothing.

        Parameters
        ----------
        items
            SOP Instance UID and kind of each instance of the new set, in sending order.
        attempt
            The one that was refused, from 1.
        """
        with self._database.write() as connection:
            row = _row(connection, delivery_id, lock=True)
            if row is None:
                raise NotKept("There is no such delivery.", delivery_id=delivery_id)
            if row.state != DeliveryState.SENDING or row.attempts != attempt:
                return
            former = tables.delivery_items.c
            connection.execute(
                update(tables.delivery_items)
                .where(former.delivery_id == delivery_id, former.state != ItemState.ACCEPTED)
                .values(state=ItemState.REPLACED.value)
            )
            last = select(func.max(former.position)).where(former.delivery_id == delivery_id)
            _insert_items(connection, delivery_id, items, first=connection.execute(last).scalar_one() + 1)
            ledger.move(connection, delivery_id, DeliveryState.WAITING, reason=reason, at=at)
            if _is_superseded(connection, row.run_key):
                _end(connection, delivery_id, DeliveryState.SUPERSEDED, _SUPERSEDED, at)
                return
            _change(connection, delivery_id, form=form, next_attempt_at=at)
            self._enqueue(connection, delivery_id, attempt + 1, row.destination, due=at, at=at)

    def ask_again(self, delivery_id: str, reason: str, at: datetime) -> DeliveryRecord:
        """Send a delivery again that failed, or that is missing where it was delivered.

        Raises
        ------
        ForbiddenTransition
            It is on its way, confirmed, or superseded.
        """
        with self._database.write() as connection:
            row = _row(connection, delivery_id, lock=True)
            if row is None:
                raise NotKept("There is no such delivery.", delivery_id=delivery_id)
            if row.state in OPEN:
                raise ForbiddenTransition(f"The delivery is {row.state} already.", delivery_id=delivery_id)
            if not is_note(row.form) and (retracted := _retracted(connection, row.run_key)):
                raise ForbiddenTransition(retracted, delivery_id=delivery_id)
            ledger.move(connection, delivery_id, DeliveryState.WAITING, reason=reason, at=at)
            _change(connection, delivery_id, next_attempt_at=at, ended_at=None)
            items = tables.delivery_items
            connection.execute(
                update(items)
                .where(items.c.delivery_id == delivery_id)
                .where(items.c.state.in_(_to_send_again(DeliveryState(row.state))))
                .values(state=ItemState.WAITING.value, status=None, reason="", accepted_at=None)
            )
            self._enqueue(connection, delivery_id, row.attempts + 1, row.destination, due=at, at=at)
            return _one(connection, delivery_id)

    def open_turns(self) -> list[OpenTurn]:
        """Give the current turn of every delivery that waits for its time or is being sent."""
        deliveries = tables.deliveries.c
        with self._database.read() as connection:
            rows = connection.execute(
                select(deliveries.delivery_id, deliveries.state, deliveries.attempts).where(deliveries.state.in_(OPEN))
            ).all()
        return [
            OpenTurn(delivery_turn(row.delivery_id, current_attempt(row.state, row.attempts)), row.delivery_id)
            for row in rows
        ]

    def give_up(self, turn: OpenTurn, reason: str, at: datetime) -> bool:
        """Let a delivery fail whose turn is over, unless it ended or stands on another; tell whether it did."""
        with self._database.write() as connection:
            row = _row(connection, turn.subject_id, lock=True)
            if row is None or row.state not in OPEN:
                return False
            if delivery_turn(row.delivery_id, current_attempt(row.state, row.attempts)) != turn.turn_id:
                return False
            _end(connection, turn.subject_id, DeliveryState.FAILED, reason, at)
            return True

    def _records(self, rows: Select[Any]) -> list[DeliveryRecord]:
        with self._database.read() as connection:
            return records_of(connection, list(connection.execute(rows).all()))

    def _enqueue(
        self, connection: Connection, delivery_id: str, attempt: int, destination: str, *, due: datetime, at: datetime
    ) -> None:
        delay_s = max(0.0, (due - at).total_seconds())
        lane = lane_of(delivery_id, destination)
        self._queue.enqueue_delivery(connection, delivery_id, attempt, lane, delay_s=delay_s)


def delivery_id_of(run_key: str, form: str, destination: str) -> str:
    """Name the delivery of one form of one run to one destination."""
    return f"{run_key}:{form}:{destination}"


def originals_id_of(study_instance_uid: str, decision_number: int, destination: str) -> str:
    """Name the delivery of the originals of one decision to one destination."""
    return f"{study_instance_uid}:{decision_number}:{ORIGINALS}:{destination}"


def lane_of(delivery_id: str, destination: str) -> str:
    """Name the lane that a delivery goes in: originals are large and must not stand before results."""
    return f"{destination} {ORIGINALS}" if f":{ORIGINALS}:" in delivery_id else destination


def current_attempt(state: str, attempts: int) -> int:
    """Number, from 1, of the attempt that a delivery stands on: the one in work, or the next one."""
    return attempts if state == DeliveryState.SENDING else attempts + 1


def _check_accepted(delivery: DeliveryRecord) -> None:
    states = {item.state for item in delivery.items}
    if ItemState.REFUSED in states or ItemState.ACCEPTED not in states:
        raise ForbiddenTransition(
            "A delivery is delivered only when what was sent was accepted.", delivery_id=delivery.delivery_id
        )


def _to_send_again(state: DeliveryState) -> list[ItemState]:
    """Items to be sent again: what a destination took counts, unless the delivery was thought to be complete."""
    if state is DeliveryState.FAILED:
        return [ItemState.REFUSED, ItemState.WAITING]
    return [ItemState.REFUSED, ItemState.WAITING, ItemState.ACCEPTED]


def _lock_study(connection: Connection, study_instance_uid: str) -> None:
    studies = tables.studies.c
    connection.execute(
        select(studies.state).where(studies.study_instance_uid == study_instance_uid).with_for_update()
    ).one()


def _row(connection: Connection, delivery_id: str, *, lock: bool = False) -> Row[Any] | None:
    wanted = select(tables.deliveries).where(tables.deliveries.c.delivery_id == delivery_id)
    return connection.execute(wanted.with_for_update() if lock else wanted).one_or_none()


def _one(connection: Connection, delivery_id: str) -> DeliveryRecord:
    row = _row(connection, delivery_id)
    if row is None:
        raise NotKept("There is no such delivery.", delivery_id=delivery_id)
    return records_of(connection, [row])[0]


def _insert_items(
    connection: Connection, delivery_id: str, items: Sequence[tuple[str, str]], *, first: int = 0
) -> None:
    for position, (sop_instance_uid, kind) in enumerate(items, first):
        connection.execute(
            insert(tables.delivery_items).values(
                delivery_id=delivery_id,
                position=position,
                sop_instance_uid=sop_instance_uid,
                kind=kind,
                state=ItemState.WAITING.value,
            )
        )


def _other_revisions(connection: Connection, run_key: str) -> tuple[Select[Any], int]:
    """Select the runs in which the same engine said something of the same study in the same task; and this revision."""
    findings = tables.findings.c
    run = connection.execute(select(tables.findings).where(findings.run_key == run_key)).one()
    others = select(findings.run_key).where(
        findings.study_instance_uid == run.study_instance_uid,
        findings.engine == run.engine,
        findings.task == run.task,
    )
    return others, run.revision


def _is_superseded(connection: Connection, run_key: str) -> bool:
    """Tell whether a later revision has results: what it has to deliver, it delivers itself."""
    others, revision = _other_revisions(connection, run_key)
    later = others.where(tables.findings.c.revision > revision).where(
        exists().where(tables.results.c.run_key == tables.findings.c.run_key)
    )
    return connection.execute(later.limit(1)).first() is not None


def _retracted(connection: Connection, run_key: str) -> str:
    """Say why the results of a run were taken back; empty: they were not."""
    said = connection.execute(select(retractions.c.said).where(retractions.c.run_key == run_key)).scalar_one_or_none()
    return "" if said is None else f"Taken back: {said}"


def _overtaken(connection: Connection, run_key: str, form: str) -> tuple[DeliveryState, str] | None:
    """Say how a delivery ends that need not go out any more; a note that takes results back always goes."""
    if is_note(form) or form == ORIGINALS:
        return None
    if reason := _retracted(connection, run_key):
        return DeliveryState.WITHDRAWN, reason
    return (DeliveryState.SUPERSEDED, _SUPERSEDED) if _is_superseded(connection, run_key) else None


def withdraw(connection: Connection, run_key: str, reason: str, at: datetime) -> None:
    """End what of a run's results has not gone out, in the transaction that takes them back."""
    deliveries = tables.deliveries.c
    wanted = select(deliveries.delivery_id, deliveries.form).where(
        deliveries.run_key == run_key, deliveries.state.in_(_SUPERSEDABLE)
    )
    for delivery_id, form in connection.execute(wanted.with_for_update()).all():
        if not is_note(form):
            _end(connection, delivery_id, DeliveryState.WITHDRAWN, reason, at)


def _supersede_earlier(connection: Connection, run_key: str, at: datetime) -> None:
    others, revision = _other_revisions(connection, run_key)
    earlier = select(tables.deliveries.c.delivery_id).where(
        tables.deliveries.c.form.not_like(f"{NOTE_FORM}%"),
        tables.deliveries.c.run_key.in_(others.where(tables.findings.c.revision < revision)),
        tables.deliveries.c.state.in_(_SUPERSEDABLE),
    )
    for delivery_id in connection.execute(earlier.with_for_update()).scalars().all():
        _end(connection, delivery_id, DeliveryState.SUPERSEDED, _SUPERSEDED, at)


def _end(connection: Connection, delivery_id: str, state: DeliveryState, reason: str, at: datetime) -> None:
    if ledger.move(connection, delivery_id, state, reason=reason, at=at):
        _change(connection, delivery_id, ended_at=at)


def _change(connection: Connection, delivery_id: str, **values: Any) -> None:
    connection.execute(update(tables.deliveries).where(tables.deliveries.c.delivery_id == delivery_id).values(values))


def records_of(connection: Connection, rows: Sequence[Row[Any]]) -> list[DeliveryRecord]:
    """Make the records of rows of `deliveries`, with their instances."""
    items = tables.delivery_items
    found = connection.execute(
        select(items)
        .where(items.c.delivery_id.in_([row.delivery_id for row in rows]))
        .order_by(items.c.delivery_id, items.c.position)
    ).all()
    by_delivery: dict[str, list[DeliveryItem]] = {}
    for item in found:
        by_delivery.setdefault(item.delivery_id, []).append(
            DeliveryItem(
                sop_instance_uid=item.sop_instance_uid,
                kind=item.kind,
                state=ItemState(item.state),
                status=item.status,
                reason=item.reason,
                accepted_at=item.accepted_at,
                transfer_syntax_uid=item.transfer_syntax_uid,
            )
        )
    return [_record(row, tuple(by_delivery.get(row.delivery_id, ()))) for row in rows]


def _record(row: Row[Any], items: tuple[DeliveryItem, ...]) -> DeliveryRecord:
    return DeliveryRecord(
        delivery_id=row.delivery_id,
        job_id=row.job_id or "",
        run_key=row.run_key or "",
        form=row.form,
        study_instance_uid=row.study_instance_uid,
        destination=row.destination,
        state=DeliveryState(row.state),
        reason=row.reason,
        attempts=row.attempts,
        next_attempt_at=row.next_attempt_at,
        created_at=row.created_at,
        ended_at=row.ended_at,
        items=items,
    )
