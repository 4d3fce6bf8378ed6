"""The database: one engine for the index and the queue, SQLite or PostgreSQL."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from storage.errors import DiskFull, IndexUnavailable

#: Milliseconds that a writer waits for another.
_BUSY_MS = 10_000
_SQLITE_FULL = 13  # SQLITE_FULL, sqlite.org/rescode.html
_POSTGRES_FULL = ("53100", "53200")  # disk_full, out_of_memory: PostgreSQL appendix A


def default_url(data_dir: Path) -> str:
    """Where the index lives unless it is configured."""
    return f"sqlite:///{data_dir.absolute() / 'node.db'}"


class Database:
    """Short transactions on one engine; a failure of the database is an error of ours with a name."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.engine = make_engine(url)
        self._is_sqlite = self.engine.dialect.name == "sqlite"

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """Give a connection for reading: fetch all, then leave; a held snapshot grows the log.

        Raises
        ------
        IndexUnavailable
            The database does not answer.
        """
        with self._named_failures(), self.engine.connect() as connection:
            if self._is_sqlite:
                connection.exec_driver_sql("BEGIN")  # one snapshot for all that is read
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """Give a connection in a writing transaction, committed at the end and undone by any error.

        On SQLite the write lock is taken at once, so that what was read cannot change before it is written.

        Raises
        ------
        IndexUnavailable
            The database does not answer; nothing was written.
        DiskFull
            There is no room for it; nothing was written.
        """
        with self._named_failures(), self.engine.begin() as connection:
            if self._is_sqlite:
                connection.exec_driver_sql("BEGIN IMMEDIATE")
            yield connection

    def close(self) -> None:
        """Let go of all connections."""
        self.engine.dispose()

    @contextmanager
    def _named_failures(self) -> Iterator[None]:
        try:
            yield
        except DBAPIError as error:
            if _is_full(error):
                raise DiskFull("The database has no room left.") from error
            if isinstance(error, OperationalError) or error.connection_invalidated:
                raise IndexUnavailable("The database does not answer.") from error
            raise
        except PoolTimeout as error:
            raise IndexUnavailable("The database is too busy to answer.") from error


def make_engine(url: str) -> Engine:
    """Make an engine whose every connection is durable and patient."""
    parsed = make_url(url)
    if parsed.get_backend_name() != "sqlite":
        return create_engine(url, pool_pre_ping=True, pool_size=10, max_overflow=10)
    engine = create_engine(url, pool_size=10, max_overflow=20, connect_args={"timeout": _BUSY_MS / 1000})
    event.listen(engine, "connect", _prepare_sqlite)
    return engine


def _prepare_sqlite(connection: sqlite3.Connection, _: object) -> None:
    # The driver begins a transaction at the first write, and then takes the write lock at once.
    connection.isolation_level = "IMMEDIATE"
    for pragma in (
        f"busy_timeout = {_BUSY_MS}",
        "journal_mode = WAL",
        "synchronous = FULL",
        "foreign_keys = ON",
        "journal_size_limit = 67108864",
    ):
        connection.execute(f"PRAGMA {pragma}")


def _is_full(error: DBAPIError) -> bool:
    original: Any = error.orig
    if isinstance(original, sqlite3.Error):
        return getattr(original, "sqlite_errorcode", None) == _SQLITE_FULL
    return getattr(original, "sqlstate", None) in _POSTGRES_FULL
