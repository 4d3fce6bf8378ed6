"""What every part of the settings has in common."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict

_AE_TITLE = re.compile(r"[\x20-\x5b\x5d-\x7e]{1,16}")


def _fit_title(text: str) -> str:
    title = text.strip(" ")
    if not title or not _AE_TITLE.fullmatch(title):
        raise ValueError(f"{text!r} is no AE title: 1 to 16 characters of plain ASCII, no backslash")
    return title


#: Source: PS3.5 6.2 (AE: 16 characters, no control characters, no backslash, not only spaces).
AeTitle = Annotated[str, AfterValidator(_fit_title)]


class Section(BaseModel):
    """One part of the settings: frozen, and an unknown key is refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True, hide_input_in_errors=True)
