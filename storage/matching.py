"""Attribute matching, shared by QIDO-RS and C-FIND: what a key means, and the SQL condition for it.

Universal, single value, list, wildcard, range and sequence matching; names of persons without regard
to case, accents, and the component group they stand in.

Source: PS3.4 C.2.2.2 (Attribute Matching), PS3.18 8.3.4 (query parameters).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from pydicom.datadict import dictionary_has_tag, dictionary_VR, keyword_for_tag, tag_for_keyword
from pydicom.tag import Tag
from sqlalchemy import ColumnElement, String, and_, cast, func, literal, or_

from storage.errors import MalformedQuery
from storage.header import fold

#: Tags of an attribute, the enclosing sequences first.
TagPath = tuple[int, ...]
Column = ColumnElement[str]

#: Source: PS3.4 C.2.2.2.4: wildcards have a meaning in these only.
_WILDCARD_VRS = frozenset({"AE", "CS", "LO", "LT", "PN", "SH", "ST", "UC", "UR", "UT"})
#: A comma separates values of these, which have none in them; in text it is a letter like others.
_COMMA_VRS = frozenset({"AS", "CS", "DA", "DT", "IS", "SL", "SS", "SV", "TM", "UI", "UL", "US", "UV"})
_INTEGER_VRS = frozenset({"IS", "SL", "SS", "SV", "UL", "US", "UV"})
_TEMPORAL = {
    "DA": re.compile(r"\d{8}"),
    "TM": re.compile(r"\d{2}(\d{2}(\d{2}(\.\d{1,6})?)?)?"),
    "DT": re.compile(r"\d{4,14}(\.\d{1,6})?([+-]\d{4})?"),
}
_UID = re.compile(r"[0-9.]{1,64}")
_TAG = re.compile(r"[0-9A-Fa-f]{8}")
_BETWEEN_WORDS = re.compile(r"[\s^=*?,]+")
#: More values in one key are a mistake or an attack.
_MOST_VALUES = 10_000
_LONGEST_VALUE = 1 << 20
#: A longer value with wildcards costs more than it can find; SQLite takes 50,000 bytes.
_LONGEST_PATTERN = 10_000
_STARS = re.compile(r"\*{2,}")


class Level(StrEnum):
    """What a query asks for."""

    STUDY = "study"
    SERIES = "series"
    INSTANCE = "instance"


@dataclass(frozen=True)
class Key:
    """One attribute that must match."""

    path: TagPath
    value: str
    """As given: `*` and `?`, a backslash between values, a hyphen in ranges; empty: anything."""

    @property
    def vr(self) -> str:
        """Value Representation of the attribute; of a private one, UN."""
        tag = self.path[-1]
        return dictionary_VR(tag) if dictionary_has_tag(tag) else "UN"


@dataclass(frozen=True)
class Ordering:
    """One attribute that matches are ordered by."""

    tag: int
    descending: bool = False


@dataclass(frozen=True)
class Query:
    """What a caller asks of the index."""

    keys: tuple[Key, ...] = ()
    study_instance_uid: str | None = None
    """Only of this study."""
    series_instance_uid: str | None = None
    """Only of this series."""
    include: frozenset[int] = frozenset()
    """Tags wanted beside those that are always given."""
    include_all: bool = False
    with_parents: bool = False
    """Attributes of the levels above come with each match."""
    fuzzy: bool = False
    """A person also matches where each given word begins a word of the name."""
    combine_date_and_time: bool = True
    """Ranges of Study Date and Study Time that are given together are one range of moments."""
    limit: int | None = None
    offset: int = 0
    order: tuple[Ordering, ...] = ()
    """What matches are ordered by; then, and where this is empty, the study with the latest date comes first."""


def tag_path(name: str) -> TagPath:
    """Resolve a keyword or tag, dotted where it stands in a sequence.

    Raises
    ------
    MalformedQuery
        No attribute has this name.

    Source: PS3.18 8.3.4.1 (attributeID).
    """
    path = tuple(_tag(part) for part in name.split("."))
    if any(dictionary_has_tag(tag) and dictionary_VR(tag) != "SQ" for tag in path[:-1]):
        raise MalformedQuery("Only a sequence has attributes within it.")
    return path


def name_of(path: TagPath) -> str:
    """Give the dotted keywords of a path, a tag where there is no keyword."""
    return ".".join(keyword_for_tag(tag) or f"{tag:08X}" for tag in path)


def values_of(value: str, vr: str) -> tuple[str, ...]:
    """Split a list; a value that matches everything makes the whole key universal."""
    if len(value) > _LONGEST_VALUE:
        raise MalformedQuery("A key's value is too long.")
    if "\0" in value:
        raise MalformedQuery("A key's value holds a NUL.")
    parts = re.split(r"[\\,]", value) if vr in _COMMA_VRS else value.split("\\")
    if len(parts) > _MOST_VALUES:
        raise MalformedQuery(f"A key may list {_MOST_VALUES} values.")
    values = tuple(unicodedata.normalize("NFC", part.strip()) for part in parts)  # as the index holds text
    universal = any(not part or (vr in _WILDCARD_VRS and not part.strip("*")) for part in values)
    return () if universal else values


def is_range(value: str) -> bool:
    """Tell whether a date or time is given as a range."""
    return "-" in value


@dataclass(frozen=True)
class Matcher:
    """Makes conditions for one engine of the database."""

    dialect: str
    fuzzy: bool = False

    def text(self, column: Column, key: Key) -> ColumnElement[bool] | None:
        """Give the condition that a column's value matches a key; None where anything does."""
        vr = key.vr
        values = values_of(key.value, vr)
        if not values:
            return None
        if vr == "UI":
            return column.in_([_checked(value, _UID, key) for value in values])
        if vr in _TEMPORAL:
            return or_(*(self._temporal(column, value, key) for value in values))
        if vr in _INTEGER_VRS:
            return cast(column, String).in_([str(_integer(value, key)) for value in values])
        return or_(*(self._wildcard(column, value) for value in values))

    def one_of_several(self, column: Column, key: Key) -> ColumnElement[bool] | None:
        """Match a column that holds several values with a backslash between them: one that matches suffices."""
        values = values_of(key.value, key.vr)
        framed = literal("\\") + column + literal("\\")
        return or_(*(self._like(framed, f"*\\{value}\\*") for value in values)) if values else None

    def person(self, column: Column, key: Key, *, folded: bool) -> ColumnElement[bool] | None:
        """Match a name of a person.

        Parameters
        ----------
        folded
            The column holds names without accents and case; else only the case of ASCII letters is ignored.

        Source: PS3.4 C.2.2.2.1, C.2.2.2.4; PS3.18 8.3.4.2 (fuzzymatching).
        """
        values = values_of(key.value, "PN")
        if not values:
            return None
        comparable, ignore = (column, fold) if folded else (func.lower(column), str.lower)
        return or_(*(self._person(comparable, ignore(value)) for value in values))

    def _person(self, column: Column, value: str) -> ColumnElement[bool]:
        # Trailing delimiters say nothing (PS3.5 6.2.1.1); each component group stands between equals signs.
        framed = literal("=") + func.rtrim(column, "^= ") + literal("=")
        wanted = value.rstrip("^= ")
        # The name as it is kept is looked at first: putting it between signs costs twenty times as much.
        literally = and_(
            self._like(column, f"*{wanted}*"), self._like(framed, f"={wanted}=*" if "=" in wanted else f"*={wanted}=*")
        )
        words = [word for word in _BETWEEN_WORDS.split(value) if word]
        if not self.fuzzy or not words:
            return literally
        spaced = literal(" ") + func.replace(func.replace(column, "^", " "), "=", " ")
        beginnings = [
            each for word in words for each in (self._like(column, f"*{word}*"), self._like(spaced, f"* {word}*"))
        ]
        return or_(literally, and_(*beginnings))

    def _wildcard(self, column: Column, value: str) -> ColumnElement[bool]:
        if "*" in value or "?" in value:
            return self._like(column, value)
        return column == value

    def _like(self, column: Column, pattern: str) -> ColumnElement[bool]:
        """Match `*` and `?`, with regard to case."""
        pattern = _STARS.sub("*", pattern)
        if len(pattern) > _LONGEST_PATTERN:
            raise MalformedQuery("A key's value with wildcards is too long.")
        if self.dialect == "sqlite":
            return column.op("GLOB", is_comparison=True)(pattern.replace("[", "[[]"))
        escaped = re.sub(r"([\\%_])", r"\\\1", pattern)
        return column.like(escaped.replace("*", "%").replace("?", "_"), escape="\\")

    def _temporal(self, column: Column, value: str, key: Key) -> ColumnElement[bool]:
        if not is_range(value) or (key.vr == "DT" and _TEMPORAL["DT"].fullmatch(value)):
            checked = _checked(value, _TEMPORAL[key.vr], key)
            return column == checked if key.vr == "DA" else self._like(column, checked + "*")
        first, last = ends_of(value, key)
        conditions = [column != ""]
        if first:
            conditions.append(column >= _earliest(first))
        if last:
            conditions.append(func.substr(column, 1, len(last)) <= last)
        return and_(*conditions)

    def moment(self, date: Column, time: Column, dates: Key, times: Key) -> ColumnElement[bool]:
        """Match a range of dates and a range of times taken together: from one moment to another.

        Source: PS3.4 C.2.2.2.5.4 (combined date and time), PS3.18 8.3.4.1.
        """
        first_date, last_date = ends_of(dates.value, dates)
        first_time, last_time = ends_of(times.value, times)
        conditions: list[ColumnElement[bool]] = [date != ""]
        if first_date:
            later = time >= _earliest(first_time)
            conditions.append(or_(date > first_date, and_(date == first_date, later)))
        if last_date:
            earlier = func.substr(time, 1, len(last_time)) <= last_time
            conditions.append(or_(date < last_date, and_(date == last_date, earlier)))
        return and_(*conditions)


