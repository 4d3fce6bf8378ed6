"""Who may see which study, as a condition of SQL."""

from __future__ import annotations

from sqlalchemy import (
    Column,
    ColumnElement,
    FromClause,
    ScalarSelect,
    and_,
    distinct,
    exists,
    func,
    not_,
    or_,
    select,
    true,
)

from storage.records import ResultState, StudyFilter
from storage.tables import contributions, instances, results, series, studies

#: The form that is listed; sets of other forms answer to their UIDs alone.
CANONICAL_FORM = "binary+comprehensive-3d"
#: How the form of a note begins that takes results back.
NOTE_FORM = "rejection-"


#: The form of what goes onward as it came.
ORIGINALS = "originals"


def is_note(form: str) -> bool:
    """Tell whether a form is that of a note that takes results back."""
    return form.startswith(NOTE_FORM)


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
    """Give the condition that a series is none of unlisted results alone: of other forms, or taken back."""
    in_series = and_(
        results.c.study_instance_uid == series.c.study_instance_uid,
        results.c.series_instance_uid == series.c.series_instance_uid,
    )
    unlisted = exists(select(1).where(in_series, _is_unlisted(results)))
    listed = exists(select(1).where(in_series, not_(_is_unlisted(results))))
    return or_(not_(unlisted), listed)


def is_listed_instance() -> ColumnElement[bool]:
    """Give the condition that an instance is no result of another form than the canonical one, and not taken back."""
    named = results.c.sop_instance_uid == instances.c.sop_instance_uid
    return not_(exists(select(1).where(named, _is_unlisted(results))))


def _is_unlisted(table: FromClause) -> ColumnElement[bool]:
    return or_(table.c.form != CANONICAL_FORM, table.c.state == ResultState.RETRACTED)


def unlisted_series_in_study() -> ScalarSelect[int]:
    """Count the series of a study that are kept and not listed."""
    others = results.alias("others")
    same_series = and_(
        others.c.study_instance_uid == results.c.study_instance_uid,
        others.c.series_instance_uid == results.c.series_instance_uid,
    )
    listed = exists(select(1).where(same_series, not_(_is_unlisted(others))))
    return _unlisted(func.count(distinct(results.c.series_instance_uid)), not_(listed))


def unlisted_instances_in_study() -> ScalarSelect[int]:
    """Count the instances of a study that are kept and not listed."""
    return _unlisted(func.count())


def _unlisted(count: ColumnElement[int], *wanted: ColumnElement[bool]) -> ScalarSelect[int]:
    kept = results.join(instances, results.c.sop_instance_uid == instances.c.sop_instance_uid)
    of_study = and_(results.c.study_instance_uid == studies.c.study_instance_uid, _is_unlisted(results), *wanted)
    return select(count).select_from(kept).where(of_study).correlate(studies).scalar_subquery()
