"""What is told of work items to those who subscribed: written with each change, read by the channels that tell it.

Source: PS3.4 CC.2.4 (UPS event reports), Table CC.2.4-1 (what each holds).
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from enum import IntEnum
from typing import Any

import orjson
from sqlalchemy import Connection, delete, func, insert, select

from storage.tables import workitem_events

#: The oldest go: nobody waits for what was told so many events ago.
MOST_EVENTS = 10_000
_STATE, _READINESS, _PROGRESS = "00741000", "00404041", "00741002"
_REASON = "00741238"
#: Given with a request for cancellation. Source: PS3.4 Table CC.2.2-1.
_CANCELLATION = (_REASON, "0074100E", "0074100A", "0074100C")
_REQUESTING_AE = "00741236"
#: Scheduled Station Name Code, Human Performer Code and Human Performer's Organization.
_ASSIGNED = ("00404025", "00404009", "00404036")


class EventType(IntEnum):
    """Event Type ID. Source: PS3.4 Table CC.2.4-1."""

    STATE_REPORT = 1
    CANCEL_REQUESTED = 2
    PROGRESS_REPORT = 3
    ASSIGNED = 5


def tell_state(
    connection: Connection, workitem_uid: str, attributes: Mapping[str, Any], at: datetime, *, to: str = ""
) -> None:
    """Tell the state and readiness of a work item; `to`: one subscriber alone."""
    said = _some(attributes, (_STATE, _READINESS))
    progress = attributes.get(_PROGRESS, {}).get("Value") or [{}]
    said |= _some(progress[0], _CANCELLATION[:2])
    _tell(connection, workitem_uid, EventType.STATE_REPORT, said, at, to)


def tell_changes(
    connection: Connection, workitem_uid: str, before: Mapping[str, Any], after: Mapping[str, Any], at: datetime
) -> None:
    """Tell what subscribers are told of when attributes changed."""
    if before.get(_STATE) != after.get(_STATE) or before.get(_READINESS) != after.get(_READINESS):
        tell_state(connection, workitem_uid, after, at)
    if before.get(_PROGRESS) != after.get(_PROGRESS):
        _tell(connection, workitem_uid, EventType.PROGRESS_REPORT, _some(after, (_PROGRESS,)), at)
    if _some(before, _ASSIGNED) != _some(after, _ASSIGNED):
        _tell(connection, workitem_uid, EventType.ASSIGNED, _some(after, _ASSIGNED), at)


def tell_cancel_request(
    connection: Connection, workitem_uid: str, asked: Mapping[str, Any], by: str, at: datetime
) -> None:
    """Tell who performs a work item that somebody wants it canceled."""
    said = {_REQUESTING_AE: {"vr": "AE", "Value": [by[:16]]}} | _some(asked, _CANCELLATION)
    _tell(connection, workitem_uid, EventType.CANCEL_REQUESTED, said, at)


def _some(attributes: Mapping[str, Any], tags: tuple[str, ...]) -> dict[str, Any]:
    return {tag: attributes[tag] for tag in tags if tag in attributes}


def _tell(
    connection: Connection, workitem_uid: str, kind: EventType, said: Mapping[str, Any], at: datetime, to: str = ""
) -> None:
    connection.execute(
        insert(workitem_events).values(
            workitem_uid=workitem_uid,
            event_type=kind.value,
            subscriber=to,
            information=orjson.dumps(said).decode(),
            at=at,
        )
    )
    newest = select(func.max(workitem_events.c.number)).scalar_subquery()
    connection.execute(delete(workitem_events).where(workitem_events.c.number <= newest - MOST_EVENTS))
