"""A full disk: refused with 0xA700 at once, nothing kept is harmed, and the node goes on by itself."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.builders.node import NodeProcess, wait_until
from tests.builders.small_disk import fill, small_disk
from tests.builders.wire import Gone, Made, Mill, Modality, Rejected
from tests.chaos.audit import audit
from tests.chaos.network import PEERS

pytestmark = pytest.mark.timeout(240)

OUT_OF_RESOURCES = 0xA700


class Disks:
    """A node whose data lie on small file systems."""

    def __init__(self, folder: Path, data_dir: Path, *, reserve_mb: float, database: Path | None = None) -> None:
        environ = {"DICOM_NODE_DATA_DIR": str(data_dir)}
        if database is not None:
            environ["DICOM_NODE_DATABASE__URL"] = f"sqlite:///{database / 'node.db'}"
        settings = {"quiet": {"after_s": 1.0}, "disk": {"reserve_mb": reserve_mb}}
        self.node = NodeProcess(folder, peers=PEERS, routes=[], node=settings, environ=environ)
        self.node.data_dir = data_dir
        self.url = environ.get("DICOM_NODE_DATABASE__URL")
        self.mill = Mill(11, seed=11)
        self.acknowledged: dict[str, str] = {}
        self.offered: dict[str, str] = {}

    def store(self, number: int, *, padding: int = 0) -> int:
        """Store one instance, over an association of its own; 0 is never given for anything but Success."""
        made = self.mill.make(1, number)
        made = Made(made.study_instance_uid, made.sop_instance_uid, made.data_set + padded(padding))
        self.offered[made.sop_instance_uid] = made.sha256
        try:
            with Modality(self.node.dimse_port) as modality:
                status = modality.store(made)
                modality.release()
        except (Gone, Rejected):
            return OUT_OF_RESOURCES  # let in by nobody: the sender comes again
        if status == 0x0000:
            self.acknowledged[made.sop_instance_uid] = made.sha256
        return status

    def check(self) -> None:
        self.node.stop()
        found = audit(self.node.data_dir, acknowledged=self.acknowledged, offered=self.offered, url=self.url)
        assert found.clean, found
        assert found.orphans == ()
        left = [path for path in (self.node.data_dir / "blobs/incoming").rglob("*") if path.name != ".lock"]
        assert [path for path in left if path.is_file()] == []


def padded(count: int) -> bytes:
    """Encode Data Set Trailing Padding of so many bytes."""
    return b"\xfc\xff\xfc\xffOB\0\0" + count.to_bytes(4, "little") + bytes(count) if count else b""


@pytest.fixture
def mounts(tmp_path: Path) -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def test_the_reserve_is_not_touched_and_senders_are_told_at_once(tmp_path: Path, mounts: ExitStack) -> None:
    disk = mounts.enter_context(small_disk(tmp_path / "disk", 48))
    here = Disks(tmp_path / "node", disk / "data", reserve_mb=20)
    here.node.start()
    mounts.callback(here.node.stop)
    assert here.store(1) == 0x0000
    filler = fill(disk, leave_bytes=19_000_000)
    began = time.monotonic()
    assert here.store(2) == OUT_OF_RESOURCES
    assert time.monotonic() - began < 10
    assert "error=disk_full" in here.node.log()
    filler.unlink()
    wait_until(lambda: here.store(2) == 0x0000, within_s=5, what="it takes instances again")
    here.check()


def test_a_disk_that_is_full_to_the_last_byte_gives_no_false_success(tmp_path: Path, mounts: ExitStack) -> None:
    disk = mounts.enter_context(small_disk(tmp_path / "disk", 64))
    here = Disks(tmp_path / "node", disk / "data", reserve_mb=0)
    here.node.start()
    pids = here.node.role_pids()
    mounts.callback(here.node.stop)
    assert here.store(1) == 0x0000
    filler = fill(disk, leave_bytes=600_000)
    statuses = [here.store(number, padding=150_000) for number in range(2, 12)]
    assert OUT_OF_RESOURCES in statuses
    assert set(statuses) <= {0x0000, OUT_OF_RESOURCES}
    filler.unlink()
    wait_until(lambda: here.store(99) == 0x0000, within_s=15, what="it takes instances again")
    assert pids.items() <= here.node.role_pids().items(), "a role ended"
    here.check()


def test_a_full_disk_under_the_database_alone_gives_no_false_success(tmp_path: Path, mounts: ExitStack) -> None:
    disk = mounts.enter_context(small_disk(tmp_path / "disk", 24))
    here = Disks(tmp_path / "node", tmp_path / "data", reserve_mb=0, database=disk)
    here.node.start()
    mounts.callback(here.node.stop)
    pids = here.node.role_pids()
    assert here.store(1) == 0x0000
    filler = fill(disk)
    statuses = [here.store(number) for number in range(2, 60)]
    assert OUT_OF_RESOURCES in statuses
    assert set(statuses) <= {0x0000, OUT_OF_RESOURCES}
    filler.unlink()
    wait_until(lambda: here.store(99) == 0x0000, within_s=15, what="it takes instances again")
    assert pids.items() <= here.node.role_pids().items(), "a role ended"
    here.check()
