"""Ingest: instances a second and CPU seconds per GB, each receiver in turn, several rounds.

The sender is DCMTK's dcmsend with TCP_NODELAY set, one process per association, so that no receiver
pays for delayed acknowledgements.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydicom import Dataset, dcmwrite
from pydicom.dataset import FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

from benchmarks.processes import cpu_seconds, resident_mb
from benchmarks.receivers import Listening, Receiver

SENDER = Path("/usr/bin/dcmsend")


@dataclass(frozen=True)
class Round:
    """One measurement."""

    receiver: str
    associations: int
    instances_per_s: float
    cpu_s_per_gb: float
    resident_mb: float


def write_series(folder: Path, *, count: int, seed: int) -> int:
    """Write one study of noisy 512x512 CT slices; give its bytes."""
    folder.mkdir(parents=True)
    chance = np.random.default_rng(seed)
    study, series = generate_uid(), generate_uid()
    total = 0
    for number in range(1, count + 1):
        slice_ = Dataset()
        slice_.SOPClassUID, slice_.SOPInstanceUID = CTImageStorage, generate_uid()
        slice_.StudyInstanceUID, slice_.SeriesInstanceUID = study, series
        slice_.PatientName, slice_.PatientID, slice_.Modality = "Bench^Ingest", f"BENCH{seed}", "CT"
        slice_.InstanceNumber, slice_.SliceThickness = number, "1.25"
        slice_.Rows = slice_.Columns = 512
        slice_.SamplesPerPixel, slice_.PhotometricInterpretation = 1, "MONOCHROME2"
        slice_.BitsAllocated, slice_.BitsStored, slice_.HighBit, slice_.PixelRepresentation = 16, 16, 15, 1
        slice_.PixelData = chance.integers(-1000, 1000, (512, 512), dtype=np.int16).tobytes()
        slice_.file_meta = FileMetaDataset()
        slice_.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        path = folder / f"{number:05d}.dcm"
        dcmwrite(path, slice_, enforce_file_format=True)
        total += path.stat().st_size
    return total


def measure(
    receivers: Sequence[Receiver], folder: Path, *, associations: Sequence[int], count: int, rounds: int
) -> list[Round]:
    """Send `count` instances in each round, spread over the associations, to each receiver in turn."""
    results: list[Round] = []
    number = 0
    for _ in range(rounds):
        for receiver in receivers:
            with receiver.start(folder / f"receiver-{number}") as listening:
                for parallel in associations:
                    number += 1
                    results.append(_send_once(receiver, listening, folder / f"data-{number}", parallel, count, number))
            number += 1
    return results


def _send_once(receiver: Receiver, listening: Listening, data: Path, parallel: int, count: int, seed: int) -> Round:
    per_association = max(1, count // parallel)
    sizes = [write_series(data / str(each), count=per_association, seed=seed * 100 + each) for each in range(parallel)]
    before = cpu_seconds(listening.group)
    began = time.monotonic()
    senders = [
        subprocess.Popen(
            [str(SENDER), "-aec", listening.ae_title, "127.0.0.1", str(listening.port), "+sd", str(data / str(each))],
            env=dict(os.environ) | {"TCP_NODELAY": "1"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for each in range(parallel)
    ]
    codes = [sender.wait(600) for sender in senders]
    seconds = time.monotonic() - began
    if any(codes):
        raise RuntimeError(f"{receiver.name} did not take all instances: dcmsend ended with {codes}")
    cpu = cpu_seconds(listening.group) - before
    gigabytes = sum(sizes) / 1e9
    return Round(
        receiver.name, parallel, per_association * parallel / seconds, cpu / gigabytes, resident_mb(listening.group)
    )


def medians(rounds: Sequence[Round]) -> list[Round]:
    """One row per receiver and number of associations."""
    keys = list(dict.fromkeys((each.receiver, each.associations) for each in rounds))
    rows = []
    for name, parallel in keys:
        same = [each for each in rounds if (each.receiver, each.associations) == (name, parallel)]
        rows.append(
            Round(
                name,
                parallel,
                statistics.median(each.instances_per_s for each in same),
                statistics.median(each.cpu_s_per_gb for each in same),
                statistics.median(each.resident_mb for each in same),
            )
        )
    return rows
