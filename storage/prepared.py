"""Statements that are compiled once for each kind of database, for the paths where microseconds count.

SQLAlchemy builds a statement, its context and its result anew at each call, which costs more than the database
takes for it. These go to the driver's own cursor, within the transaction of the connection that they are given.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, NamedTuple

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError
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

    def rows(self, connection: Connection, values: Mapping[str, Any]) -> list[Any]:
        """Run a query; give its rows, their values by name and as the driver gives them."""
        cursor = self._execute(connection, values)
        try:
            names = [column[0] for column in cursor.description]
            return [SimpleNamespace(**dict(zip(names, row, strict=True))) for row in cursor.fetchall()]
        finally:
            cursor.close()

    def change(self, connection: Connection, values: Mapping[str, Any]) -> int:
        """Change rows; give how many. Times are to be given by `stamp`."""
        cursor = self._execute(connection, values)
        count = int(cursor.rowcount)
        cursor.close()
        return count

    def change_many(self, connection: Connection, values: Sequence[Mapping[str, Any]]) -> int:
        """Run it once for each set of values, in one call of the driver; give how many rows changed."""
        cursor = self._execute(connection, values)
        count = int(cursor.rowcount)
        cursor.close()
        return count

    def _execute(self, connection: Connection, values: Mapping[str, Any] | Sequence[Mapping[str, Any]]) -> Any:
        compiled = self._for(connection)
        cursor = connection.connection.cursor()
        try:
            if isinstance(values, Mapping):
                cursor.execute(compiled.text, _bound(compiled, values))
            else:
                cursor.executemany(compiled.text, [_bound(compiled, each) for each in values])
        except Exception as error:
            cursor.close()
            dialect: Any = connection.dialect
            family = dialect.loaded_dbapi.Error
            if not isinstance(error, family):
                raise
            # Without the values: they are a patient's.
            raise DBAPIError.instance(compiled.text, None, error, family, dialect=dialect) from error
        return cursor

    def _for(self, connection: Connection) -> _Compiled:
        name = connection.dialect.name
        if name not in self._compiled:
            compiled: Any = self._build(name).compile(dialect=connection.dialect)  # type: ignore[attr-defined]
            order = tuple(compiled.positiontup) if compiled.positional else None
            self._compiled[name] = _Compiled(str(compiled), order)
        return self._compiled[name]


def stamp(at: datetime) -> str:
    """Give a time as the tables hold it."""
    return f"{at.astimezone(UTC).replace(tzinfo=None).isoformat(timespec='microseconds')}Z"


def _bound(compiled: _Compiled, values: Mapping[str, Any]) -> Any:
    return tuple(map(values.__getitem__, compiled.order)) if compiled.order is not None else dict(values)
