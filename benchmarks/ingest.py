"""`make bench-ingest`: C-STORE beside other receivers in the same run, and what else a sender or an idle peer meets.

Every receiver gets the same replayed instances in interleaved rounds; CPU is that of all its processes. Figures of one
run are compared with each other, never with those of another machine or day.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks import filled, replay
from benchmarks.processes import await_rest, cpu_seconds, resident_mb
from benchmarks.receivers import FLOOR, ORTHANC, ROOT, Listening, Receiver, installed, receiving

DCMSEND = Path("/usr/bin/dcmsend")
#: Seconds after the last answer in which a receiver's further work counts as its own.
_AFTERWARDS_S = 1.0


@dataclass(frozen=True)
class Round:
    """One measurement, or the median of several."""

    receiver: str
    associations: int
    instances_per_s: float
    cpu_s_per_gb: float
    p99_ms: float
    resident_mb: float


def measure(
    receivers: Sequence[Receiver], folder: Path, *, kind: str, associations: Sequence[int], count: int, rounds: int
) -> list[Round]:
    """Send `count` instances in each round, spread over the associations, to each receiver in turn.

    What was kept stays until the caller removes it: ext4 passes over inodes that were deleted a moment ago when it
    makes files, which the next receiver would pay for.
    """
    results: list[Round] = []
    refusing: set[tuple[str, int]] = set()
    for number in range(rounds):
        for position, receiver in enumerate(receivers):
            with receiver.start(folder / f"{kind}-{number}-{position}") as listening:
                send(listening, kind, associations=1, count=3)  # warm
                await_rest(listening.group)
                for parallel in associations:
                    if (receiver.name, parallel) in refusing:
                        continue
                    try:
                        results.append(_round(receiver.name, listening, kind, parallel, count))
                    except RuntimeError as error:
                        print(f"{receiver.name}, {parallel} associations: {error}", flush=True)
                        refusing.add((receiver.name, parallel))
    return results


def send(listening: Listening, kind: str, *, associations: int, count: int) -> replay.Sent:
    """Have a sender, a process of its own, send once."""
    command = [sys.executable, "-m", "benchmarks.replay", kind, "--port", str(listening.port)]
    command += ["--called", listening.ae_title, "-a", str(associations), "-n", str(count)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT, timeout=600)
    if done.returncode:
        raise RuntimeError((done.stderr.strip().splitlines() or ["the sender failed"])[-1])
    said = json.loads(done.stdout)
    return replay.Sent(said["seconds"], said["bytes"], said["latencies_ms"])


def _round(name: str, listening: Listening, kind: str, parallel: int, count: int) -> Round:
    before = cpu_seconds(listening.group)
    sent = send(listening, kind, associations=parallel, count=count)
    time.sleep(_AFTERWARDS_S)
    cpu = cpu_seconds(listening.group) - before
    latencies = sorted(sent.latencies_ms)
    return Round(
        name,
        parallel,
        len(latencies) / sent.seconds,
        cpu / (sent.bytes_sent / 1e9),
        latencies[min(len(latencies) - 1, round(0.99 * (len(latencies) - 1)))],
        resident_mb(listening.group),
    )


def medians(rounds: Sequence[Round]) -> list[Round]:
    """One row per receiver and number of associations."""
    rows = []
    for name, parallel in dict.fromkeys((each.receiver, each.associations) for each in rounds):
        same = [each for each in rounds if (each.receiver, each.associations) == (name, parallel)]
        middle = (
            statistics.median(getattr(each, field) for each in same)
            for field in ("instances_per_s", "cpu_s_per_gb", "p99_ms", "resident_mb")
        )
        rows.append(Round(name, parallel, *middle))
    return rows


def table(rows: Sequence[Round]) -> str:
    """Rows beside Orthanc and the floor, as Markdown."""
    by = {(row.receiver, row.associations): row for row in rows}
    lines = [
        "| receiver | assoc | inst/s | x Orthanc | of the floor | CPU s/GB | x Orthanc | p99 ms | PSS MB |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        base, floor = by.get((ORTHANC, row.associations)), by.get((FLOOR, row.associations))
        times = f"{row.instances_per_s / base.instances_per_s:.2f}" if base else "-"
        share = f"{row.instances_per_s / floor.instances_per_s:.0%}" if floor else "-"
        cpu = f"{row.cpu_s_per_gb / base.cpu_s_per_gb:.2f}" if base else "-"
        lines.append(
            f"| {row.receiver} | {row.associations} | {row.instances_per_s:.0f} | {times} | {share} |"
            f" {row.cpu_s_per_gb:.2f} | {cpu} | {row.p99_ms:.1f} | {row.resident_mb:.0f} |"
        )
    return "\n".join(lines)


def stall(receivers: Sequence[Receiver], folder: Path, *, count: int, rounds: int) -> dict[str, float]:
    """Milliseconds per CT slice of DCMTK's dcmsend as it is shipped, on one association."""
    found: dict[str, list[float]] = {}
    for number in range(rounds):
        for position, receiver in enumerate(receivers):
            if receiver.name == FLOOR:
                continue
            source = folder / "source"
            _write_files(source, count=count, run=number * 100 + position + 1)
            with receiver.start(folder / f"stall-{number}-{position}") as listening:
                command = [str(DCMSEND), "-aec", listening.ae_title, "127.0.0.1", str(listening.port)]
                began = time.perf_counter()
                done = subprocess.run([*command, "+sd", str(source)], capture_output=True, check=False)
                seconds = time.perf_counter() - began
            shutil.rmtree(source)
            if done.returncode == 0:
                found.setdefault(receiver.name, []).append(seconds * 1000 / count)
    return {name: statistics.median(each) for name, each in found.items()}


