"""C-FIND: what is kept, as the identifier asks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from pydicom.datadict import dictionary_has_tag, dictionary_VR, keyword_for_tag

from dicom_node.scp.answers import Answers
from dicom_node.scp.encoding import Form, encode_identifier
from dicom_node.scp.identifier import (
    QUERY_RETRIEVE_LEVEL,
    RETRIEVE_AE_TITLE,
    SPECIFIC_CHARACTER_SET,
    UNIQUE_KEY,
    Identifier,
    QueryLevel,
)
from dicom_node.scp.status import CANCELLED, OUT_OF_RESOURCES, PENDING, PENDING_WITH_WARNING, SUCCESS
from storage.index import Index
from storage.matching import Level, Query
from storage.patients import known_of_patients
from storage.records import StudyFilter
from storage.search import SearchAnswer, known_attributes

#: Matches that one C-FIND gives at most; whoever gets more has forgotten a key.
MOST_MATCHES = 100_000
#: Matches fetched at a time: few first, so that the first answer comes soon, then ten times as many, up to a limit.
_FIRST_PAGE, _LARGEST_PAGE = 10, 2_000

_INDEX_LEVEL = {QueryLevel.STUDY: Level.STUDY, QueryLevel.SERIES: Level.SERIES, QueryLevel.IMAGE: Level.INSTANCE}
#: Attributes that each answer can have, whatever the index has.
_ALWAYS_KNOWN = frozenset({QUERY_RETRIEVE_LEVEL, SPECIFIC_CHARACTER_SET, RETRIEVE_AE_TITLE, 0x00080056, 0x00080201})


@dataclass(frozen=True)
class Negotiated:
    """What of extended negotiation holds for a SOP Class. Source: PS3.4 C.5.1.1, C.5.2.1."""

    relational: bool = False
    combined_date_and_time: bool = False
    fuzzy: bool = False

    @classmethod
    def of(cls, answered: bytes) -> Negotiated:
        """Read the Service Class Application Information that we answered."""
        return cls(*(number == 1 for number in answered[:3]))


def answer_find(
    identifier: Identifier,
    negotiated: Negotiated,
    answers: Answers,
    *,
    index: Index,
    visible: StudyFilter,
    retrieve_ae_title: str,
    form: Form,
    is_cancelled: Callable[[], bool],
) -> tuple[int, int]:
    """Give every match, one response each, and the final response; return its Status and the number of matches.

    Parameters
    ----------
    form
        How answers are encoded.
    is_cancelled
        Asked before each match.

    Raises
    ------
    MalformedQuery
        A value is none of its attribute; nothing was answered.

    Source: PS3.4 C.4.1.
    """
    known = _known(identifier.level)
    fixed = {
        QUERY_RETRIEVE_LEVEL: {"vr": "CS", "Value": [identifier.level.value]},
        RETRIEVE_AE_TITLE: {"vr": "AE", "Value": [retrieve_ae_title]},
    }
    unsupported = [tag for tag in identifier.requested if tag not in known]
    given = 0
    for page in _pages(identifier, negotiated, index, visible):
        status = PENDING_WITH_WARNING if unsupported or page.unsupported else PENDING
        for row in page.rows:
            if answers.gone:
                return CANCELLED, given
            if is_cancelled():
                answers.final(CANCELLED)
                return CANCELLED, given
            if given == MOST_MATCHES:
                answers.final(OUT_OF_RESOURCES, comment=f"More than {MOST_MATCHES} matches: add a key")
                return OUT_OF_RESOURCES, given
            elements = _answer(row, identifier.requested, known, identifier.level) | fixed
            answers.pending(status, encode_identifier(elements, form, identifier.character_sets))
            given += 1
    answers.final(SUCCESS)
    return SUCCESS, given


def _known(level: QueryLevel) -> frozenset[int]:
    of_index = known_of_patients() if level is QueryLevel.PATIENT else known_attributes(_INDEX_LEVEL[level])
    return of_index | _ALWAYS_KNOWN


def _pages(
    identifier: Identifier, negotiated: Negotiated, index: Index, visible: StudyFilter
) -> Iterator[SearchAnswer]:
    """Fetch page by page, each in a transaction of its own; what moved to the next page meanwhile comes once."""
    seen: set[str] = set()
    offset, limit = 0, _FIRST_PAGE
    name = f"{UNIQUE_KEY[identifier.level]:08X}"
    while True:
        query = Query(
            keys=identifier.keys,
            include=frozenset(identifier.requested),
            with_parents=True,
            fuzzy=negotiated.fuzzy,
            combine_date_and_time=negotiated.combined_date_and_time,
            limit=limit,
            offset=offset,
        )
        if identifier.level is QueryLevel.PATIENT:
            page = index.search_patients(query, visible)
            yield page
        else:
            page = index.search(_INDEX_LEVEL[identifier.level], query, visible)
            fresh = [row for row in page.rows if _first(row, name) not in seen]
            seen.update(_first(row, name) for row in fresh)
            yield SearchAnswer(fresh, page.more, page.unsupported)
        if not page.more:
            return
        offset, limit = offset + len(page.rows), min(10 * limit, _LARGEST_PAGE)


def _first(row: Mapping[str, Any], name: str) -> str:
    return str((row.get(name, {}).get("Value") or [""])[0])


def _answer(
    row: Mapping[str, Mapping[str, Any]], requested: Sequence[int], known: frozenset[int], level: QueryLevel
) -> dict[int, Mapping[str, Any]]:
    """Give what was asked for: empty where there is no value, absent where the index has no such attribute.

    Source: PS3.4 C.2.2.1.3, C.4.1.1.3.2.
    """
    answer: dict[int, Mapping[str, Any]] = {}
    for tag in (*requested, UNIQUE_KEY[level]):
        element = row.get(f"{tag:08X}")
        if element is not None:
            answer[tag] = element
        elif tag in known:
            answer[tag] = {"vr": _vr(tag)}
    return answer


@cache
def _vr(tag: int) -> str:
    return dictionary_VR(tag)[:2] if dictionary_has_tag(tag) else "UN"


def names_of(elements: Iterable[int]) -> str:
    """Name attributes by their keywords, for the audit trail."""
    return " ".join(keyword_for_tag(tag) or f"{tag:08X}" for tag in elements)
