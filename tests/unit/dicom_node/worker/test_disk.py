from __future__ import annotations

import logging
import threading

import pytest

from configs.settings import DiskSettings
from dicom_node.worker.disk import DiskState, DiskWatch, Room, disk_state

SETTINGS = DiskSettings(reserve_mb=10, warn_at_percent=70)
MB = 1_000_000


@pytest.mark.parametrize(
    ("free_mb", "before", "state"),
    [
        (31, DiskState.ROOMY, DiskState.ROOMY),
        (30, DiskState.ROOMY, DiskState.FILLING),
        (31, DiskState.FILLING, DiskState.FILLING),  # not far enough below the mark yet
        (33, DiskState.FILLING, DiskState.ROOMY),
        (10, DiskState.FILLING, DiskState.FILLING),
        (9.9, DiskState.FILLING, DiskState.RESERVE_REACHED),
        (50, DiskState.RESERVE_REACHED, DiskState.ROOMY),
        (20, DiskState.RESERVE_REACHED, DiskState.FILLING),
    ],
)
def test_the_state_of_a_disk_of_100_mb(free_mb: float, before: DiskState, state: DiskState) -> None:
    assert disk_state(Room(100 * MB, int(free_mb * MB)), SETTINGS, before=before) is state


def test_each_change_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    rooms = [Room(100 * MB, free * MB) for free in (80, 25, 24, 5, 5, 60)]
    watch = DiskWatch(SETTINGS, lambda: rooms.pop(0))
    for _ in range(6):
        watch.look()
    said = [record.getMessage() for record in caplog.records]
    assert said == [
        "disk: 75 % used, warned at 70 % (disk.warn_at_percent); 0.0 GB free",
        "disk: reserve reached (0.0 GB free); senders get 0xA700 and may retry",
        "disk: room again: 40 % used, 0.1 GB free",
    ]


def test_a_disk_that_cannot_be_read_is_looked_at_again(caplog: pytest.LogCaptureFixture) -> None:
    stop = threading.Event()
    answers = [OSError(5, "Input/output error"), Room(100 * MB, 20 * MB)]

    def room() -> Room:
        answer = answers.pop(0)
        if isinstance(answer, OSError):
            raise answer
        stop.set()
        return answer

    DiskWatch(SETTINGS, room).run(stop, every_s=0.0)
    assert [getattr(record, "action", "") for record in caplog.records] == ["disk_unread", "disk_state"]
