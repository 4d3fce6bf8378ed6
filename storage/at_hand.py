"""Small questions to a local database, answered without waiting for anybody: for the event loop.

SQLite's readers wait for no writer; what is asked here is a row by its key, from pages that the system has in
memory as a rule. A thread for each such question costs more than the question.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from storage.prepared import Prepared


class AtHand:
    """One connection of its own, which gives up at once where it would have to wait."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._connection: Connection | None = None
        self._lock = threading.Lock()

    def rows(self, statement: Prepared, values: Mapping[str, Any]) -> list[Any] | None:
        """Give the rows of a query; None: ask as usual, in a thread, and hear there what is wrong."""
        if self._engine.dialect.name != "sqlite" or not self._lock.acquire(blocking=False):
            return None
        try:
            if self._connection is None:
                self._connection = _connect(self._engine)
            # No transaction is begun: the query is its own, and holds no snapshot when it is done.
            return statement.rows(self._connection, values)
        except (DBAPIError, PoolTimeout):
            self._forget()
            return None
        finally:
            self._lock.release()

    def close(self) -> None:
        """Let go of the connection."""
        with self._lock:
            self._forget()

    def _forget(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()


def _connect(engine: Engine) -> Connection:
    connection = engine.connect()
    connection.detach()  # it never goes back to the pool, whose connections are patient
    connection.exec_driver_sql("PRAGMA busy_timeout = 0")
    return connection
