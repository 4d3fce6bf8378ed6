"""Work items (Unified Procedure Steps): what is asked for, who performs it, what came of it.

One that names an engine of this node is performed by the node: its job does the work, and its state follows it.
Everybody else claims one with a Transaction UID, and changes it with that alone.

Source: PS3.4 CC.1.1 (states), CC.2 (operations); PS3.18 11.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson
from sqlalchemy import ColumnElement, Connection, Row, and_, insert, or_, select, update

from storage import ledger, tables
from storage.database import Database
from storage.errors import NotKept, WorkitemConflict
from storage.matching import Key
from storage.peer_records import WorkitemState
from storage.records import EVERYTHING, StudyFilter
from storage.visibility import may_see
from storage.workitem_events import tell_changes, tell_state
from storage.workitem_matching import matches

_TABLE = tables.workitems
OPEN = (WorkitemState.SCHEDULED, WorkitemState.IN_PROGRESS)
STATE = "00741000"
_PERFORMED = "00741216"
#: Work items that one search looks at, the latest first.
_MOST_SEARCHED = 10_000
_PAGE = 500


@dataclass(frozen=True)
class Workitem:
    """One work item."""

    workitem_uid: str
    state: WorkitemState
    reason: str
    study_instance_uid: str
    engine: str
    """Of this node; empty: others perform it."""
    job_id: str
    """That does the work; empty until it is asked for."""
    attributes: Mapping[str, Any]
    """In the DICOM JSON model, with the state; never with the Transaction UID."""
    created_at: datetime
    changed_at: datetime


class Workitems:
    """The work items of this node."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def create(
        self, workitem_uid: str, attributes: Mapping[str, Any], *, study_instance_uid: str, engine: str, at: datetime
    ) -> Workitem:
        """Take in a work item, SCHEDULED.

        Raises
        ------
        WorkitemConflict
            There is one of this UID.
        """
        with self._database.write() as connection:
            if connection.execute(_select(_TABLE.c.workitem_uid == workitem_uid)).first() is not None:
                raise WorkitemConflict("There is a work item of this UID.")
            connection.execute(
                insert(_TABLE).values(
                    workitem_uid=workitem_uid,
                    state=WorkitemState.SCHEDULED.value,
                    study_instance_uid=study_instance_uid,
                    engine=engine,
                    attributes=orjson.dumps(attributes).decode(),
                    created_at=at,
                    changed_at=at,
                )
            )
            ledger.begin(connection, workitem_uid, WorkitemState.SCHEDULED, reason="", at=at)
            item = one_workitem(connection, workitem_uid)
            tell_state(connection, workitem_uid, item.attributes, at)
            return item

    def get(self, workitem_uid: str, visible: StudyFilter = EVERYTHING) -> Workitem:
        """Give a work item; `NotKept` where there is none that the asker may see."""
        with self._database.read() as connection:
            return one_workitem(connection, workitem_uid, visible)

    def search(self, keys: Sequence[Key], visible: StudyFilter = EVERYTHING) -> list[Workitem]:
        """Give the work items that match, the latest first.

        Raises
        ------
        MalformedQuery
            A value cannot be matched as its attribute asks.
        """
        found: list[Workitem] = []
        for offset in range(0, _MOST_SEARCHED, _PAGE):
            page = self._some(seen_by(visible), limit=_PAGE, offset=offset)
            found += [each for each in page if all(matches(each.attributes, key) for key in keys)]
            if len(page) < _PAGE:
                break
        return found

    def update(
        self,
        workitem_uid: str,
        changes: Mapping[str, Any],
        transaction_uid: str,
        at: datetime,
        visible: StudyFilter = EVERYTHING,
    ) -> Workitem:
        """Change attributes of a work item that is scheduled, or is performed under this Transaction UID.

        Raises
        ------
        NotKept, WorkitemConflict
            There is none; it has ended; or somebody else performs it.
        """
        with self._database.write() as connection:
            item = one_workitem(connection, workitem_uid, visible, lock=True)
            if item.state not in OPEN:
                raise WorkitemConflict(f"The work item is {item.state}.")
            if item.state is WorkitemState.IN_PROGRESS:
                _check_performer(connection, item, transaction_uid)
            _set(connection, item, {**item.attributes, **changes}, at)
            changed = one_workitem(connection, workitem_uid)
            tell_changes(connection, workitem_uid, item.attributes, changed.attributes, at)
            return changed

    def change_state(
        self,
        workitem_uid: str,
        to: WorkitemState,
        transaction_uid: str,
        at: datetime,
        visible: StudyFilter = EVERYTHING,
    ) -> bool:
        """Claim a work item, complete or cancel one that was claimed; False: it is in that final state already.

        Raises
        ------
        NotKept, WorkitemConflict
            There is none; the state does not allow it; or the Transaction UID is not the performer's.

        Source: PS3.4 Table CC.1.1-2.
        """
        with self._database.write() as connection:
            item = one_workitem(connection, workitem_uid, visible, lock=True)
            if item.state not in OPEN:
                if item.state is to:
                    return False
                raise WorkitemConflict(f"The work item is {item.state}.")
            if to is WorkitemState.IN_PROGRESS:
                if item.state is not WorkitemState.SCHEDULED:
                    raise WorkitemConflict("The work item is IN PROGRESS already.")
                # Who claims it performs it: no engine of this node begins it any more.
                _change(connection, item, transaction_uid=transaction_uid, engine="")
            elif item.state is not WorkitemState.IN_PROGRESS:
                raise WorkitemConflict("The work item was not claimed: it is SCHEDULED.")
            else:
                _check_performer(connection, item, transaction_uid)
                if to is WorkitemState.COMPLETED and _PERFORMED not in item.attributes:
                    raise WorkitemConflict("The work item does not say yet what was performed: (0074,1216).")
            ledger.move(connection, workitem_uid, to, reason="", at=at)
            _change(connection, item, changed_at=at)
            tell_state(connection, workitem_uid, one_workitem(connection, workitem_uid).attributes, at)
            return True

    def cancel_scheduled(self, workitem_uid: str, reason: str, at: datetime, visible: StudyFilter = EVERYTHING) -> bool:
        """Cancel a work item that nobody claimed; True also where it was canceled before.

        Raises
        ------
        NotKept, WorkitemConflict
            There is none, or it is completed.
        """
        with self._database.write() as connection:
            item = one_workitem(connection, workitem_uid, visible, lock=True)
            if item.state is WorkitemState.COMPLETED:
                raise WorkitemConflict("The work item is COMPLETED.")
            if item.state is WorkitemState.SCHEDULED:
                end_canceled(connection, item, reason, at)
            return item.state is not WorkitemState.IN_PROGRESS

    def to_begin(self) -> list[Workitem]:
        """Give work items of engines of this node that have no job yet, the oldest first."""
        wanted = and_(_TABLE.c.state.in_(OPEN), _TABLE.c.engine != "", _TABLE.c.job_id == "")
        return self._some(wanted, limit=_PAGE, oldest_first=True)

    def in_work(self) -> list[Workitem]:
        """Give work items whose jobs this node does, the oldest first."""
        wanted = and_(_TABLE.c.state == WorkitemState.IN_PROGRESS, _TABLE.c.job_id != "")
        return self._some(wanted, limit=_PAGE, oldest_first=True)

    def _some(
        self, wanted: ColumnElement[bool], *, limit: int, offset: int = 0, oldest_first: bool = False
    ) -> list[Workitem]:
        order = _TABLE.c.created_at if oldest_first else _TABLE.c.created_at.desc()
        statement = _select(wanted).order_by(order, _TABLE.c.workitem_uid).limit(limit).offset(offset)
        with self._database.read() as connection:
            return [record_of(row) for row in connection.execute(statement).all()]