def ends_of(value: str, key: Key) -> tuple[str, str]:
    """Give both ends of a range, an open one empty.

    Raises
    ------
    MalformedQuery
        It is no range of dates or times.
    """
    first, hyphen, last = value.partition("-")
    ends = first.strip(), last.strip()
    if not hyphen or not any(ends):
        raise MalformedQuery(f"{name_of(key.path)}: no such range.")
    for end in filter(None, ends):
        _checked(end, _TEMPORAL[key.vr], key)
    return ends


def all_of(conditions: Iterable[ColumnElement[bool] | None]) -> list[ColumnElement[bool]]:
    """Leave out what matches anything."""
    return [condition for condition in conditions if condition is not None]


def _tag(part: str) -> int:
    if _TAG.fullmatch(part):
        tag = Tag(int(part, 16))
        if not dictionary_has_tag(tag) and not tag.is_private:
            raise MalformedQuery(f"{part.upper()} is no attribute of DICOM.")
        return int(tag)
    found = tag_for_keyword(part)
    if found is None:
        raise MalformedQuery("A query parameter is neither an attribute of DICOM nor one of ours.")
    return found


def _checked(value: str, form: re.Pattern[str], key: Key) -> str:
    if not form.fullmatch(value):
        raise MalformedQuery(f"{name_of(key.path)}: a value is no {key.vr}.")
    return value


def _integer(value: str, key: Key) -> int:
    try:
        return int(value)
    except ValueError as error:
        raise MalformedQuery(f"{name_of(key.path)}: a value is no number.") from error


def _earliest(time: str) -> str:
    """Shorten `100000` to `10`: then a time kept as `10` is not before it."""
    while len(time) in (4, 6) and time.endswith("00"):
        time = time[:-2]
    return time
