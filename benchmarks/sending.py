"""`python -m benchmarks.sending`: our sender beside pynetdicom's, to the same receiver (DCMTK storescp)."""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median

import numpy as np
from pynetdicom import build_context

from benchmarks.processes import free_port, running
from configs.peers import Peer
from dicom_node.network import application_entity
from dicom_node.scu.files import outgoing
from dicom_node.scu.store import send
from tests.builders.ct import encode, make_ct_instance

RECEIVER = Path("/usr/bin/storescp")
CT_IMAGE_STORAGE, EXPLICIT = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.1.2.1"


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-n", "--instances", type=int, default=200)
    parser.add_argument("-r", "--rounds", type=int, default=3)
    arguments = parser.parse_args()
    if not RECEIVER.exists():
        print("Not measured: storescp is missing (apt-get install dcmtk).")
        return
    with tempfile.TemporaryDirectory(prefix="dicom-node-bench-") as name:
        folder = Path(name)
        files = instances(folder, arguments.instances)
        print(
            "{:<12}{:>10}{:>14}   CT 512x512, median of {} rounds".format(
                "sender", "inst/s", "CPU ms/inst", arguments.rounds
            )
        )
        for sender, sending in (("dicom-node", by_node), ("pynetdicom", by_pynetdicom)):
            rounds = [measure(sending, files, folder) for _ in range(arguments.rounds)]
            rate, cpu = (median(each[place] for each in rounds) for place in (0, 1))
            print(f"{sender:<12}{rate:>10.0f}{cpu:>14.2f}")


def instances(folder: Path, count: int) -> list[Path]:
    """Make a series of CT slices with noise for pixels."""
    noise = np.random.default_rng(1)
    files = []
    for number in range(1, count + 1):
        pixels = noise.integers(0, 4096, (512, 512), dtype=np.uint16).tobytes()
        file = folder / f"{number}.dcm"
        file.write_bytes(encode(make_ct_instance(number, Rows=512, Columns=512, PixelData=pixels)))
        files.append(file)
    return files


def measure(sending: Callable[[int, Sequence[Path]], None], files: Sequence[Path], folder: Path) -> tuple[float, float]:
    """Send once; give instances a second, and milliseconds of the sender's CPU for each."""
    port = free_port()
    command = [str(RECEIVER), "--ignore", "--max-pdu", "131072", str(port)]
    with running(command, port=port, log=folder / "storescp.log"):
        before, began = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
        sending(port, files)
        wall_s, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_SELF)
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return len(files) / wall_s, 1000 * cpu_s / len(files)


def by_node(port: int, files: Sequence[Path]) -> None:
    """Send as deliveries and moves do."""
    statuses: list[int] = []
    peer = Peer(ae_title="SINK", host="127.0.0.1", port=port)
    items = [outgoing(file) for file in files]
    send(peer, calling_ae_title="BENCH", items=items, on_status=lambda _, status: statuses.append(status))
    assert statuses == [0] * len(files)


def by_pynetdicom(port: int, files: Sequence[Path]) -> None:
    """Send by pynetdicom alone, from the files as they are."""
    contexts = [build_context(CT_IMAGE_STORAGE, EXPLICIT)]
    entity = application_entity("BENCH")
    entity.dimse_timeout = entity.network_timeout = 120
    association = entity.associate("127.0.0.1", port, contexts=contexts)
    assert association.is_established
    for file in files:
        assert association.send_c_store(file).Status == 0
    association.release()


if __name__ == "__main__":
    main()
