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
        if ingest.SENDER.exists():
            _ingest(arguments, folder)
        else:
            print("Ingest not measured: dcmsend is missing (apt-get install dcmtk).")
        if arguments.studies:
            print(
                latency.summary(latency.measure(folder / "latency", slices=arguments.slices, studies=arguments.studies))
            )
        if arguments.starts:
            print(starts.summary(starts.measure(folder / "starts", later=arguments.starts)))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _ingest(arguments: argparse.Namespace, folder: Path) -> None:
    receivers = installed()
    rows = ingest.medians(
        ingest.measure(
            receivers,
            folder,
            associations=arguments.associations,
            count=arguments.instances,
            rounds=arguments.rounds,
        )
    )
    durable = {receiver.name: receiver.durable for receiver in receivers}
    base = {row.associations: row for row in rows if row.receiver == "Orthanc"}
    heading = ("receiver", "assoc", "inst/s", "x Orthanc", "CPU s/GB", "x Orthanc", "PSS MB", "on disk before Success")
    print("{:<22}{:>6}{:>9}{:>11}{:>10}{:>11}{:>8}  {}".format(*heading))
    for row in rows:
        reference = base.get(row.associations)
        rate = f"{row.instances_per_s / reference.instances_per_s:.2f}" if reference else "-"
        cpu = f"{row.cpu_s_per_gb / reference.cpu_s_per_gb:.2f}" if reference else "-"
        print(
            f"{row.receiver:<22}{row.associations:>6}{row.instances_per_s:>9.0f}{rate:>11}"
            f"{row.cpu_s_per_gb:>10.1f}{cpu:>11}{row.resident_mb:>8.0f}  {durable[row.receiver]}"
        )
    print()


main()
