"""The identifier of C-FIND, C-MOVE and C-GET: read, and checked against its information model.

Source: PS3.4 C.3 (hierarchy), C.4.1.1.3, C.4.2.2.1 and C.4.3.2.1 (identifier structure), C.6 (information models).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from pydicom import DataElement, Dataset
from pydicom.multival import MultiValue

from dicom_node.errors import IdentifierMismatch
from storage.errors import UnreadableInstance
from storage.header import read_data_set
from storage.matching import Key, name_of, values_of


class QueryLevel(StrEnum):
    """What is asked for; from the root downwards."""

    PATIENT = "PATIENT"
    STUDY = "STUDY"
    SERIES = "SERIES"
    IMAGE = "IMAGE"


#: Levels of each SOP Class, from its root downwards. Source: PS3.4 C.6.1 (Patient Root), C.6.2 (Study Root).
LEVELS: dict[str, tuple[QueryLevel, ...]] = {
    **dict.fromkeys((f"1.2.840.10008.5.1.4.1.2.1.{number}" for number in (1, 2, 3)), tuple(QueryLevel)),
    **dict.fromkeys((f"1.2.840.10008.5.1.4.1.2.2.{number}" for number in (1, 2, 3)), tuple(QueryLevel)[1:]),
}
#: Source: PS3.4 C.6.1.1.
UNIQUE_KEY: dict[QueryLevel, int] = {
    QueryLevel.PATIENT: 0x00100020,
    QueryLevel.STUDY: 0x0020000D,
    QueryLevel.SERIES: 0x0020000E,
    QueryLevel.IMAGE: 0x00080018,
}
QUERY_RETRIEVE_LEVEL, SPECIFIC_CHARACTER_SET = 0x00080052, 0x00080005
RETRIEVE_AE_TITLE, INSTANCE_AVAILABILITY = 0x00080054, 0x00080056
#: They say how to read the identifier, or are never matched.
_NOT_MATCHED = frozenset(
    {QUERY_RETRIEVE_LEVEL, SPECIFIC_CHARACTER_SET, RETRIEVE_AE_TITLE, INSTANCE_AVAILABILITY, 0x00080053, 0x00080201}
)
#: More attributes, deeper sequences, more bytes are a mistake or an attack.
_MOST_ATTRIBUTES = 500
_MOST_KEYS = 100
_DEEPEST = 4
_LONGEST = 4 << 20


@dataclass(frozen=True)
class Identifier:
    """What is asked, as the information model understands it."""

    level: QueryLevel
    keys: tuple[Key, ...]
    """All that must match."""
    requested: tuple[int, ...]
    """Tags of every attribute of the identifier."""
    character_sets: tuple[str, ...]
    """Its Specific Character Set."""

    def unique(self, level: QueryLevel) -> str:
        """Give the value of a level's unique key; empty where it is universal."""
        return next((key.value for key in self.keys if key.path == (UNIQUE_KEY[level],)), "")


def read_identifier(encoded: bytes, transfer_syntax_uid: str) -> Identifier:
    """Read an identifier.

    Raises
    ------
    IdentifierMismatch
        It names no level, or more than any sensible query.
    UnreadableInstance
        The bytes are no data set.
    """
    if len(encoded) > _LONGEST:
        raise IdentifierMismatch("the identifier is too long")
    dataset = read_data_set(encoded, transfer_syntax_uid)
    if len(dataset) > _MOST_ATTRIBUTES:
        raise IdentifierMismatch("the identifier has too many attributes")
    values = {int(element.tag): element for element in _elements(dataset)}
    named = _text(values.get(QUERY_RETRIEVE_LEVEL))
    if named not in set(QueryLevel):
        raise IdentifierMismatch("no such query/retrieve level", offending=QUERY_RETRIEVE_LEVEL)
    keys = tuple(key for key in _keys(values.values(), ()) if key.path[0] not in _NOT_MATCHED)
    if len(keys) > _MOST_KEYS:
        raise IdentifierMismatch("the identifier has too many matching keys")
    labels = _text(values.get(SPECIFIC_CHARACTER_SET))
    return Identifier(QueryLevel(named), keys, tuple(values), tuple(labels.split("\\")) if labels else ())


def check_query(identifier: Identifier, levels: Sequence[QueryLevel], *, relational: bool) -> None:
    """See that a C-FIND identifier fits its model.

    Parameters
    ----------
    levels
        Those of the model, from its root downwards.
    relational
        Relational queries were negotiated: unique keys of the levels above need not be given.

    Raises
    ------
    IdentifierMismatch
        The model has no such level, or a level above is not named by one value.
    """
    if identifier.level not in levels:
        raise IdentifierMismatch("this model has no such level", offending=QUERY_RETRIEVE_LEVEL)
    if relational:
        return
    for level in levels[: levels.index(identifier.level)]:
        _check_single(identifier, level)


def check_retrieval(identifier: Identifier, levels: Sequence[QueryLevel], *, relational: bool) -> None:
    """See that a C-MOVE or C-GET identifier fits its model and names what to retrieve.

    Raises
    ------
    IdentifierMismatch
        The model has no such level, or a unique key is missing, a wildcard, or a list where one value is asked for.
    """
    check_query(identifier, levels, relational=relational)
    if identifier.level is QueryLevel.PATIENT:
        _check_single(identifier, identifier.level)
    elif not values_of(identifier.unique(identifier.level), "UI"):
        raise _missing(identifier.level)


def _check_single(identifier: Identifier, level: QueryLevel) -> None:
    value = identifier.unique(level)
    if not value or any(each in value for each in "\\*?"):
        raise _missing(level)


def _missing(level: QueryLevel) -> IdentifierMismatch:
    tag = UNIQUE_KEY[level]
    return IdentifierMismatch(f"needs one value of {name_of((tag,))}", offending=tag)


def _elements(dataset: Dataset) -> Iterator[DataElement]:
    """Give the elements of a data set, decoded; group lengths say nothing and are passed over."""
    try:
        yield from (element for element in dataset if int(element.tag) & 0xFFFF)
    except Exception as error:
        raise UnreadableInstance("A value of the identifier cannot be read.") from error


def _keys(elements: Iterable[DataElement], above: tuple[int, ...]) -> Iterator[Key]:
    """Give what an identifier asks to match, into its sequences; what has no value matches anything."""
    if len(above) >= _DEEPEST:
        raise IdentifierMismatch("the identifier nests too deep", offending=above[0])
    for element in elements:
        tag = int(element.tag)
        if element.VR == "SQ":
            items = list(element.value or ())
            if len(items) > 1:
                raise IdentifierMismatch("a sequence key has one item", offending=tag)
            for item in items:
                yield from _keys(_elements(item), (*above, tag))
        elif value := _text(element):
            yield Key((*above, tag), value)


def _text(element: DataElement | None) -> str:
    value = element.value if element is not None else None
    if value is None:
        return ""
    if isinstance(value, bytes):
        return value.decode("ascii", "replace").strip("\0 ")
    if isinstance(value, MultiValue | list | tuple):
        return "\\".join(str(each) for each in value)
    return str(value).strip("\0 ")