def claim_for_job(connection: Connection, item: Workitem, job_id: str, at: datetime) -> bool:
    """Have a job of this node do a work item; False where somebody else was faster."""
    now = one_workitem(connection, item.workitem_uid, lock=True)
    if now.state not in OPEN or not now.engine or now.job_id:
        return False
    ledger.move(connection, item.workitem_uid, WorkitemState.IN_PROGRESS, reason=f"done by job {job_id}", at=at)
    progress = _progress("0", f"{item.engine} was asked for.")
    _change(connection, item, job_id=job_id)
    _set(connection, now, {**now.attributes, **progress}, at)
    _tell(connection, now, at)
    return True


def let_go_of_job(connection: Connection, item: Workitem) -> None:
    """Take the job from a work item, so that another one is asked for."""
    _change(connection, item, job_id="")


def end_completed(
    connection: Connection, item: Workitem, said: str, performed: Mapping[str, Any], at: datetime
) -> None:
    """Record that a work item's job came to its results."""
    ledger.move(connection, item.workitem_uid, WorkitemState.COMPLETED, reason=said, at=at)
    _set(connection, item, {**item.attributes, **_progress("100", said), **performed}, at)
    _tell(connection, item, at)


def end_canceled(
    connection: Connection, item: Workitem, reason: str, at: datetime, performed: Mapping[str, Any] | None = None
) -> None:
    """Record that a work item is not done; one that nobody claimed passes through IN PROGRESS (PS3.4 CC.2.2.2)."""
    ledger.move(connection, item.workitem_uid, WorkitemState.IN_PROGRESS, reason="to be canceled", at=at)
    if item.state is WorkitemState.SCHEDULED:
        _tell(connection, item, at)
    ledger.move(connection, item.workitem_uid, WorkitemState.CANCELED, reason=reason, at=at)
    progress = _progress("", "", reason=reason, canceled_at=at)
    _set(connection, item, {**item.attributes, **progress, **(performed or {})}, at)
    _tell(connection, item, at)


