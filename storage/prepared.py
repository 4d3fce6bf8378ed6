"""Statements that are compiled once for each kind of database, for the paths where microseconds count.

SQLAlchemy builds a statement anew at each call, which costs more than the database takes for it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

from sqlalchemy import Connection, CursorResult
from sqlalchemy.sql import Executable


class _Compiled(NamedTuple):
    text: str
    order: tuple[str, ...] | None
    """Names of the values in their order; None: they are bound by name."""


class Prepared:
    """One statement, its values left open as `bindparam`s of the given names."""

    def __init__(self, build: Callable[[str], Executable]) -> None:
        """Take what builds the statement for a dialect's name."""
        self._build = build
        self._compiled: dict[str, _Compiled] = {}

    def run(self, connection: Connection, values: Mapping[str, Any]) -> CursorResult[Any]:
        """Run it once. Times are to be given by `stamp`; what comes back is as the driver gives it."""
        compiled = self._for(connection)
        return connection.exec_driver_sql(compiled.text, _bound(compiled, values))

    def run_many(self, connection: Connection, values: Sequence[Mapping[str, Any]]) -> None:
        """Run it once for each set of values, in one call of the driver."""
        compiled = self._for(connection)
        connection.exec_driver_sql(compiled.text, [_bound(compiled, each) for each in values])

    def _for(self, connection: Connection) -> _Compiled:
        name = connection.dialect.name
        if name not in self._compiled:
            compiled: Any = self._build(name).compile(dialect=connection.dialect)  # type: ignore[attr-defined]
            order = tuple(compiled.positiontup) if compiled.positional else None
            self._compiled[name] = _Compiled(str(compiled), order)
        return self._compiled[name]


def stamp(at: datetime) -> str:
    """Give a time as the tables hold it."""
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _bound(compiled: _Compiled, values: Mapping[str, Any]) -> Any:
    return tuple(map(values.__getitem__, compiled.order)) if compiled.order is not None else dict(values)
