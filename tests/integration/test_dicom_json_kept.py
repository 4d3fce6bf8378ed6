"""DICOM JSON of what came: made once, in few rows, on both databases; by a child process of the courier."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import delete, func, select

from configs.settings import Settings
from dicom_node.worker.describe import Describer
from storage import json_maker
from storage.blobs import LocalBlobs
from storage.database import Database
from storage.dicom_json import JsonEncoder, resolved
from storage.errors import NotKept, StorageError
from storage.intake import Intake
from storage.json_maker import JsonMaker, Metadata
from storage.json_store import SEGMENT, JsonStore, make_again
from storage.records import Kept, StudyFilter
from storage.tables import instances, json_pending, json_segments, series
from tests.builders.ct import encode, make_ct_instance, make_ct_series, uid
from tests.conftest import SENDER

Receive = Callable[..., Kept]


@pytest.fixture
def maker(database: Database, blobs: LocalBlobs) -> JsonMaker:
    return JsonMaker(JsonStore(database), blobs)


@pytest.fixture
def metadata(database: Database, blobs: LocalBlobs) -> Metadata:
    return Metadata(JsonStore(database), blobs)


def count(database: Database, table: Any) -> int:
    with database.read() as connection:
        return connection.execute(select(func.count()).select_from(table)).scalar_one()


def numbers(answer: bytes) -> list[int]:
    return [each["00200013"]["Value"][0] for each in json.loads(resolved(answer, "x"))]


@contextmanager
def nothing_is_made(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    def never(*_: object, **__: object) -> bytes:
        raise AssertionError("made at the time of the request")

    with monkeypatch.context() as patched:
        patched.setattr(JsonEncoder, "encode_instance", never)
        yield


def test_metadata_are_joined_from_what_was_made_and_nothing_is_made_again(
    receive: Receive, maker: JsonMaker, metadata: Metadata, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    for each in reversed(make_ct_series(12)):
        receive(each)
    before = metadata.of(uid(1), uid(1, 1))
    assert maker.turn() == 12
    assert (count(database, json_pending), count(database, json_segments)) == (0, 1)
    with nothing_is_made(monkeypatch):
        assert metadata.of(uid(1), uid(1, 1)) == before
        assert metadata.of(uid(1)) == before
        assert numbers(metadata.of(uid(1), uid(1, 1), uid(1, 1, 7))) == [7]
    assert numbers(before) == list(range(1, 13))
    assert maker.turn() == 0


def test_what_is_not_made_yet_is_made_for_whoever_asks(receive: Receive, maker: JsonMaker, metadata: Metadata) -> None:
    receive(make_ct_instance(1))
    maker.turn()
    receive(make_ct_instance(2))
    assert numbers(metadata.of(uid(1), uid(1, 1))) == [1, 2]


def test_several_series_keep_their_order_and_their_own(receive: Receive, maker: JsonMaker, metadata: Metadata) -> None:
    for number in (2, 1):
        for each in make_ct_series(3, series=number):
            receive(each)
    maker.turn()
    answer = json.loads(resolved(metadata.of(uid(1)), "x"))
    assert [each["0020000E"]["Value"][0] for each in answer] == [uid(1, 1)] * 3 + [uid(1, 2)] * 3
    assert len(json.loads(resolved(metadata.of(uid(1), uid(1, 2)), "x"))) == 3


def test_a_series_that_trickles_in_ends_in_few_rows(
    receive: Receive, maker: JsonMaker, metadata: Metadata, database: Database
) -> None:
    for each in make_ct_series(40):
        receive(each)
        maker.turn()
    assert count(database, json_segments) <= 6
    assert numbers(metadata.of(uid(1), uid(1, 1))) == list(range(1, 41))


def test_segments_are_bounded(
    receive: Receive, maker: JsonMaker, metadata: Metadata, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(json_maker, "_SEGMENT_BYTES", 20_000)
    for each in make_ct_series(30):
        receive(each)
    maker.turn()
    with database.read() as connection:
        sizes = connection.execute(select(json_segments.c.number_of_instances)).scalars().all()
    assert max(sizes) <= SEGMENT
    assert numbers(metadata.of(uid(1), uid(1, 1))) == list(range(1, 31))


def test_json_of_other_bytes_is_never_given(
    receive: Receive, maker: JsonMaker, metadata: Metadata, database: Database
) -> None:
    receive(make_ct_instance(1))
    maker.turn()
    other = receive(make_ct_instance(2, PatientID="TEST-2"))
    with database.write() as connection:
        connection.execute(delete(instances).where(instances.c.sop_instance_uid == uid(1, 1, 2)))
        connection.execute(
            instances.update()
            .where(instances.c.sop_instance_uid == uid(1, 1, 1))
            .values(path=other.path, sha256=other.sha256)
        )
    (given,) = json.loads(resolved(metadata.of(uid(1), uid(1, 1)), "x"))
    assert given["00100020"]["Value"] == ["TEST-2"]


def test_what_is_killed_between_making_and_keeping_is_made_again(
    receive: Receive, maker: JsonMaker, metadata: Metadata, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    receive(make_ct_instance(1))

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("storage.json_store._done", die)
        with pytest.raises(KeyboardInterrupt):
            maker.turn()
    assert (count(database, json_pending), count(database, json_segments)) == (1, 0)
    maker.turn()
    assert (count(database, json_pending), count(database, json_segments)) == (0, 1)


def test_an_instance_whose_file_is_missing_holds_nobody_up(
    receive: Receive, maker: JsonMaker, metadata: Metadata, blobs: LocalBlobs, database: Database
) -> None:
    blobs.delete(receive(make_ct_instance(1)).path)
    receive(make_ct_instance(2))
    maker.turn()
    assert (count(database, json_pending), count(database, json_segments)) == (0, 1)
    with pytest.raises(NotKept):
        metadata.of(uid(1), uid(1, 1), uid(1, 1, 1))
    assert numbers(metadata.of(uid(1), uid(1, 1), uid(1, 1, 2))) == [2]


def test_two_makers_at_once_lose_nothing(
    receive: Receive, database: Database, blobs: LocalBlobs, metadata: Metadata
) -> None:
    for each in make_ct_series(30):
        receive(each)
    failures: list[StorageError] = []

    def work() -> None:
        try:
            JsonMaker(JsonStore(database), blobs).turn()
        except StorageError as error:  # one that was overtaken too often does it again later
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    JsonMaker(JsonStore(database), blobs).turn()
    assert count(database, json_pending) == 0
    assert numbers(metadata.of(uid(1), uid(1, 1))) == list(range(1, 31))


def test_removing_an_instance_removes_what_was_made_of_it(
    receive: Receive, maker: JsonMaker, metadata: Metadata, database: Database
) -> None:
    for each in make_ct_series(3):
        receive(each)
    maker.turn()
    with database.write() as connection:
        connection.execute(delete(instances).where(instances.c.sop_instance_uid == uid(1, 1, 2)))
        make_again(connection, uid(1), uid(1, 1))
    assert (count(database, json_pending), count(database, json_segments)) == (2, 0)
    maker.turn()
    assert numbers(metadata.of(uid(1), uid(1, 1))) == [1, 3]
    with database.write() as connection:
        connection.execute(delete(instances))
        connection.execute(delete(series))
    assert count(database, json_segments) == 0


def test_others_see_no_metadata(receive: Receive, maker: JsonMaker, metadata: Metadata) -> None:
    receive(make_ct_instance(1))
    maker.turn()
    with pytest.raises(NotKept):
        metadata.of(uid(1), visible=StudyFilter(frozenset({"somebody else"})))
    assert metadata.of(uid(1), visible=StudyFilter(frozenset({"ct1"})))


def described(settings: Settings, database: Database, keep: Callable[[], None]) -> float:
    """Run the courier's describer, keep instances, and give the seconds until their JSON was there."""
    stop = threading.Event()
    thread = threading.Thread(target=Describer(settings).run, args=(stop,))
    thread.start()
    try:
        keep()
        began = time.monotonic()
        while count(database, json_pending) and time.monotonic() - began < 20:
            time.sleep(0.02)
        return time.monotonic() - began
    finally:
        stop.set()
        thread.join()


def child_pids() -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and b"dicom_node.worker.describe" in (entry / "cmdline").read_bytes():
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                found += [int(entry.name)] if parent == os.getpid() else []
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


def test_a_child_makes_what_comes_and_ends_with_the_courier(tmp_path: Path, sqlite_database: Database) -> None:
    settings = Settings(data_dir=tmp_path)
    (tmp_path / "blobs").mkdir(exist_ok=True)
    intake = Intake(sqlite_database, LocalBlobs(tmp_path / "blobs"), reserve_bytes=0)

    def keep() -> None:
        for each in make_ct_series(20):
            intake.receive(BytesIO(encode(each)), SENDER)

    try:
        assert described(settings, sqlite_database, keep) < 15
    finally:
        intake.close()
    assert child_pids() == []
    assert count(sqlite_database, json_pending) == 0
    assert count(sqlite_database, json_segments) >= 1
