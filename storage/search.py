"""One query, one statement: matching attributes over study, series and instance, answered as DICOM JSON.

Source: PS3.18 10.6.3 (what is always returned), PS3.4 C.2.2.2.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from pydicom.datadict import dictionary_VR, tag_for_keyword
from sqlalchemy import Column, ColumnElement, FromClause, Integer, Row, Select, and_, cast, exists, func, select
from sqlalchemy.dialects.postgresql import JSONB

from storage.errors import MalformedQuery
from storage.header import INSTANCE_KEYWORDS, SERIES_KEYWORDS, STUDY_KEYWORDS
from storage.matching import Key, Level, Matcher, Query, all_of, is_range, name_of, values_of
from storage.records import StudyFilter
from storage.tables import instances, series, studies
from storage.visibility import (
    is_counted,
    is_listed_instance,
    is_listed_series,
    is_listed_study,
    may_see,
    rejected_instances_in_series,
    unlisted_instances_in_study,
    unlisted_series_in_study,
)

#: Matches that one answer holds at most; whoever wants more asks on with `offset`.
MOST_ROWS = 20_000
#: Studies with a name that are fetched one by one; where there are more, the first page comes soon by date.
MOST_NAMED = 500


def _tags(*keywords: str) -> tuple[int, ...]:
    return tuple(tag for keyword in keywords if (tag := tag_for_keyword(keyword)) is not None)


_LEVELS = (Level.STUDY, Level.SERIES, Level.INSTANCE)
_INDEXED = {
    Level.STUDY: frozenset(_tags(*STUDY_KEYWORDS)),
    Level.SERIES: frozenset(_tags(*SERIES_KEYWORDS)),
    Level.INSTANCE: frozenset(_tags(*INSTANCE_KEYWORDS)),
}
#: Given with every match, empty where there is no value. Source: PS3.18 Tables 10.6.3-3 to 10.6.3-5.
_ALWAYS = {
    Level.STUDY: _tags(
        *("StudyDate", "StudyTime", "AccessionNumber", "ReferringPhysicianName", "PatientName", "PatientID"),
        *("PatientBirthDate", "PatientSex", "StudyInstanceUID", "StudyID"),
    ),
    Level.SERIES: _tags("Modality", "SeriesInstanceUID", "SeriesNumber"),
    Level.INSTANCE: _tags("SOPClassUID", "SOPInstanceUID", "InstanceNumber"),
}
_ALWAYS_VR = {tag: dictionary_VR(tag) for tags in _ALWAYS.values() for tag in tags}
#: Given with every match that has a value for it. Source: the same.
_WHERE_KNOWN = {
    Level.STUDY: frozenset(_tags("TimezoneOffsetFromUTC")),
    Level.SERIES: frozenset(
        _tags(
            *("TimezoneOffsetFromUTC", "SeriesDescription", "PerformedProcedureStepStartDate"),
            *("PerformedProcedureStepStartTime", "RequestAttributesSequence"),
        )
    ),
    Level.INSTANCE: frozenset(_tags("TimezoneOffsetFromUTC", "Rows", "Columns", "BitsAllocated", "NumberOfFrames")),
}
_TEXT_COLUMNS: dict[int, ColumnElement[Any]] = {
    0x0020000D: studies.c.study_instance_uid,
    0x00100020: studies.c.patient_id,
    0x00100021: studies.c.issuer_of_patient_id,
    0x00100030: studies.c.patient_birth_date,
    0x00100040: studies.c.patient_sex,
    0x00080020: studies.c.study_date,
    0x00080030: studies.c.study_time,
    0x00080050: studies.c.accession_number,
    0x00200010: studies.c.study_id,
    0x00081030: studies.c.study_description,
    0x00201206: studies.c.number_of_series,
    0x00201208: studies.c.number_of_instances,
    0x0020000E: series.c.series_instance_uid,
    0x00080060: series.c.modality,
    0x00200011: series.c.series_number,
    0x0008103E: series.c.series_description,
    0x00201209: series.c.number_of_instances,
    0x00080018: instances.c.sop_instance_uid,
    0x00080016: instances.c.sop_class_uid,
    0x00200013: instances.c.instance_number,
    0x00280008: instances.c.number_of_frames,
}
_STUDY_DATE, _STUDY_TIME = 0x00080020, 0x00080030
_PATIENT_NAME, _REFERRING_PHYSICIAN = 0x00100010, 0x00080090
_MODALITIES_IN_STUDY = 0x00080061
_STUDY_UID, _SERIES_UID, _INSTANCE_UID = (0x0020000D,), (0x0020000E,), (0x00080018,)
_CHARACTER_SET = 0x00080005
_ORDER_COLUMNS: dict[int, Column[Any]] = {
    **{tag: column for tag, column in _TEXT_COLUMNS.items() if isinstance(column, Column)},
    _PATIENT_NAME: studies.c.patient_name_folded,
    _REFERRING_PHYSICIAN: studies.c.referring_physician_name,
    _MODALITIES_IN_STUDY: studies.c.modalities,
}
_COLUMN_LEVEL = {
    0x00201206: Level.STUDY,
    0x00201208: Level.STUDY,
    0x00201209: Level.SERIES,
    _MODALITIES_IN_STUDY: Level.STUDY,
}
_TABLES = {Level.STUDY: studies, Level.SERIES: series, Level.INSTANCE: instances}


@dataclass(frozen=True)
class Search:
    """A query made ready for one engine of the database."""

    statement: Select[Any]
    whole: tuple[Level, ...]
    """Levels whose own attributes each match has."""
    partly: tuple[Level, ...]
    """Levels above of which only what was asked for is given."""
    wanted: frozenset[int] | None
    """Tags to give where known; None: all."""
    asked: frozenset[int]
    limit: int
    unsupported: tuple[str, ...]


@dataclass(frozen=True)
class SearchAnswer:
    """What matched."""

    rows: list[dict[str, Any]]
    """DICOM JSON, without URLs."""
    more: bool
    """There are further matches."""
    unsupported: tuple[str, ...] = ()
    """Attributes that were not matched, as the index does not have them."""


def matched_attributes(level: Level) -> tuple[str, ...]:
    """Name the attributes that a query at a level can match, those of its own level first; sequences by their items."""
    names: list[str] = []
    for at in reversed(_LEVELS[: _LEVELS.index(level) + 1]):
        tags = _INDEXED[at] | {tag for tag, where in _COLUMN_LEVEL.items() if where is at}
        paths = [(tag,) if dictionary_VR(tag) != "SQ" else (tag, 0) for tag in sorted(tags)]
        usable = [path for path in paths if _level_of(Key(path, ""), level) is not None]
        names += [name_of(path[:1]) + (".…" if len(path) > 1 else "") for path in usable]
    return tuple(dict.fromkeys(names))


def known_attributes(level: Level) -> frozenset[int]:
    """Give the tags that a match of a level can be asked for: its own and those of the levels above."""
    tags: set[int] = set()
    for at in _LEVELS[: _LEVELS.index(level) + 1]:
        tags |= _INDEXED[at] | {tag for tag, where in _COLUMN_LEVEL.items() if where is at}
    return frozenset(tags)


def joined(level: Level) -> FromClause:
    """Give the tables of a level and those above."""
    if level is Level.STUDY:
        return studies
    if level is Level.SERIES:
        return series.join(studies, series.c.study_instance_uid == studies.c.study_instance_uid)
    same_series = and_(
        instances.c.study_instance_uid == series.c.study_instance_uid,
        instances.c.series_instance_uid == series.c.series_instance_uid,
    )
    return instances.join(series, same_series).join(
        studies, instances.c.study_instance_uid == studies.c.study_instance_uid
    )


def names_statement(query: Query, *, dialect: str) -> Select[Any] | None:
    """Ask for the studies whose patient's name matches, from the index of names alone; None: no name is asked for.

    A name with wildcards is looked for in every name: those stand close together in their index, and far apart in
    the studies' rows.
    """
    matcher = Matcher(dialect, fuzzy=query.fuzzy)
    names = [key for key in query.keys if key.path == (_PATIENT_NAME,)]
    conditions = all_of(matcher.person(studies.c.patient_name_folded, key, folded=True) for key in names)
    if not conditions or query.study_instance_uid is not None:
        return None
    return select(studies.c.study_instance_uid).where(*conditions).limit(MOST_NAMED + 1)


def search_statement(
    level: Level, query: Query, visible: StudyFilter, *, dialect: str, among: Sequence[str] | None = None
) -> Search:
    """Turn a query into one statement; `among`: the only studies that can match, where these are known.

    An attribute that the index does not have is not matched, and named in the answer (PS3.4 C.2.2.1.3).

    Raises
    ------
    MalformedQuery
        A value cannot be matched as its attribute asks.
    """
    above = _LEVELS[: _LEVELS.index(level)]
    whole = (*above, level) if query.with_parents else (level,)
    partly = tuple(each for each in above if each not in whole and query.include & _INDEXED[each])
    matcher = Matcher(dialect, fuzzy=query.fuzzy)
    conditions, unsupported = conditions_of(level, query, matcher)
    if among is not None:
        conditions.append(studies.c.study_instance_uid.in_(among))
    limit = min(MOST_ROWS if query.limit is None else query.limit, MOST_ROWS)
    columns: list[ColumnElement[Any]] = []
    for each in whole:
        columns += _columns(each)
    columns += [_attributes(each) for each in partly]
    # A match always says what it belongs to.
    columns += {Level.STUDY: [], Level.SERIES: [series.c.study_instance_uid]}.get(
        level, [instances.c.study_instance_uid, instances.c.series_instance_uid]
    )
    statement = (
        select(*columns)
        .select_from(joined(level))
        .where(*conditions, may_see(visible, _TABLES[level].c.study_instance_uid))
        .order_by(*_order(level, query))
        .limit(limit + 1)
        .offset(query.offset)
    )
    asked = {key.path[0] for key in query.keys} | query.include
    wanted = None if query.include_all else frozenset().union(*(_WHERE_KNOWN[each] for each in whole), asked)
    return Search(statement, whole, partly, wanted, query.include, limit, unsupported)


def answer_of(search: Search, rows: Sequence[Row[Any]]) -> SearchAnswer:
    """Turn rows into DICOM JSON."""
    given = [_match(search, row) for row in rows[: search.limit]]
    return SearchAnswer(given, more=len(rows) > search.limit, unsupported=search.unsupported)


def conditions_of(level: Level, query: Query, matcher: Matcher) -> tuple[list[ColumnElement[bool]], tuple[str, ...]]:
    """Give the conditions on the rows of a level and those above, and what the index does not match.

    Raises
    ------
    MalformedQuery
        A value cannot be matched as its attribute asks.
    """
    table = _TABLES[level]
    conditions: list[ColumnElement[bool] | None] = [_listed(level, query)]
    if query.study_instance_uid is not None:
        conditions.append(table.c.study_instance_uid == query.study_instance_uid)
    if query.series_instance_uid is not None:
        conditions.append(table.c.series_instance_uid == query.series_instance_uid)
    unsupported: list[str] = []
    keys = list(query.keys)
    moment = _moment(keys, matcher) if query.combine_date_and_time else None
    if moment is not None:
        conditions.append(moment)
        keys = [key for key in keys if key.path not in ((_STUDY_DATE,), (_STUDY_TIME,))]
    for key in keys:
        at = _level_of(key, level)
        if at is None:
            unsupported.append(name_of(key.path))
        else:
            conditions.append(_condition(key, at, matcher))
    return all_of(conditions), tuple(unsupported)


def _listed(level: Level, query: Query) -> ColumnElement[bool] | None:
    """Only what is listed, unless it is named.

    Results of other forms answer to the UID of series or instance, what was rejected to its own alone.
    """
    named = {key.path for key in query.keys if values_of(key.value, "UI")} & {_STUDY_UID, _SERIES_UID, _INSTANCE_UID}
    in_study = _STUDY_UID in named or query.study_instance_uid is not None
    in_series = _SERIES_UID in named or query.series_instance_uid is not None
    if level is Level.STUDY:
        return None if in_study else is_listed_study()
    if _INSTANCE_UID in named:
        return None
    if level is Level.SERIES:
        return None if in_series else is_listed_series()
    return is_counted(instances) if in_series else is_listed_instance()


def _level_of(key: Key, asked: Level) -> Level | None:
    """The level whose row has an attribute, from the asked one upwards."""
    tag = key.path[0]
    for level in reversed(_LEVELS[: _LEVELS.index(asked) + 1]):
        computed = _COLUMN_LEVEL.get(tag)
        if computed is level:
            return level
        if tag in _INDEXED[level] and tag != _CHARACTER_SET and (len(key.path) > 1 or key.vr not in ("SQ", "UN")):
            is_column = tag in _TEXT_COLUMNS or tag in (_PATIENT_NAME, _REFERRING_PHYSICIAN)
            return level if is_column or key.vr != "PN" else None
    return None


def _condition(key: Key, level: Level, matcher: Matcher) -> ColumnElement[bool] | None:
    tag = key.path[0]
    if len(key.path) == 1:
        if tag == _PATIENT_NAME:
            return matcher.person(studies.c.patient_name_folded, key, folded=True)
        if tag == _REFERRING_PHYSICIAN:
            return matcher.person(studies.c.referring_physician_name, key, folded=False)
        if tag == _MODALITIES_IN_STUDY:
            return matcher.one_of_several(studies.c.modalities, key)
        if tag in _TEXT_COLUMNS:
            return matcher.text(_TEXT_COLUMNS[tag], key)
    return _in_attributes(_TABLES[level].c.attributes, key, matcher)


def _in_attributes(attributes: ColumnElement[str], key: Key, matcher: Matcher) -> ColumnElement[bool] | None:
    """Match an attribute that only the level's JSON has: any of its values, in any item of its sequences."""
    source: ColumnElement[Any] = attributes
    if matcher.dialect == "postgresql":
        source = cast(attributes, JSONB)
    tables: list[FromClause] = []
    for depth, tag in enumerate(key.path):
        is_value = depth == len(key.path) - 1
        values = _values(source, f"{tag:08X}", matcher.dialect, is_value=is_value)
        # SQLite names the columns of a table function itself; PostgreSQL wants their names.
        name = f"values_{depth}"
        values = values.alias(name) if matcher.dialect == "sqlite" else values.render_derived(name)
        tables.append(values)
        source = values.c.value
    condition = matcher.text(source, key)
    if condition is None:
        return None
    return exists(select(1).select_from(*tables).where(condition))


