"""The database: one engine for the index and the queue, SQLite or PostgreSQL."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, inspect, select, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from storage.at_hand import AtHand
from storage.errors import CommitUnknown, DiskFull, IndexBusy, IndexUnavailable
from storage.prepared import Prepared

#: Milliseconds that a writer waits for another.
_BUSY_MS = 10_000
_SQLITE_FULL = 13  # SQLITE_FULL, sqlite.org/rescode.html
#: READONLY, IOERR, CORRUPT, CANTOPEN, PROTOCOL, NOTADB: the file cannot be used, whatever is asked of it.
_SQLITE_BROKEN = frozenset({8, 10, 11, 14, 15, 26})
_POSTGRES_FULL = ("53100", "53200")  # disk_full, out_of_memory: PostgreSQL appendix A
_POSTGRES_BUSY = ("40001", "40P01", "55P03")  # serialization_failure, deadlock_detected, lock_not_available
_POSTGRES_BROKEN = ("25006", "XX001", "XX002")  # read_only_sql_transaction, data_corrupted, index_corrupted
#: What every connection asks of PostgreSQL: a commit that answered is on disk, whatever the server's default is;
#: nobody waits for a lock, or holds one while doing nothing, without end.
_POSTGRES_OPTIONS = f"-c synchronous_commit=on -c lock_timeout={_BUSY_MS} -c idle_in_transaction_session_timeout=60000"
_BEGIN = Prepared(lambda _: text("BEGIN IMMEDIATE"))
#: A server whose machine is gone is noticed after about this long.
_POSTGRES_PATIENCE = {
    "connect_timeout": 10,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 25_000,
}


def default_url(data_dir: Path) -> str:
    """Where the index lives unless it is configured."""
    return f"sqlite:///{data_dir.absolute() / 'node.db'}"


class Database:
    """Short transactions on one engine; a failure of the database is an error of ours with a name."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.engine = make_engine(url)
        self._is_sqlite = self.engine.dialect.name == "sqlite"
        self.at_hand = AtHand(self.engine)

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
        IndexBusy
            Others write the same rows; nothing was written, and trying again helps.
        CommitUnknown
            The database went away while it committed; it may have been written.
        DiskFull
            There is no room for it; nothing was written.
        """
        with self._named_failures(), self.engine.connect() as connection, self._transaction(connection):
            yield connection

    @contextmanager
    def write_on(self, kept: KeptConnection) -> Iterator[Connection]:
        """Do the same as `write` on a connection that is kept between transactions, by one caller at a time.

        Raises
        ------
        IndexUnavailable, IndexBusy, CommitUnknown, DiskFull
            See `write`.
        """
        if not self._is_sqlite:  # a server may be gone in between; the pool looks
            with self.write() as connection:
                yield connection
            return
        with self._named_failures(), kept.use(self.engine) as connection, self._transaction(connection):
            yield connection

    def start_over(self, connection: Connection) -> None:
        """Undo what a writing transaction did so far; it goes on as if it had just begun."""
        connection.connection.rollback()
        if self._is_sqlite:
            _BEGIN.change(connection, {})

    @contextmanager
    def _transaction(self, connection: Connection) -> Iterator[None]:
        with connection.begin() as transaction:
            if self._is_sqlite:
                _BEGIN.change(connection, {})
            yield
            try:
                transaction.commit()
            except DBAPIError as error:
                if not _is_full(error) and not _is_busy(error) and _is_unusable(error):
                    raise CommitUnknown from error
                raise

    def is_prepared(self) -> bool:
        """Tell whether a node has ever brought this database to a schema of ours.

        Raises
        ------
        IndexUnavailable
            The database does not answer.
        """
        with self.read() as connection:
            return inspect(connection).has_table("alembic_version")

    def check(self) -> None:
        """Raise `IndexUnavailable` where the database does not answer."""
        with self.read() as connection:
            connection.execute(select(1))

    def close(self) -> None:
        """Let go of all connections."""
        self.at_hand.close()
        self.engine.dispose()

    @contextmanager
    def _named_failures(self) -> Iterator[None]:
        try:
            yield
        except DBAPIError as error:
            if _is_full(error):
                raise DiskFull("The database has no room left.") from error
            if _is_busy(error):
                raise IndexBusy from error
            if _is_unusable(error):
                raise IndexUnavailable("The database does not answer.") from error
            raise
        except PoolTimeout as error:
            raise IndexUnavailable("The database is too busy to answer.") from error


class KeptConnection:
    """A connection that stays out of the pool: SQLite's page cache stays warm, which another's writes would empty."""

    def __init__(self) -> None:
        self._connection: Connection | None = None

    @contextmanager
    def use(self, engine: Engine) -> Iterator[Connection]:
        """Give the connection; after any failure it is made anew."""
        if self._connection is None:
            self._connection = engine.connect()
        try:
            yield self._connection
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Let it go."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def make_engine(url: str) -> Engine:
    """Make an engine whose every connection is durable and patient."""
    parsed = make_url(url)
    if parsed.get_backend_name() != "sqlite":
        asked = parsed.query.get("options", "")
        options = f"{_POSTGRES_OPTIONS} {asked if isinstance(asked, str) else ' '.join(asked)}".strip()
        connect_args = {**_POSTGRES_PATIENCE, "options": options}
        return create_engine(url, pool_pre_ping=True, pool_size=10, max_overflow=10, connect_args=connect_args)
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


def _is_busy(error: DBAPIError) -> bool:
    return getattr(error.orig, "sqlstate", None) in _POSTGRES_BUSY


def _is_unusable(error: DBAPIError) -> bool:
    """Tell whether the database, and not what was asked of it, is at fault."""
    if isinstance(error, OperationalError | InterfaceError) or error.connection_invalidated:
        return True
    original: Any = error.orig
    if isinstance(original, sqlite3.Error):
        return (getattr(original, "sqlite_errorcode", 0) & 0xFF) in _SQLITE_BROKEN
    return getattr(original, "sqlstate", None) in _POSTGRES_BROKEN
