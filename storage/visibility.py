"""Who may see which study, as a condition of SQL."""

from __future__ import annotations

from sqlalchemy import Column, ColumnElement, ScalarSelect, and_, distinct, exists, func, not_, or_, select, true

from storage.records import StudyFilter
from storage.tables import contributions, instances, results, series, studies

#: The form that is listed; sets of other forms answer to their UIDs alone.
CANONICAL_FORM = "binary+comprehensive-3d"


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


def is_listed_series() -> ColumnElement[bool]:
    """Give the condition that a series is no result of another form than the canonical one."""
    return not_(
        exists(
            select(1).where(
                results.c.study_instance_uid == series.c.study_instance_uid,
                results.c.series_instance_uid == series.c.series_instance_uid,
                results.c.form != CANONICAL_FORM,
            )
        )
    )


def is_listed_instance() -> ColumnElement[bool]:
    """Give the condition that an instance is no result of another form than the canonical one."""
    named = results.c.sop_instance_uid == instances.c.sop_instance_uid
    return not_(exists(select(1).where(named, results.c.form != CANONICAL_FORM)))


def unlisted_series_in_study() -> ScalarSelect[int]:
    """Count the series of a study that are kept and not listed."""
    return _unlisted(func.count(distinct(results.c.series_instance_uid)))


def unlisted_instances_in_study() -> ScalarSelect[int]:
    """Count the instances of a study that are kept and not listed."""
    return _unlisted(func.count())


def _unlisted(count: ColumnElement[int]) -> ScalarSelect[int]:
    kept = results.join(instances, results.c.sop_instance_uid == instances.c.sop_instance_uid)
    of_study = and_(results.c.study_instance_uid == studies.c.study_instance_uid, results.c.form != CANONICAL_FORM)
    return select(count).select_from(kept).where(of_study).correlate(studies).scalar_subquery()
