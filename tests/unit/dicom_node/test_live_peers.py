from __future__ import annotations

import os
from pathlib import Path

from configs.load import read_peers
from dicom_node.live_peers import LivePeers

ONE = "peers:\n  a: {ae_title: A, host: h}\n"


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def write(path: Path, text: str, stamp: int) -> None:
    path.write_text(text)
    os.utime(path, ns=(stamp, stamp))


def test_a_changed_file_counts_without_a_restart(tmp_path: Path) -> None:
    path, clock = tmp_path / "peers.yaml", Clock()
    write(path, ONE, 1)
    peers = LivePeers(path, read_peers(path), monotonic=clock)
    write(path, ONE + "  b: {ae_title: B, host: h}\n", 2)
    assert list(peers) == ["a"]
    clock.now = 2.0
    assert list(peers) == ["a", "b"]


def test_a_bad_file_is_not_taken(tmp_path: Path) -> None:
    path, clock = tmp_path / "peers.yaml", Clock()
    write(path, ONE, 1)
    peers = LivePeers(path, read_peers(path), monotonic=clock)
    write(path, ONE + "  b: {ae_title: B, hots: h}\n", 2)
    clock.now = 2.0
    assert list(peers) == ["a"]
    write(path, ONE.replace("  a", "  c"), 3)
    clock.now = 4.0
    assert list(peers) == ["c"]
