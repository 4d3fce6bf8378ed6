"""Matching of work items: as the index matches, over data sets that are at hand.

Source: PS3.4 C.2.2.2 (Attribute Matching), PS3.18 11.9 (Search Transaction).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from storage.header import fold
from storage.matching import Key, TagPath, ends_of, is_range, values_of

_GROUPS = ("Alphabetic", "Ideographic", "Phonetic")
_RANGED = ("DA", "TM", "DT")


def matches(dataset: Mapping[str, Any], key: Key) -> bool:
    """Tell whether a data set in the DICOM JSON model has a value that a key asks for.

    Raises
    ------
    MalformedQuery
        The value cannot be matched as its attribute asks.
    """
    wanted = values_of(key.value, key.vr)
    if not wanted:
        return True
    tests = [_test(value, key) for value in wanted]
    return any(test(value) for value in _values(dataset, key.path) for test in tests)


def _values(dataset: Mapping[str, Any], path: TagPath) -> Iterator[str]:
    tag, *rest = path
    for value in dataset.get(f"{tag:08X}", {}).get("Value", ()):
        if rest:
            if isinstance(value, Mapping):
                yield from _values(value, tuple(rest))
        elif isinstance(value, Mapping):
            yield from (group for name in _GROUPS if (group := value.get(name)))
        elif value is not None:
            yield str(value)


class _Pattern:
    def __init__(self, pattern: str, *, person: bool) -> None:
        self._person = person
        said = fold(pattern).rstrip("^ ") if person else pattern
        parts = (".*" if letter == "*" else "." if letter == "?" else re.escape(letter) for letter in said)
        self._expression = re.compile("".join(parts), re.DOTALL)

    def __call__(self, value: str) -> bool:
        return bool(self._expression.fullmatch(fold(value).rstrip("^ ") if self._person else value))


class _Range:
    def __init__(self, first: str, last: str) -> None:
        self._first, self._last = first, last

    def __call__(self, value: str) -> bool:
        return value >= self._first and (not self._last or value[: len(self._last)] <= self._last)


def _test(value: str, key: Key) -> _Pattern | _Range:
    if key.vr in _RANGED and is_range(value):
        return _Range(*ends_of(value, key))
    if key.vr in _RANGED:
        return _Range(value, value)
    return _Pattern(re.sub(r"\*{2,}", "*", value), person=key.vr == "PN")
