"""Small questions that wait for nobody."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from io import BytesIO

import pytest

from storage.blobs import LocalBlobs
from storage.database import Database
from storage.index import Index
from storage.intake import Intake
from storage.records import Kept, StudyFilter
from tests.builders.ct import encode, make_ct_instance, uid
from tests.conftest import SENDER

Receive = Callable[..., Kept]
KEPT = uid(1, 1, 1)


def test_a_row_is_given_as_it_is_elsewhere_and_only_from_a_local_file(database: Database, receive: Receive) -> None:
    index = Index(database)
    assert index.instance_at_hand(KEPT) is None
    receive(make_ct_instance())
    at_hand = index.instance_at_hand(KEPT)
    if database.engine.dialect.name == "sqlite":
        assert at_hand == index.instance(KEPT)
    else:
        assert at_hand is None


@pytest.fixture
def kept_in(sqlite_url: str, blobs: LocalBlobs) -> str:
    """A local file with one instance in it, which nobody holds open."""
    database = Database(sqlite_url)
    intake = Intake(database, blobs, reserve_bytes=0)
    intake.receive(BytesIO(encode(make_ct_instance())), SENDER)
    intake.close()
    database.close()
    return sqlite_url


def test_who_sees_some_studies_alone_is_answered_by_the_whole_question(kept_in: str) -> None:
    database = Database(kept_in)
    assert Index(database).instance_at_hand(KEPT, StudyFilter(frozenset({"ct1"}))) is None
    database.close()


def test_a_locked_file_is_not_waited_for_and_is_read_again_afterwards(kept_in: str) -> None:
    alone = sqlite3.connect(kept_in.removeprefix("sqlite:///"), isolation_level=None, timeout=0)
    alone.execute("PRAGMA locking_mode = EXCLUSIVE")
    alone.execute("BEGIN EXCLUSIVE")
    database = Database(kept_in)
    index = Index(database)
    assert index.instance_at_hand(KEPT) is None
    alone.execute("ROLLBACK")
    alone.close()
    assert index.instance_at_hand(KEPT) is not None
    database.close()


def test_what_others_changed_is_seen_at_once(kept_in: str) -> None:
    database = Database(kept_in)
    index = Index(database)
    assert index.instance_at_hand(KEPT) is not None
    with database.write() as connection:
        connection.exec_driver_sql("UPDATE instances SET path = 'instances/elsewhere.dcm'")
    at_hand = index.instance_at_hand(KEPT)
    assert at_hand is not None
    assert at_hand.path == "instances/elsewhere.dcm"
    database.close()
