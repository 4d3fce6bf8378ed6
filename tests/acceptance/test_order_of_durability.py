"""The receiver's system calls, traced: nothing is called Success before all of it is on disk."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.builders.node import NodeProcess
from tests.builders.wire import Mill, Modality
from tests.chaos.network import node_up, warm_up

pytestmark = pytest.mark.timeout(240)

#: Stores that are traced; more where the environment asks for them.
STORES = int(os.environ.get("CHAOS_TRACED_STORES", "60"))
_CALLS = "fsync,fdatasync,syncfs,rename,renameat,renameat2,linkat,mkdir,mkdirat,write,writev,sendto,sendmsg"
_LINE = re.compile(r"(?P<at>[\d.]+) (?P<call>\w+)\((?P<arguments>.*)\)\s+= (?P<answer>-?\d+).*<(?P<took>[\d.]+)>$")


@dataclass(frozen=True)
class Call:
    """One system call that succeeded."""

    began: float
    ended: float
    name: str
    arguments: str


class Trace:
    """What a process does while it is looked at."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def calls(self) -> list[Call]:
        """Give all calls of all threads, by their beginning."""
        found = []
        for file in self._folder.iterdir():
            for line in file.read_text(errors="replace").splitlines():
                match = _LINE.match(line)
                if match and int(match["answer"]) >= 0:
                    began = float(match["at"])
                    found.append(Call(began, began + float(match["took"]), match["call"], match["arguments"]))
        return sorted(found, key=lambda call: call.began)


@contextmanager
def traced(pid: int, folder: Path) -> Iterator[Trace]:
    """Look at a process; skipped where the system does not allow it."""
    strace = shutil.which("strace")
    if strace is None:
        pytest.skip("strace is not installed: apt-get install strace")
    folder.mkdir()
    tracer = subprocess.Popen(
        [
            strace,
            "-ff",
            "-yy",
            "-ttt",
            "-T",
            "-s",
            "0",
            "-e",
            f"trace={_CALLS}",
            "-o",
            str(folder / "t"),
            "-p",
            str(pid),
        ],
        stderr=subprocess.PIPE,
        text=True,
    )
    assert tracer.stderr is not None
    said = tracer.stderr.readline()
    if "attached" not in said:
        tracer.wait(10)
        pytest.skip(f"this system does not let strace look at a process: {said.strip()}")
    time.sleep(0.5)
    try:
        yield Trace(folder)
    finally:
        tracer.terminate()
        tracer.communicate(timeout=20)


def first(calls: list[Call], names: str, pattern: str, *, after: float) -> Call:
    """Give the first such call that begins after a time."""
    for call in calls:
        if call.began >= after and re.fullmatch(names, call.name) and re.search(pattern, call.arguments):
            return call
    raise AssertionError(f"no {names} of {pattern} after {after}")


def follow(calls: list[Call], port: int, began: float) -> tuple[float, list[str]]:
    """Follow one store from a time: each step begins after the one before has ended. Give the end of the answer."""
    renamed = first(calls, "rename.*|linkat", r"incoming/.*instances/", after=began)
    names = re.findall(r'(?:<[^>]*>, )?"([^"]+)"', renamed.arguments) or re.findall(r"<([^>]+)>", renamed.arguments)
    source, target = Path(names[0]), Path(names[-1])
    synced = [
        call
        for call in calls
        if call.name in ("fsync", "fdatasync") and source.name in call.arguments and call.ended <= renamed.began
    ]
    assert synced, f"{target.name} got its name before its bytes were synced"
    directory = first(calls, "fsync|fdatasync", re.escape(f"{target.parent}>"), after=renamed.ended)
    commit = first(calls, "fsync|fdatasync", r"node\.db-wal>", after=directory.ended)
    answer = first(calls, "send.*|write.*", rf"TCP:\[127\.0\.0\.1:{port}->", after=began)
    assert answer.began >= commit.ended, "the answer left before the commit was synced"
    return answer.ended, [source.name, target.name]


@pytest.fixture
def node(tmp_path: Path) -> Iterator[NodeProcess]:
    with node_up(tmp_path / "node") as up:
        warm_up(up)
        yield up


def test_each_success_leaves_after_bytes_name_directory_and_row_are_synced(node: NodeProcess, tmp_path: Path) -> None:
    mill = Mill(5, seed=5)
    with traced(node.role_pids()["receiver"], tmp_path / "trace") as trace, Modality(node.dimse_port) as modality:
        negotiated = time.time()
        for number in range(STORES):
            assert modality.store(mill.make(number // 10, number)) == 0x0000
        modality.release()
    calls = trace.calls()
    at, seen = negotiated, []
    for _ in range(STORES):
        at, names = follow(calls, node.dimse_port, at)
        seen.append(names[0])
    assert len(set(seen)) == STORES


def test_the_name_of_a_new_directory_is_synced_before_the_first_success_in_it(
    node: NodeProcess, tmp_path: Path
) -> None:
    with traced(node.role_pids()["receiver"], tmp_path / "trace") as trace, Modality(node.dimse_port) as modality:
        negotiated = time.time()
        assert modality.store(Mill(6, seed=6).make(1, 1)) == 0x0000
        modality.release()
    calls = [call for call in trace.calls() if call.began >= negotiated]
    made = [call for call in calls if call.name.startswith("mkdir") and "instances/" in call.arguments]
    answer = first(calls, "send.*|write.*", rf"TCP:\[127\.0\.0\.1:{node.dimse_port}->", after=negotiated)
    assert made
    for call in made:
        directory = Path(re.findall(r'"([^"]+)"', call.arguments)[0])
        above = first(calls, "fsync", re.escape(f"{directory.parent}>"), after=call.ended)
        assert above.ended <= answer.began
