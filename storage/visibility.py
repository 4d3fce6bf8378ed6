"""Who may see which study, as a condition of SQL."""

from __future__ import annotations

from sqlalchemy import Column, ColumnElement, exists, or_, select, true

from storage.records import StudyFilter
from storage.tables import contributions, instances


def may_see(visible: StudyFilter, study_instance_uid: Column[str]) -> ColumnElement[bool]:
    """Give the condition that a study passes a caller's filter.

    A study was sent by a peer where any input or document of it was; `contributions` has the inputs.
    """
    if visible.sender_peers is None:
        return true()
    peers = sorted(visible.sender_peers)
    inputs = exists(
        select(1).where(contributions.c.study_instance_uid == study_instance_uid, contributions.c.peer.in_(peers))
    )
    sent = instances.alias("sent")
    anything = exists(select(1).where(sent.c.study_instance_uid == study_instance_uid, sent.c.peer.in_(peers)))
    return or_(inputs, anything)
