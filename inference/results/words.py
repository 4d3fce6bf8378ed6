"""Sentences that result objects say beside those of the findings (results-objects sections 2 and 4a)."""

from __future__ import annotations

import re
from datetime import datetime

from inference.engines.protocol import EngineDescription
from inference.results.run import Kind, Run

#: Every series description starts so.
MARK = "RESEARCH"
REFUSED = f"{MARK} NOT ANALYSED - see text"

#: How the summary of findings begins, by what made it.
SUMMARY_OF_CLASSICAL = "RESEARCH USE"
SUMMARY_OF_MODEL = "Draft text"
SUMMARY_OF_REFUSAL = "NOT ANALYSED"

_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_WHAT: dict[Kind, str] = {
    "sr": "measurements",
    "text": "report",
    "seg": "outlines",
    "capture": "pictures",
    "summary": "summary page",
    "pdf": "report page",
    "key-objects": "results list",
}


def description(engine: EngineDescription, kind: Kind, *, refused: bool = False) -> str:
    """Describe the series, at most 64 characters, its beginning telling most."""
    if refused:
        return REFUSED
    maker = "classical, not AI" if engine.kind == "classical" else f"{engine.name} AI"
    ending = f"{_WHAT[kind]} ({maker})"
    title = engine.title[: 64 - len(MARK) - len(ending) - 2].rstrip()
    return f"{MARK} {title} {ending}"[:64]


def content_label(engine: EngineDescription) -> str:
    """Label of a segmentation: at most 16 characters, capitals, digits, `_` and space (PS3.3 C.10.9, CS)."""
    return re.sub(r"[^A-Z0-9]+", "_", f"{engine.title} outlines".upper())[:16].strip("_") or "OUTLINES"


def revision_sentence(run: Run, *, analysed_at: datetime, replaced_at: datetime) -> str:
    """Say which report this one replaces, and why.

    Parameters
    ----------
    analysed_at, replaced_at
        Start of this analysis and of the one before, in the object's time zone.
    """
    same_day = replaced_at.date() == analysed_at.date()
    when = replaced_at.strftime("%H:%M" if same_day else "%Y-%m-%d %H:%M")
    reason = f": {run.revision_reason}" if run.revision_reason else "."
    return f"Revision {run.revision}, replaces revision {run.revision - 1} of {when}{reason}"


def cleaned(text: str) -> str:
    """Make a sentence fit for a report: sources that it quotes may hold control or undecodable characters.

    Source: PS3.5 6.2 (UT: line breaks and tabs, no other control characters).
    """
    lines = text.replace("\r\n", "\n").replace("\r", "\n")
    return _CONTROL.sub(" ", lines).replace("\ufffd", "[?]")


def claims_ai(text: str) -> bool:
    """Tell whether a text says that it comes from an AI model (`not AI`, `no AI model` do not)."""
    denied = re.sub(r"\b(not|no)\s+AI\b(\s+model)?", "", text, flags=re.IGNORECASE)
    return re.search(r"\bAI\b", denied) is not None


def denies_ai(text: str) -> bool:
    """Tell whether a text says that no AI model was at work."""
    return re.search(r"\b(not|no)\s+AI\b", text, flags=re.IGNORECASE) is not None
