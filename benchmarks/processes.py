"""Receivers as processes, and the CPU time that they take."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


def free_port() -> int:
    """A port of this machine that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def running(
    command: list[str], *, port: int, log: Path, environ: Mapping[str, str] | None = None, cwd: Path | None = None
) -> Iterator[int]:
    """Run a server in a process group of its own until the block ends; give the group's id once the port answers."""
    with log.open("wb") as out:
        process = subprocess.Popen(
            command, stdout=out, stderr=out, start_new_session=True, env=dict(environ or os.environ), cwd=cwd
        )
    try:
        deadline = time.monotonic() + 60
        while True:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{command[0]} does not listen; see {log}")
            time.sleep(0.05)
        time.sleep(1.0)
        yield process.pid
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def cpu_seconds(group: int) -> float:
    """CPU time, user and system, of all processes of a group, with their ended children."""
    total = 0
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError, ValueError):
                stat = (entry / "stat").read_text()
                fields = stat[stat.rindex(")") + 2 :].split()
                if int(fields[2]) == group:
                    total += sum(int(fields[index]) for index in (11, 12, 13, 14))
    return total / _TICKS_PER_S


def await_rest(group: int, *, within_s: float = 30.0) -> None:
    """Wait until what a start leaves to do is done: the group takes less than a twentieth of a core."""
    deadline = time.monotonic() + within_s
    before = cpu_seconds(group)
    while time.monotonic() < deadline:
        time.sleep(1.0)
        now = cpu_seconds(group)
        if now - before <= 0.05:
            return
        before = now


def resident_mb(group: int) -> float:
    """Proportional memory (PSS) of all processes of a group, MB."""
    kilobytes = 0
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError, ValueError, StopIteration):
                stat = (entry / "stat").read_text()
                if int(stat[stat.rindex(")") + 2 :].split()[2]) == group:
                    lines = (entry / "smaps_rollup").read_text().splitlines()
                    kilobytes += int(next(line for line in lines if line.startswith("Pss:")).split()[1])
    return kilobytes / 1000
