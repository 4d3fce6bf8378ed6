"""The little Markdown that the statement is written in."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from pydicom.uid import UID


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Give a table, its rows in the order given."""
    lines = [_row(head), _row(["---"] * len(head)), *(_row(row) for row in rows)]
    return "\n".join(lines) + "\n"


def name_of(uid: str) -> str:
    """Give the standard's name of a UID; retired ones may have lost theirs."""
    name = UID(uid).name
    return name if name and name != uid else "(retired, without a name)"


def _row(cells: Iterable[object]) -> str:
    return "| " + " | ".join(str(cell).replace("|", "\\|") for cell in cells) + " |"
