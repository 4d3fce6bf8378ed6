"""A database in trouble: no Success without a commit, an error with a name, and all is well once it is back."""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import pytest
from sqlalchemy import func, select, text

from storage import database as database_module
from storage.blobs import LocalBlobs
from storage.database import Database
from storage.errors import DiskFull, IndexBusy, IndexUnavailable
from storage.intake import Intake
from storage.records import Kept, Outcome
from storage.tables import instances, studies
from tests.builders import postgres
from tests.builders.ct import encode, make_ct_instance, make_ct_series
from tests.conftest import SENDER

Receive = Callable[..., Kept]


def kept(database: Database) -> int:
    with database.read() as connection:
        return connection.execute(select(func.count()).select_from(instances)).scalar_one()


def files(blobs: LocalBlobs) -> int:
    return sum(path.is_file() for path in (blobs._root / "instances").rglob("*"))


@pytest.fixture
def door(sqlite_database: Database, blobs: LocalBlobs) -> Intake:
    return Intake(sqlite_database, blobs, reserve_bytes=0)


def test_a_locked_database_is_waited_for_and_then_named(
    sqlite_url: str, blobs: LocalBlobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database_module, "_BUSY_MS", 300)
    database = Database(sqlite_url)
    door = Intake(database, blobs, reserve_bytes=0)
    other = sqlite3.connect(sqlite_url.removeprefix("sqlite:///"), isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    began = time.monotonic()
    with pytest.raises(IndexUnavailable):
        door.receive(BytesIO(encode(make_ct_instance())), SENDER)
    assert 0.2 < time.monotonic() - began < 10
    assert files(blobs) == 0
    other.execute("ROLLBACK")
    assert door.receive(BytesIO(encode(make_ct_instance())), SENDER).outcome is Outcome.KEPT
    other.close()
    door.close()
    database.close()


def test_a_read_only_database_is_unavailable(sqlite_database: Database, blobs: LocalBlobs, door: Intake) -> None:
    with sqlite_database.engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA query_only = ON")  # the pool hands out this connection next
    with pytest.raises(IndexUnavailable):
        door.receive(BytesIO(encode(make_ct_instance())), SENDER)
    assert files(blobs) == 0
    door.close()


def test_a_corrupt_database_is_unavailable_and_no_crash(sqlite_url: str, blobs: LocalBlobs) -> None:
    path = Path(sqlite_url.removeprefix("sqlite:///"))
    content = bytearray(path.read_bytes())
    content[4096:] = os.urandom(len(content) - 4096)
    path.write_bytes(content)
    database = Database(sqlite_url)
    door = Intake(database, blobs, reserve_bytes=0)
    with pytest.raises(IndexUnavailable):
        door.receive(BytesIO(encode(make_ct_instance())), SENDER)
    assert files(blobs) == 0
    path.write_bytes(b"this is no database" * 1000)
    with pytest.raises(IndexUnavailable):
        Database(sqlite_url).read().__enter__().execute(select(studies))
    door.close()
    database.close()


def test_a_full_database_is_a_full_disk(sqlite_database: Database, blobs: LocalBlobs, door: Intake) -> None:
    with sqlite_database.engine.connect() as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
        connection.exec_driver_sql(f"PRAGMA max_page_count = {pages}")
    refused = 0
    for instance in make_ct_series(40):
        try:
            door.receive(BytesIO(encode(instance)), SENDER)
        except DiskFull:
            refused += 1
    assert refused
    assert kept(sqlite_database) == files(blobs) == 40 - refused
    door.close()


@pytest.fixture
def postgres_url(postgres_cluster: postgres.Cluster) -> str:
    return postgres_cluster.new_database()


def test_postgres_commits_are_on_disk_whatever_the_servers_default_is(postgres_url: str) -> None:
    first = Database(postgres_url)
    with first.write() as connection:
        name = connection.execute(text("SELECT current_database()")).scalar_one()
        connection.execute(text(f"ALTER DATABASE {name} SET synchronous_commit = off"))
    first.close()
    database = Database(postgres_url)
    with database.read() as connection:
        assert connection.execute(text("SHOW synchronous_commit")).scalar_one() == "on"
    database.close()


def test_postgres_read_only_is_unavailable(postgres_url: str, blobs: LocalBlobs) -> None:
    first = Database(postgres_url)
    with first.write() as connection:
        name = connection.execute(text("SELECT current_database()")).scalar_one()
        connection.execute(text(f"ALTER DATABASE {name} SET default_transaction_read_only = on"))
    first.close()
    database = Database(postgres_url)
    door = Intake(database, blobs, reserve_bytes=0)
    with pytest.raises(IndexUnavailable):
        door.receive(BytesIO(encode(make_ct_instance())), SENDER)
    assert files(blobs) == 0
    door.close()
    database.close()


def test_postgres_deadlocks_are_busy_and_an_instance_in_one_is_kept(postgres_url: str, blobs: LocalBlobs) -> None:
    database = Database(postgres_url)
    door = Intake(database, blobs, reserve_bytes=0)
    for study in (1, 2):
        door.receive(BytesIO(encode(make_ct_instance(study=study))), SENDER)
    met = threading.Barrier(2)
    seen: list[BaseException] = []

    def take(first: int, second: int) -> None:
        lock = text("SELECT 1 FROM studies WHERE patient_id = 'TEST-1' AND study_id = :number FOR UPDATE")
        try:
            with database.write() as connection:
                connection.execute(lock, {"number": str(first)})
                met.wait(5)
                connection.execute(lock, {"number": str(second)})
        except IndexBusy as error:
            seen.append(error)

    threads = [threading.Thread(target=take, args=pair) for pair in ((1, 2), (2, 1))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(seen) == 1
    door.close()
    database.close()
