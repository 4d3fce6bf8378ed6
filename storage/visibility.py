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
    literal_column,
    not_,
    or_,
    select,
    true,
)

from storage.records import InstanceState, ResultState, StudyFilter
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


#: Written into the statement: the index of the excluded instances is used for this very text alone.
_EXCLUDED: ColumnElement[str] = literal_column(f"'{InstanceState.EXCLUDED.value}'")


def is_counted(table: FromClause) -> ColumnElement[bool]:
    """Give the condition that no rejection took an instance out of the count.

    Source: IHE RAD TF-2 4.66.4.1.3 (rejected instances are not given in answer to queries).
    """
    return table.c.state != _EXCLUDED


def is_listed_study() -> ColumnElement[bool]:
    """Give the condition that not all of a study was rejected."""
    rejected, others = instances.alias("rejected"), instances.alias("others")
    of_study = rejected.c.study_instance_uid == studies.c.study_instance_uid
    left = and_(others.c.study_instance_uid == studies.c.study_instance_uid, is_counted(others))
    return or_(not_(exists(select(1).where(of_study, rejected.c.state == _EXCLUDED))), exists(select(1).where(left)))


def is_listed_series() -> ColumnElement[bool]:
    """Give the condition that a series is not rejected as a whole, nor of unlisted results alone."""
    rejected, others = instances.alias("rejected"), instances.alias("others")
    none_rejected = not_(exists(select(1).where(_in_series(rejected), rejected.c.state == _EXCLUDED)))
    return and_(
        _is_no_unlisted_result(), or_(none_rejected, exists(select(1).where(_in_series(others), is_counted(others))))
    )


def _in_series(table: FromClause) -> ColumnElement[bool]:
    return and_(
        table.c.study_instance_uid == series.c.study_instance_uid,
        table.c.series_instance_uid == series.c.series_instance_uid,
    )


def _is_no_unlisted_result() -> ColumnElement[bool]:
    in_series = and_(
        results.c.study_instance_uid == series.c.study_instance_uid,
        results.c.series_instance_uid == series.c.series_instance_uid,
    )
    unlisted = exists(select(1).where(in_series, _is_unlisted(results)))
    listed = exists(select(1).where(in_series, not_(_is_unlisted(results))))
    return or_(not_(unlisted), listed)


def is_listed_instance() -> ColumnElement[bool]:
    """Give the condition that an instance is neither rejected nor taken back, and no result of another form."""
    named = results.c.sop_instance_uid == instances.c.sop_instance_uid
    return and_(is_counted(instances), not_(exists(select(1).where(named, _is_unlisted(results)))))


def _is_unlisted(table: FromClause) -> ColumnElement[bool]:
    return or_(table.c.form != CANONICAL_FORM, table.c.state == ResultState.RETRACTED)


def unlisted_series_in_study() -> ColumnElement[int]:
    """Count the series of a study that are kept and not listed."""
    rejected, left = instances.alias("rejected"), instances.alias("left")
    in_series = and_(
        left.c.study_instance_uid == rejected.c.study_instance_uid,
        left.c.series_instance_uid == rejected.c.series_instance_uid,
        is_counted(left),
    )
    rejected_alone = (
        select(func.count(distinct(rejected.c.series_instance_uid)))
        .where(rejected.c.study_instance_uid == studies.c.study_instance_uid, rejected.c.state == _EXCLUDED)
        .where(not_(exists(select(1).where(in_series).correlate(rejected))))
        .correlate(studies)
        .scalar_subquery()
    )
    return _unlisted_result_series() + rejected_alone


def _unlisted_result_series() -> ScalarSelect[int]:
    others = results.alias("others")
    same_series = and_(
        others.c.study_instance_uid == results.c.study_instance_uid,
        others.c.series_instance_uid == results.c.series_instance_uid,
    )
    listed = exists(select(1).where(same_series, not_(_is_unlisted(others))))
    return _unlisted(func.count(distinct(results.c.series_instance_uid)), not_(listed))


def unlisted_instances_in_study() -> ColumnElement[int]:
    """Count the instances of a study that are kept and not listed."""
    return _unlisted(func.count()) + _rejected(studies, "study_instance_uid")


def rejected_instances_in_series() -> ScalarSelect[int]:
    """Count the instances of a series that were rejected."""
    return _rejected(series, "study_instance_uid", "series_instance_uid")


def _rejected(of: FromClause, *keys: str) -> ScalarSelect[int]:
    rejected = instances.alias("rejected")
    mine = [rejected.c[key] == of.c[key] for key in keys]
    return (
        select(func.count())
        .select_from(rejected)
        .where(*mine, rejected.c.state == _EXCLUDED)
        .correlate(of)
        .scalar_subquery()
    )


def _unlisted(count: ColumnElement[int], *wanted: ColumnElement[bool]) -> ScalarSelect[int]:
    kept = results.join(instances, results.c.sop_instance_uid == instances.c.sop_instance_uid)
    of_study = and_(results.c.study_instance_uid == studies.c.study_instance_uid, _is_unlisted(results), *wanted)
    return select(count).select_from(kept).where(of_study).correlate(studies).scalar_subquery()
