"""Who wants to be told of work items: of one, of all, or of those that match a filter; and what is due to be told.

Source: PS3.4 CC.2.3 (subscriptions, Table CC.2.3-2), PS3.18 11.10 to 11.12.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import orjson
from sqlalchemy import Connection, Row, delete, func, insert, or_, select, update

from storage.database import Database
from storage.errors import NotKept, SubscriptionRefused
from storage.matching import Key
from storage.records import EVERYTHING, StudyFilter
from storage.tables import workitem_events, workitem_subscriptions, workitems
from storage.workitem_events import tell_cancel_request, tell_state
from storage.workitem_matching import matches
from storage.workitems import OPEN, Workitem, one_workitem, record_of, seen_by

#: Well-known UIDs: all work items, and all that match a filter. Source: PS3.4 CC.2.3.1, PS3.6 Table A-1.
GLOBAL, FILTERED = "1.2.840.10008.5.1.4.34.5", "1.2.840.10008.5.1.4.34.5.1"
_TABLE = workitem_subscriptions
#: Subscriptions of one subscriber, and subscribers.
_MOST_EACH, _MOST_SUBSCRIBERS = 1_000, 100
#: Work items whose state is told at once to who subscribes to all.
_MOST_TOLD_AT_ONCE = 1_000
_PAGE = 500
#: Numbers are given before they are committed: what is younger is read again.
_SETTLED_AFTER = timedelta(seconds=5)


@dataclass(frozen=True)
class Event:
    """One thing to tell."""

    workitem_uid: str
    event_type: int
    information: Mapping[str, Any]
    """In the DICOM JSON model."""


@dataclass(frozen=True)
class _Subscription:
    subscribed: bool
    suspended_at: datetime | None
    after_event: int
    keys: tuple[Key, ...]

    def takes(self, item: Workitem, number: int | None) -> bool:
        if not self.subscribed or (number is not None and number <= self.after_event):
            return False
        if self.suspended_at is not None and item.created_at > self.suspended_at:
            return False
        return all(matches(item.attributes, key) for key in self.keys)


class Subscriptions:
    """The subscriptions to work items of this node."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def subscribe(
        self,
        subscriber: str,
        workitem_uid: str,
        *,
        by: str,
        at: datetime,
        keys: Sequence[Key] = (),
        deletion_lock: bool = False,
        visible: StudyFilter = EVERYTHING,
    ) -> None:
        """Have a subscriber be told of a work item, or of all; its state is told at once.

        Parameters
        ----------
        subscriber
            AE title.
        by
            Who asks: a subscriber of another is not changed.
        keys
            What work items must match, for the filtered subscription.

        Raises
        ------
        NotKept
            There is no such work item that the asker may see.
        SubscriptionRefused
            The subscriber is another's, or there are too many subscriptions.
        """
        with self._database.write() as connection:
            _check_owner(connection, subscriber, by)
            _check_room(connection, subscriber)
            of_all = workitem_uid in (GLOBAL, FILTERED)
            items = (
                _open_items(connection, keys, visible) if of_all else [one_workitem(connection, workitem_uid, visible)]
            )
            if workitem_uid == GLOBAL:  # what it was told not to tell of single ones is over
                _remove(connection, subscriber, without=(GLOBAL, FILTERED))
            _remove(connection, subscriber, workitem_uid)
            values = {"subscriber": subscriber, "workitem_uid": workitem_uid, "owner": by, "created_at": at}
            _add(connection, values, keys, deletion_lock=deletion_lock)
            for item in items:
                tell_state(connection, item.workitem_uid, item.attributes, at, to=subscriber)

    def unsubscribe(self, subscriber: str, workitem_uid: str, *, by: str, at: datetime) -> None:
        """Have a subscriber be told no more; of all: of none at all.

        Raises
        ------
        NotKept, SubscriptionRefused
            There is no such subscription, or it is another's.
        """
        with self._database.write() as connection:
            _check_owner(connection, subscriber, by)
            held = _subscriptions(connection, subscriber)
            of_all = [each for each in (GLOBAL, FILTERED) if each in held]
            if workitem_uid not in held and not (of_all and workitem_uid not in (GLOBAL, FILTERED)):
                raise NotKept("There is no such subscription.")
            if workitem_uid == GLOBAL:
                _remove(connection, subscriber, without=())
                return
            _remove(connection, subscriber, workitem_uid)
            if of_all and workitem_uid not in of_all:  # it is left out of what is told of all
                values = {"subscriber": subscriber, "workitem_uid": workitem_uid, "owner": by, "created_at": at}
                _add(connection, values, subscribed=False)

    def suspend(self, subscriber: str, workitem_uid: str, *, by: str, at: datetime) -> None:
        """Have a subscriber to all be told of no work item that is created from now on.

        Raises
        ------
        NotKept, SubscriptionRefused
            There is no such subscription, or it is another's.
        """
        with self._database.write() as connection:
            _check_owner(connection, subscriber, by)
            mine = (_TABLE.c.subscriber == subscriber, _TABLE.c.workitem_uid == workitem_uid)
            changed = connection.execute(update(_TABLE).where(*mine).values(suspended_at=at))
            if not changed.rowcount:
                raise NotKept("There is no such subscription.")

    def check_owner(self, subscriber: str, by: str) -> None:
        """Raise `SubscriptionRefused` where a subscriber is another's."""
        with self._database.read() as connection:
            _check_owner(connection, subscriber, by)


