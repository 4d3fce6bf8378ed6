"""`make bench`: ingest beside other receivers, latency from the last image to the report, and starts."""

from __future__ import annotations

import argparse
import platform
import shutil
import tempfile
from pathlib import Path

from benchmarks import ingest, latency, starts
from benchmarks.receivers import installed


def main() -> None:
    """Measure and print tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-a", "--associations", type=int, nargs="+", default=[1, 4])
    parser.add_argument("-n", "--instances", type=int, default=200)
    parser.add_argument("-r", "--rounds", type=int, default=3)
    parser.add_argument("--studies", type=int, default=5, help="studies of the latency part; 0 leaves it out")
    parser.add_argument("--slices", type=int, default=200)
    parser.add_argument("--starts", type=int, default=3, help="starts after the first one; 0 leaves them out")
    arguments = parser.parse_args()
    print(f"{platform.machine()}, Python {platform.python_version()}; read ratios, not decimals\n")
    folder = Path(tempfile.mkdtemp(prefix="dicom-node-bench-"))
    try:
        _ingest(arguments, folder)
        if arguments.studies:
            print(
                latency.summary(latency.measure(folder / "latency", slices=arguments.slices, studies=arguments.studies))
            )
        if arguments.starts:
            print(starts.summary(starts.measure(folder / "starts", later=arguments.starts)))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _ingest(arguments: argparse.Namespace, folder: Path) -> None:
    rounds = ingest.measure(
        installed(),
        folder,
        kind="ct",
        associations=arguments.associations,
        count=arguments.instances,
        rounds=arguments.rounds,
    )
    print(ingest.table(ingest.medians(rounds)), end="\n\n")


main()
