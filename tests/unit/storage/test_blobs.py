"""The contract of a blob store, over every implementation; and what local files promise beyond it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from storage import blobs as blobs_module
from storage.blobs import BlobStore, BlobUnwritable, LocalBlobs
from storage.errors import NotKept
from storage.writeback import begin_writeback
from tests.builders.file_systems import tells_what_is_in_memory

#: Every implementation, made new in an empty folder.
STORES: list[Callable[[Path], BlobStore]] = [LocalBlobs]
LATER = timedelta(hours=1)


@pytest.fixture(params=STORES, ids=lambda make: make.__name__)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> BlobStore:
    made: BlobStore = request.param(tmp_path / "blobs")
    return made


def write(store: BlobStore, path: str, *parts: bytes) -> None:
    writer = store.create()
    for part in parts:
        writer.write(part)
    writer.sync()
    writer.place(path)
    store.sync_directories([path])


def read(store: BlobStore, path: str) -> bytes:
    with store.open(path) as blob:
        return blob.read()


def test_what_was_written_is_read_back_in_order(store: BlobStore) -> None:
    write(store, "a/b/c.bin", b"one", memoryview(b"two"), bytearray(b"three"), b"")
    assert read(store, "a/b/c.bin") == b"onetwothree"
    assert store.size("a/b/c.bin") == 11
    assert store.exists("a/b/c.bin")


def test_a_blob_can_be_read_from_anywhere(store: BlobStore) -> None:
    write(store, "a/b", bytes(range(100)))
    with store.open("a/b") as blob:
        blob.seek(50)
        assert blob.read(2) == bytes([50, 51])


def test_a_piece_at_hand_stands_between_what_goes_around_it(store: BlobStore, tmp_path: Path) -> None:
    if not tells_what_is_in_memory(tmp_path):
        pytest.skip("this file system cannot tell what is in memory")
    write(store, "a/b.bin", b"0123456789")
    assert store.at_hand("a/b.bin", 3, 4, before=b"<", after=b">>") == b"<3456>>"
    assert store.at_hand("a/b.bin", 0, 10) == b"0123456789"
    assert store.at_hand("a/b.bin", 8, 4) is None
    assert store.at_hand("a/none.bin", 0, 1) is None


def test_what_the_system_would_have_to_wait_for_is_not_at_hand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def would_wait(*_: object) -> int:
        raise BlockingIOError

    store = LocalBlobs(tmp_path / "blobs")
    write(store, "a/b.bin", b"0123456789")
    monkeypatch.setattr(os, "preadv", would_wait)
    assert store.at_hand("a/b.bin", 0, 10) is None


def test_what_is_being_written_can_be_read_back_and_has_no_name_yet(store: BlobStore) -> None:
    writer = store.create()
    writer.write(b"half")
    with writer.read_back() as begun:
        assert begun.read() == b"half"
    assert list(store.placed("instances", before=datetime.now(UTC) + LATER)) == []
    writer.discard()


def test_what_is_discarded_is_gone_before_and_after_it_has_its_name(store: BlobStore) -> None:
    store.create().discard()
    writer = store.create()
    writer.write(b"x")
    writer.place("a/x")
    writer.discard()
    assert not store.exists("a/x")
    writer.discard()


def test_there_is_nothing_where_nothing_was_put(store: BlobStore) -> None:
    assert not store.exists("a/none")
    for ask in (store.open, store.size):
        with pytest.raises(NotKept):
            ask("a/none")
    store.delete("a/none")


def test_a_deleted_blob_is_gone_and_its_name_is_free(store: BlobStore) -> None:
    store.put("a/x", b"1")
    store.delete("a/x")
    assert not store.exists("a/x")
    store.put("a/x", b"2")
    assert read(store, "a/x") == b"2"


def test_a_whole_blob_that_is_there_stays_as_it_is(store: BlobStore) -> None:
    store.put("a/x", b"first")
    store.put("a/x", b"second")
    assert read(store, "a/x") == b"first"


@pytest.mark.parametrize("path", ["../outside", "a/../../outside", "/etc/outside", "a/../b"])
def test_no_name_leads_out_of_the_store(store: BlobStore, tmp_path: Path, path: str) -> None:
    for act in (store.exists, store.open, store.size, store.delete, lambda name: store.put(name, b"x")):
        with pytest.raises(BlobUnwritable):
            act(path)
    assert not (tmp_path / "outside").exists()


def test_placed_blobs_are_told_by_prefix_and_time(store: BlobStore) -> None:
    for path in ("instances/ab/1", "instances/ac/d/2", "instances/b0/3", "findings/ab/4"):
        store.put(path, b"x")
    soon = datetime.now(UTC) + LATER
    assert sorted(store.placed("instances/a", before=soon)) == ["instances/ab/1", "instances/ac/d/2"]
    assert list(store.placed("instances/", before=soon - 2 * LATER)) == []
    assert list(store.placed("nothing/", before=soon)) == []


def test_many_write_at_once(store: BlobStore) -> None:
    with ThreadPoolExecutor(16) as writers:
        list(writers.map(lambda number: write(store, f"a/{number % 5}/{number}", b"%d" % number), range(64)))
    assert [read(store, f"a/{number % 5}/{number}") for number in range(64)] == [b"%d" % n for n in range(64)]


def test_bytes_are_on_their_way_to_the_disk_before_anybody_waits_for_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[int] = []
    monkeypatch.setattr(blobs_module, "begin_writeback", lambda descriptor: begun.append(os.fstat(descriptor).st_size))
    writer = LocalBlobs(tmp_path).create()
    writer.write(b"ab", b"c")
    writer.write(b"d")
    writer.discard()
    assert begun == [3, 4]


def test_beginning_writeback_promises_nothing_and_fails_never(tmp_path: Path) -> None:
    with (tmp_path / "file").open("wb") as file:
        file.write(b"abc")
        file.flush()
        begin_writeback(file.fileno())
    begin_writeback(-1)
    assert (tmp_path / "file").read_bytes() == b"abc"


def test_there_is_room(store: BlobStore) -> None:
    assert store.free_bytes() > 0


# Local files.


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The directories that were synced, in order."""
    directories: list[Path] = []
    real = blobs_module._sync_directory

    def note(directory: Path) -> None:
        directories.append(directory)
        real(directory)

    monkeypatch.setattr(blobs_module, "_sync_directory", note)
    return directories


