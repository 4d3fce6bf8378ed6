"""Regular expressions of an administrator, matched in time linear in the text (RE2): none can stall the node."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import re2

_LONGEST = 500
#: Bytes that a compiled expression may take.
_MEMORY = 1 << 20


def check_pattern(text: Any) -> str:
    """Give an expression back that can be used; a `ValueError` says what is wrong with another one.

    Source: RE2 syntax: no back references and no look-around.
    """
    if not isinstance(text, str) or not text or len(text) > _LONGEST:
        raise ValueError(f"write an expression of 1 to {_LONGEST} characters")
    try:
        _compiled(text)
    except re2.error as error:
        said = error.args[0] if error.args else b""
        words = said.decode("utf-8", "replace") if isinstance(said, bytes) else str(said)
        raise ValueError(f"no regular expression of RE2: {words}") from error
    return text


def found_in(pattern: str, text: str) -> bool:
    """Tell whether an expression that was checked matches anywhere in a text, in upper or lower case."""
    return _compiled(pattern).search(text) is not None


@lru_cache(maxsize=512)
def _compiled(pattern: str) -> Any:
    options = re2.Options()
    options.case_sensitive, options.max_mem, options.log_errors = False, _MEMORY, False
    return re2.compile(pattern, options)
