"""A small file system of the test's own, to be filled."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def small_disk(folder: Path, megabytes: int) -> Iterator[Path]:
    """Mount a file system of so many megabytes; skipped where the test may not."""
    folder.mkdir(parents=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "none", str(folder)]
    if os.geteuid() != 0 or subprocess.run(command, check=False, capture_output=True).returncode != 0:
        pytest.skip("a small file system can be mounted only by root, outside a container without that right")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(folder: Path, *, leave_bytes: int = 0) -> Path:
    """Fill it but for some bytes; give the file that does."""
    filler = folder / "filler"
    with filler.open("wb") as file:
        while (left := os.statvfs(folder).f_bavail * os.statvfs(folder).f_frsize - leave_bytes) > 0:
            try:
                file.write(bytes(min(left, 1 << 20)))
                file.flush()
            except OSError:
                break
    return filler