def test_each_new_directory_has_its_name_synced_before_a_blob_in_it_counts(tmp_path: Path, synced: list[Path]) -> None:
    root = tmp_path / "data" / "blobs"
    store = LocalBlobs(root)
    assert synced == [root.parent, tmp_path]
    synced.clear()
    writer = store.create()
    writer.place("instances/ab/cd/x.dcm")
    assert synced == [root, root / "instances", root / "instances/ab"]
    store.sync_directories(["instances/ab/cd/x.dcm"])
    assert Path(synced[-1]) == root / "instances/ab/cd"
    synced.clear()
    store.create().place("instances/ab/cd/y.dcm")
    assert synced == []


def test_a_directory_that_another_made_is_not_taken_for_durable(tmp_path: Path, synced: list[Path]) -> None:
    root = tmp_path / "blobs"
    (root / "instances/ab/cd").mkdir(parents=True)  # another process, which may have died before it synced
    store = LocalBlobs(root)
    synced.clear()
    store.create().place("instances/ab/cd/x.dcm")
    assert synced == [root, root / "instances", root / "instances/ab"]


def test_a_directory_that_was_removed_is_made_again(tmp_path: Path) -> None:
    store = LocalBlobs(tmp_path / "blobs")
    store.put("a/b/x", b"1")
    store.delete("a/b/x")
    (tmp_path / "blobs/a/b").rmdir()
    store.put("a/b/y", b"2")
    assert read(store, "a/b/y") == b"2"


def test_a_place_to_write_that_was_removed_is_made_again(tmp_path: Path) -> None:
    store = LocalBlobs(tmp_path / "blobs")
    store.put("a/x", b"1")
    for directory in (tmp_path / "blobs/incoming").iterdir():
        (directory / ".lock").unlink()
        directory.rmdir()
    store.put("a/y", b"2")
    assert read(store, "a/y") == b"2"


def test_a_store_that_only_reads_leaves_no_trace(tmp_path: Path) -> None:
    LocalBlobs(tmp_path / "blobs").exists("a/x")
    assert list((tmp_path / "blobs").iterdir()) == []


def test_the_memory_of_durable_directories_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blobs_module, "_MOST_REMEMBERED", 8)
    store = LocalBlobs(tmp_path / "blobs")
    for number in range(20):
        store.put(f"a/{number}/x", b"x")
    assert len(store._durable) <= 8


_WRITE_AND_WAIT = """
import sys, time
from pathlib import Path
from storage.blobs import LocalBlobs
writer = LocalBlobs(Path(sys.argv[1])).create()
writer.write(b"half an instance")
print("begun", flush=True)
time.sleep(60)
"""


def test_what_a_dead_process_left_is_swept_and_what_a_living_one_writes_is_not(tmp_path: Path) -> None:
    root = tmp_path / "blobs"
    store = LocalBlobs(root)
    mine = store.create()
    mine.write(b"mine")
    child = subprocess.Popen(
        [sys.executable, "-c", _WRITE_AND_WAIT, str(root)],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": "."},
    )
    assert child.stdout is not None
    assert child.stdout.readline() == b"begun\n"
    assert LocalBlobs(root).sweep() == 0
    child.kill()
    child.wait()
    child.stdout.close()
    assert LocalBlobs(root).sweep() == 1
    assert LocalBlobs(root).sweep() == 0
    mine.place("a/mine")
    assert read(store, "a/mine") == b"mine"
    assert len(list((root / "incoming").iterdir())) == 1


def test_what_a_process_of_the_same_number_left_is_swept(tmp_path: Path) -> None:
    # In a container each role has the same number after each start.
    left = tmp_path / "blobs/incoming" / str(os.getpid())
    left.mkdir(parents=True)
    (left / "half").write_bytes(b"half an instance")
    assert LocalBlobs(tmp_path / "blobs").sweep() == 1
    assert not left.exists()