class Channel:
    """What one subscriber is told from now on, in order."""

    def __init__(self, database: Database, subscriber: str) -> None:
        self._database = database
        self._subscriber = subscriber
        self._seen: dict[int, datetime] = {}
        with database.read() as connection:
            self._floor: int = connection.execute(select(func.max(workitem_events.c.number))).scalar() or 0

    def due(self, now: datetime, visible: StudyFilter = EVERYTHING) -> list[Event]:
        """Give what was not given yet, of work items that the listener may see."""
        table = workitem_events.c
        to_me = or_(table.subscriber == "", table.subscriber == self._subscriber)
        statement = select(workitem_events).where(table.number > self._floor, to_me).order_by(table.number).limit(_PAGE)
        with self._database.read() as connection:
            rows = [row for row in connection.execute(statement).all() if row.number not in self._seen]
            events = self._for_me(connection, rows, visible) if rows else []
        self._seen.update((row.number, row.at) for row in rows)
        while self._seen and (number := next(iter(self._seen))) and self._seen[number] < now - _SETTLED_AFTER:
            self._floor = max(self._floor, number)
            del self._seen[number]
        return events

    def _for_me(self, connection: Connection, rows: Sequence[Row[Any]], visible: StudyFilter) -> list[Event]:
        held = _subscriptions(connection, self._subscriber)
        if not held:
            return []
        uids = {row.workitem_uid for row in rows}
        wanted = select(workitems).where(workitems.c.workitem_uid.in_(uids), seen_by(visible))
        items = {row.workitem_uid: record_of(row) for row in connection.execute(wanted).all()}
        return [
            Event(row.workitem_uid, row.event_type, orjson.loads(row.information))
            for row in rows
            if row.workitem_uid in items
            and _is_told(held, items[row.workitem_uid], None if row.subscriber else row.number)
        ]


def ask_to_cancel(connection: Connection, item: Workitem, asked: Mapping[str, Any], by: str, at: datetime) -> bool:
    """Have who performs a work item be told that somebody wants it canceled; False: nobody would be told.

    Source: PS3.4 CC.2.2.3.
    """
    watched = _is_watched(connection, item)
    if watched:
        tell_cancel_request(connection, item.workitem_uid, asked, by, at)
    return watched


def _is_watched(connection: Connection, item: Workitem) -> bool:
    names = connection.execute(select(_TABLE.c.subscriber).distinct()).scalars().all()
    return any(_is_told(_subscriptions(connection, name), item) for name in names)


def _is_told(held: Mapping[str, _Subscription], item: Workitem, number: int | None = None) -> bool:
    """Tell whether a subscriber is told of an event; without a number it is the subscriber's own.

    What is said of the one work item goes before what is said of all.

    Source: PS3.4 CC.2.3.
    """
    if item.workitem_uid in held:
        return held[item.workitem_uid].takes(item, number)
    return any(name in held and held[name].takes(item, number) for name in (GLOBAL, FILTERED))


def _subscriptions(connection: Connection, subscriber: str) -> dict[str, _Subscription]:
    rows = connection.execute(select(_TABLE).where(_TABLE.c.subscriber == subscriber)).all()
    return {
        row.workitem_uid: _Subscription(
            row.subscribed,
            row.suspended_at,
            row.after_event,
            tuple(Key(tuple(path), value) for path, value in orjson.loads(row.filter)),
        )
        for row in rows
    }


def _check_owner(connection: Connection, subscriber: str, by: str) -> None:
    owners = connection.execute(select(_TABLE.c.owner).where(_TABLE.c.subscriber == subscriber)).scalars()
    if any(owner != by for owner in owners):
        raise SubscriptionRefused("The subscriber is another's.")


def _check_room(connection: Connection, subscriber: str) -> None:
    counted = select(_TABLE.c.subscriber, func.count().label("held")).group_by(_TABLE.c.subscriber)
    held = {row.subscriber: row.held for row in connection.execute(counted)}
    if held.get(subscriber, 0) >= _MOST_EACH or (subscriber not in held and len(held) >= _MOST_SUBSCRIBERS):
        raise SubscriptionRefused("There are too many subscriptions.")


def _open_items(connection: Connection, keys: Sequence[Key], visible: StudyFilter) -> list[Workitem]:
    wanted = (
        select(workitems)
        .where(workitems.c.state.in_([state.value for state in OPEN]), seen_by(visible))
        .order_by(workitems.c.created_at.desc())
        .limit(_MOST_TOLD_AT_ONCE)
    )
    items = [record_of(row) for row in connection.execute(wanted).all()]
    return [item for item in reversed(items) if all(matches(item.attributes, key) for key in keys)]


def _add(
    connection: Connection,
    values: Mapping[str, Any],
    keys: Sequence[Key] = (),
    *,
    subscribed: bool = True,
    deletion_lock: bool = False,
) -> None:
    newest = connection.execute(select(func.max(workitem_events.c.number))).scalar() or 0
    asked = orjson.dumps([[list(key.path), key.value] for key in keys]).decode()
    flags = {"subscribed": subscribed, "deletion_lock": deletion_lock}
    connection.execute(insert(_TABLE).values(**values, **flags, filter=asked, after_event=newest))


def _remove(
    connection: Connection, subscriber: str, workitem_uid: str = "", *, without: Sequence[str] | None = None
) -> None:
    mine = [_TABLE.c.subscriber == subscriber]
    mine.append(_TABLE.c.workitem_uid == workitem_uid if without is None else _TABLE.c.workitem_uid.not_in(without))
    connection.execute(delete(_TABLE).where(*mine))