def _values(source: ColumnElement[Any], tag: str, dialect: str, *, is_value: bool) -> Any:
    """Give the values of one attribute of a JSON object as a table with a column `value`."""
    if dialect == "sqlite":
        return func.json_each(source, f'$."{tag}".Value').table_valued("value", joins_implicitly=True)
    values = func.jsonb_extract_path(source, tag, "Value")
    expand = func.jsonb_array_elements_text if is_value else func.jsonb_array_elements
    return expand(values).table_valued("value", joins_implicitly=True)


def _moment(keys: Sequence[Key], matcher: Matcher) -> ColumnElement[bool] | None:
    """Ranges of Study Date and Study Time with both ends alike open or closed are one range of moments."""
    dates = next((key for key in keys if key.path == (_STUDY_DATE,)), None)
    times = next((key for key in keys if key.path == (_STUDY_TIME,)), None)
    if dates is None or times is None or not (is_range(dates.value) and is_range(times.value)):
        return None
    ends = [[bool(end.strip()) for end in key.value.partition("-")[::2]] for key in (dates, times)]
    if ends[0] != ends[1]:
        return None
    return matcher.moment(studies.c.study_date, studies.c.study_time, dates, times)


@cache
def _columns(level: Level) -> tuple[ColumnElement[Any], ...]:
    """Give what each row has; built once, for building it costs more than the query of a key."""
    attributes = _attributes(level)
    if level is Level.STUDY:
        counts = (
            (studies.c.number_of_series - unlisted_series_in_study()).label("series_in_study"),
            (studies.c.number_of_instances - unlisted_instances_in_study()).label("instances_in_study"),
        )
        return (attributes, studies.c.modalities, *counts)
    if level is Level.SERIES:
        return (
            attributes,
            (series.c.number_of_instances - rejected_instances_in_series()).label("instances_in_series"),
        )
    return (attributes,)


