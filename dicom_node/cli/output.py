"""How tables look on a terminal."""

from __future__ import annotations

from collections.abc import Sequence

import typer

AS_JSON = typer.Option(False, "--json", help="For programs.")


def table(headings: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Lay out rows in columns as wide as their longest cell."""
    cells = [[str(cell) for cell in row] for row in [headings, *rows]]
    widths = [max(len(row[column]) for row in cells) for column in range(len(headings))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells]
    return "\n".join(lines)