def _write_files(folder: Path, *, count: int, run: int) -> None:
    """Write Part 10 files of replayed CT slices."""
    from storage.part10 import FileMeta, write_file_meta

    folder.mkdir(parents=True)
    for number in range(1, count + 1):
        instance, header, pixels = replay.data_set("ct", run=run, association=0, number=number)
        meta = write_file_meta(FileMeta(replay.CT, instance, replay.EXPLICIT))
        (folder / f"{number:05d}.dcm").write_bytes(meta + header + pixels)


def idle(listening: Listening, *, associations: int, seconds: float) -> float:
    """Share of one core that open associations without traffic take."""
    with contextlib.ExitStack() as stack:
        for _ in range(associations):
            connection = stack.enter_context(socket.create_connection(("127.0.0.1", listening.port), timeout=30))
            connection.sendall(replay.associate_rq(replay.CT, listening.ae_title))
            if connection.recv(1) != b"\x02":
                raise RuntimeError(f"not all of {associations} associations were accepted")
        time.sleep(3)
        before = cpu_seconds(listening.group)
        time.sleep(seconds)
        return (cpu_seconds(listening.group) - before) / seconds


def curve(folder: Path, *, kept: Sequence[int], count: int) -> list[tuple[int, float]]:
    """Tiny instances a second into a node that keeps so many already."""
    points = []
    for number in kept:
        place = folder / f"kept-{number}"
        with receiving(place, prepare=lambda data, rows=number: filled.fill(data, instances=rows)) as listening:
            send(listening, "tiny", associations=4, count=40)
            rates = [count / send(listening, "tiny", associations=4, count=count).seconds for _ in range(3)]
        points.append((number, statistics.median(rates)))
        shutil.rmtree(place, ignore_errors=True)
        print(f"kept {number}: {points[-1][1]:.0f} tiny instances/s", flush=True)
    return points


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-a", "--associations", type=int, nargs="+", default=[1, 4, 16])
    parser.add_argument("-n", "--instances", type=int, default=320)
    parser.add_argument("-r", "--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="+", help="names of receivers")
    parser.add_argument(
        "--parts", nargs="+", default=["ct", "mr", "cr", "stall", "idle", "curve"], help="what is measured"
    )
    parser.add_argument("--kept", type=int, nargs="+", default=[0, 100_000, 1_000_000])
    arguments = parser.parse_args()
    receivers = [each for each in installed() if not arguments.only or each.name in arguments.only]
    cores = len(os.sched_getaffinity(0))
    print(f"{platform.machine()}, {cores} cores, Python {platform.python_version()}; read ratios, not decimals\n")
    folder = Path(tempfile.mkdtemp(prefix="dicom-node-bench-"))
    try:
        _parts(arguments, receivers, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _parts(arguments: argparse.Namespace, receivers: Sequence[Receiver], folder: Path) -> None:
    sizes = {"ct": (arguments.associations, arguments.instances), "mr": ([4], arguments.instances), "cr": ([4], 40)}
    for kind, (associations, count) in sizes.items():
        if kind in arguments.parts:
            rounds = measure(
                receivers, folder / kind, kind=kind, associations=associations, count=count, rounds=arguments.rounds
            )
            print(f"{kind.upper()}, {count} instances a round\n{table(medians(rounds))}\n", flush=True)
            shutil.rmtree(folder / kind, ignore_errors=True)
    if "stall" in arguments.parts and DCMSEND.exists():
        print("dcmsend as shipped, one association, ms per CT slice")
        for name, each in stall(receivers, folder, count=100, rounds=arguments.rounds).items():
            print(f"| {name} | {each:.1f} |")
        print(flush=True)
    if "idle" in arguments.parts:
        with receiving(folder / "idle") as listening, receiving(folder / "none") as quiet:
            alone = idle(quiet, associations=0, seconds=10)
            print(f"50 idle associations: {idle(listening, associations=50, seconds=10) - alone:.1%} of a core,")
            print(f"beside {alone:.1%} of the node without any")
            idle(listening, associations=100, seconds=0.1)
            print("100 associations accepted at once\n", flush=True)
    if "curve" in arguments.parts:
        curve(folder, kept=arguments.kept, count=1000)


if __name__ == "__main__":
    main()
