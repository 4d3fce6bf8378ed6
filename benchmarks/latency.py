"""From the last image's Success to the SR at the PACS, with what of it was waiting and what was the engine."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from pydicom import dcmread

from benchmarks.processes import free_port, running
from benchmarks.receivers import ROOT, node
from dicom_node.demo.phantom import write_phantom_study

_PEERS = """peers:
  modality: {{ae_title: DCMSEND, from: [127.0.0.1], accept: [echo, store], quiet_after_s: {quiet}, settle_s: 0}}
  pacs: {{ae_title: PACS, host: 127.0.0.1, port: {port}, accept: [echo], deliver: {{by: dimse, send: [sr, seg]}}}}
"""
_ROUTES = """routes:
  - {name: chest-ct, engine: classical-lung, when: {Modality: CT}, series: best, deliver_to: [pacs]}
"""


@dataclass(frozen=True)
class Latency:
    """Seconds of one study."""

    total: float
    quiet: float
    """Configured wait for more images."""


def measure(folder: Path, *, slices: int, studies: int, quiet_s: float = 1.0) -> list[Latency]:
    """Send phantom studies one after another and wait for each SR at a PACS stand-in."""
    folder.mkdir(parents=True)
    received = folder / "pacs"
    received.mkdir()
    port = free_port()
    stand_in = [
        sys.executable,
        "-m",
        "dicom_node.demo.pacs",
        "--folder",
        str(received),
        "--port",
        str(port),
        "--ae",
        "PACS",
    ]
    peers = _PEERS.format(quiet=quiet_s, port=port)
    results = []
    with (
        running(stand_in, port=port, log=folder / "pacs.log", cwd=ROOT),
        node(folder / "node", peers=peers, routes=_ROUTES) as listening,
    ):
        for number in range(studies):
            sent = folder / f"study-{number}"
            sent.mkdir()
            write_phantom_study(sent, slices=slices, seed=number + 1)
            uid = dcmread(next(sent.iterdir()), stop_before_pixels=True).StudyInstanceUID
            subprocess.run(
                [
                    "/usr/bin/dcmsend",
                    "-aet",
                    "DCMSEND",
                    "-aec",
                    "DICOMNODE",
                    "127.0.0.1",
                    str(listening.port),
                    "+sd",
                    str(sent),
                ],
                check=True,
                capture_output=True,
            )
            results.append(Latency(_seconds_until_report(received, uid), quiet_s))
    return results


def _seconds_until_report(received: Path, study_instance_uid: str) -> float:
    began = time.monotonic()
    seen: set[Path] = set()
    while time.monotonic() - began < 120:
        for path in set(received.rglob("SR*.dcm")) - seen:
            seen.add(path)
            if dcmread(path, stop_before_pixels=True).StudyInstanceUID == study_instance_uid:
                return time.monotonic() - began
        time.sleep(0.02)
    raise RuntimeError("no report after 120 s")


def summary(results: list[Latency]) -> str:
    """One line: median and worst."""
    totals = sorted(each.total for each in results)
    quiet = results[0].quiet
    return (
        f"last image → SR at the PACS: median {statistics.median(totals):.1f} s, worst {totals[-1]:.1f} s over "
        f"{len(totals)} studies; of it {quiet:.1f} s are the configured quiet time"
    )