def _attributes(level: Level) -> ColumnElement[str]:
    return _TABLES[level].c.attributes.label(f"{level}_attributes")


def _asked_order(level: Level, query: Query) -> list[ColumnElement[Any]]:
    """Order by what the query names; what has no value comes last.

    Raises
    ------
    MalformedQuery
        The index cannot order by it at this level.
    """
    levels = _LEVELS[: _LEVELS.index(level) + 1]
    order: list[ColumnElement[Any]] = []
    for each in query.order:
        column = _ORDER_COLUMNS.get(each.tag)
        if column is None or not any(column.table is _TABLES[above] for above in levels):
            raise MalformedQuery(f"Matches cannot be ordered by {name_of((each.tag,))} here.")
        absent = column.is_(None) if isinstance(column.type, Integer) else column == ""
        order += [absent, column.desc() if each.descending else column]
    return order


def _order(level: Level, query: Query) -> list[ColumnElement[Any]]:
    order = _asked_order(level, query)
    if query.study_instance_uid is None:
        order += [studies.c.study_date.desc(), studies.c.study_time.desc(), studies.c.study_instance_uid]
    if level is Level.STUDY:
        return order
    if query.series_instance_uid is None:
        order += [series.c.series_number.is_(None), series.c.series_number, series.c.series_instance_uid]
    if level is Level.INSTANCE:
        number = instances.c.instance_number
        order += [number.is_(None), number, instances.c.sop_instance_uid]
    return order or [studies.c.study_instance_uid]


