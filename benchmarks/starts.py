"""Seconds from the command to the line that says the node is up: the first start on a machine, and later ones."""

from __future__ import annotations

import os
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.processes import free_port

_ROOT = Path(__file__).parent.parent
_WITHIN_S = 120.0


def measure(folder: Path, *, later: int) -> list[float]:
    """Start a node on an empty data directory, stop it, and start it `later` times more; give the seconds of each."""
    folder.mkdir(parents=True)
    environ = {
        **{name: value for name, value in os.environ.items() if not name.startswith("DICOM_NODE_")},
        "DICOM_NODE_DATA_DIR": str(folder / "data"),
        "DICOM_NODE_DIMSE__PORT": str(free_port()),
        "DICOM_NODE_HTTP__PORT": str(free_port()),
        "PYTHONPATH": str(_ROOT),
    }
    return [_start(folder / f"log-{number}", environ) for number in range(1 + later)]


def _start(log: Path, environ: dict[str, str]) -> float:
    began = time.monotonic()
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "dicom_node.cli", "up"], stdout=out, stderr=out, env=environ, cwd=log.parent
        )
    try:
        while "is up" not in log.read_text(errors="replace"):
            if process.poll() is not None or time.monotonic() - began > _WITHIN_S:
                raise RuntimeError(f"the node did not start; see {log}")
            time.sleep(0.02)
        return time.monotonic() - began
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


def summary(seconds: list[float]) -> str:
    """One line: the first start, and the median of those after it."""
    first, *later = seconds
    return f"start: first {first:.1f} s, later {statistics.median(later):.1f} s (median of {len(later)})"
