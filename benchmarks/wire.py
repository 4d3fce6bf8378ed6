"""From stored findings to the set in the destination's folder: real worker, courier and queue, DCMTK's storescp."""

from __future__ import annotations

import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from pydicom import dcmread
from pydicom.errors import InvalidDicomError

from benchmarks.processes import await_rest, free_port, running
from benchmarks.receivers import node
from tests.builders.ct import encode, make_ct_series

_PEERS = """peers:
  modality: {{ae_title: DCMSEND, from: [127.0.0.1], accept: [echo, store], quiet_after_s: 1.0, settle_s: 0}}
  pacs: {{ae_title: PACS, host: 127.0.0.1, port: {port}, accept: [echo], deliver: {{by: dimse, {asked}}}}}
"""
_ROUTES = """routes:
  - {name: chest-ct, engine: classical-lung, when: {Modality: CT}, series: best, deliver_to: [pacs]}
"""
#: What a destination may ask for: by name, its `deliver` and how many objects that is.
ASKED = {
    "label map and SR": ("send: [sr, seg], outlines: [labelmap]", 2),
    "label map as RLE and SR": ("send: [sr, seg], outlines: [labelmap], encodings: [rle]", 2),
    "BINARY and SR": ("send: [sr, seg]", 2),
    "SR alone": ("send: [sr]", 1),
}


def measure(asked: str, count: int, *, slices: int, rounds: int) -> list[float]:
    """Give for each study the seconds from the findings' file to the last object of the set in storescp's folder."""
    with tempfile.TemporaryDirectory() as named:
        folder = Path(named)
        received = folder / "pacs"
        received.mkdir()
        port = free_port()
        # It knows no label maps by name: promiscuous.
        pacs = ["/usr/bin/storescp", "-pm", "+xa", "--fork", "-od", str(received), "-aet", "PACS", str(port)]
        peers = _PEERS.format(port=port, asked=asked)
        with (
            running(pacs, port=port, log=folder / "pacs.log"),
            node(folder / "node", peers=peers, routes=_ROUTES, module="benchmarks.stand_in") as listening,
        ):
            times = []
            for number in range(rounds + 1):
                await_rest(listening.group, within_s=6.0)
                uid = _send(folder / f"study-{number}", listening.port, slices, seed=number + 1)
                arrived = _arrived(received, uid, count)
                made = max(_findings(folder / "node" / "data"))
                times.append((arrived - made) / 1e9)
            return times[1:]  # the first study warms the worker up


def _send(folder: Path, port: int, slices: int, seed: int) -> str:
    folder.mkdir()
    pixels = bytes(2 * 512 * 512)
    for slice_ in make_ct_series(slices, study=seed, Rows=512, Columns=512, SliceThickness="1.25", PixelData=pixels):
        (folder / f"{slice_.InstanceNumber}.dcm").write_bytes(encode(slice_))
        uid = str(slice_.StudyInstanceUID)
    command = ["/usr/bin/dcmsend", "-aet", "DCMSEND", "-aec", "DICOMNODE", "127.0.0.1", str(port), "+sd", str(folder)]
    subprocess.run(command, check=True, capture_output=True)
    return uid


def _findings(data: Path) -> Iterator[int]:
    """Give when the content of each run's findings was written, ns; their row follows."""
    return (path.stat().st_mtime_ns for path in data.rglob("findings/*/*.bin"))


def _arrived(received: Path, study_instance_uid: str, count: int) -> int:
    """Wait for a study's set; give when the last byte of it was written, ns."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        seen = [path for path in received.iterdir() if _is_of(path, study_instance_uid)]
        if len(seen) >= count:
            time.sleep(0.5)  # its end is in the file by then
            return max(path.stat().st_mtime_ns for path in seen)
        time.sleep(0.2)
    raise RuntimeError("the set did not arrive within 60 s")


def _is_of(path: Path, study_instance_uid: str) -> bool:
    """Tell whether a file is of a study; one that is still written may not say so yet."""
    try:
        return bool(dcmread(path, specific_tags=["StudyInstanceUID"]).StudyInstanceUID == study_instance_uid)
    except (InvalidDicomError, EOFError, AttributeError):
        return False


def lines(slices: int, rounds: int) -> Iterator[str]:
    """Give a line for each thing that a destination may ask for."""
    for name, (asked, count) in ASKED.items():
        times = measure(asked, count, slices=slices, rounds=rounds)
        yield f"{f'on the wire, {name}':<44}{statistics.median(times):.2f} ({min(times):.2f})"