def _match(search: Search, row: Row[Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for level in search.partly:
        attributes = json.loads(row._mapping[f"{level}_attributes"])
        found |= {name: element for name, element in attributes.items() if int(name, 16) in search.asked}
    for level in search.whole:
        attributes = json.loads(row._mapping[f"{level}_attributes"])
        for tag in _ALWAYS[level]:
            name = f"{tag:08X}"
            found[name] = attributes.pop(name, None) or {"vr": _ALWAYS_VR[tag]}
        for name, element in attributes.items():
            if search.wanted is None or int(name, 16) in search.wanted:
                found.setdefault(name, element)
        found |= _computed(level, row)
    for name, column in (("0020000D", "study_instance_uid"), ("0020000E", "series_instance_uid")):
        uid = row._mapping.get(column)
        if uid is not None:
            found[name] = {"vr": "UI", "Value": [uid]}
    # DICOM JSON is UTF-8 whatever the instance was (PS3.18 F.2).
    found.pop(f"{_CHARACTER_SET:08X}", None)
    found["00080005"] = {"vr": "CS", "Value": ["ISO_IR 192"]}
    return dict(sorted(found.items()))


def _computed(level: Level, row: Row[Any]) -> dict[str, Any]:
    if level is Level.STUDY:
        modalities = [modality for modality in row.modalities.split("\\") if modality]
        return {
            "00080056": {"vr": "CS", "Value": ["ONLINE"]},
            "00080061": {"vr": "CS", "Value": modalities} if modalities else {"vr": "CS"},
            "00201206": {"vr": "IS", "Value": [row.series_in_study]},
            "00201208": {"vr": "IS", "Value": [row.instances_in_study]},
        }
    if level is Level.SERIES:
        return {"00201209": {"vr": "IS", "Value": [row.instances_in_series]}}
    return {"00080056": {"vr": "CS", "Value": ["ONLINE"]}}