def _tell(connection: Connection, before: Workitem, at: datetime) -> None:
    after = one_workitem(connection, before.workitem_uid)
    tell_changes(connection, before.workitem_uid, before.attributes, after.attributes, at)


def _progress(percent: str, said: str, *, reason: str = "", canceled_at: datetime | None = None) -> dict[str, Any]:
    """Give the Procedure Step Progress Information Sequence. Source: PS3.4 Table CC.2.5-3."""
    item: dict[str, Any] = {}
    if percent:
        item["00741004"] = {"vr": "DS", "Value": [float(percent)]}
        item["00741006"] = {"vr": "ST", "Value": [said[:1024]]}
    if canceled_at is not None:
        item["00404052"] = {"vr": "DT", "Value": [f"{canceled_at:%Y%m%d%H%M%S}+0000"]}
        item["00741238"] = {"vr": "LT", "Value": [reason[:10240]]}
    return {"00741002": {"vr": "SQ", "Value": [item]}}


def _check_performer(connection: Connection, item: Workitem, transaction_uid: str) -> None:
    held = connection.execute(
        select(_TABLE.c.transaction_uid).where(_TABLE.c.workitem_uid == item.workitem_uid)
    ).scalar_one()
    if not held:
        raise WorkitemConflict("This node performs the work item.")
    if transaction_uid != held:
        raise WorkitemConflict("The Transaction UID is not the one of who claimed the work item.")


def _set(connection: Connection, item: Workitem, attributes: Mapping[str, Any], at: datetime) -> None:
    _change(connection, item, attributes=orjson.dumps(attributes).decode(), changed_at=at)


def _change(connection: Connection, item: Workitem, **values: Any) -> None:
    connection.execute(update(_TABLE).where(_TABLE.c.workitem_uid == item.workitem_uid).values(values))


def seen_by(visible: StudyFilter) -> ColumnElement[bool]:
    """Give the condition that a work item may be seen: who sees only some studies sees the work on these alone."""
    if visible.sender_peers is None:
        return or_(_TABLE.c.workitem_uid != "")
    studies = select(tables.studies.c.study_instance_uid).where(may_see(visible, tables.studies.c.study_instance_uid))
    return _TABLE.c.study_instance_uid.in_(studies)


def _select(wanted: ColumnElement[bool]) -> Any:
    return select(_TABLE).where(wanted)


def one_workitem(
    connection: Connection, workitem_uid: str, visible: StudyFilter = EVERYTHING, *, lock: bool = False
) -> Workitem:
    """Give a work item within a transaction; `NotKept` where there is none that the asker may see."""
    wanted = _select(and_(_TABLE.c.workitem_uid == workitem_uid, seen_by(visible)))
    row = connection.execute(wanted.with_for_update() if lock else wanted).one_or_none()
    if row is None:
        raise NotKept("There is no such work item.")
    return record_of(row)


def record_of(row: Row[Any]) -> Workitem:
    """Give the record of a row of work items."""
    attributes = {**orjson.loads(row.attributes), STATE: {"vr": "CS", "Value": [row.state]}}
    return Workitem(
        workitem_uid=row.workitem_uid,
        state=WorkitemState(row.state),
        reason=row.reason,
        study_instance_uid=row.study_instance_uid,
        engine=row.engine,
        job_id=row.job_id,
        attributes=attributes,
        created_at=row.created_at,
        changed_at=row.changed_at,
    )
