"""`make bench-dicomweb`: what a viewer asks for, beside Orthanc with its DICOMweb plugin where that is installed.

Retrieval of a study and of single frames, first byte, storing over HTTP, and queries of a filled index. The CPU
time is that of the server's processes alone. Figures, never checks; `--only` takes the parts one by one.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import platform
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.filled import fill
from benchmarks.metadata import _PLUGINS, _orthanc
from benchmarks.processes import cpu_seconds
from benchmarks.receivers import node
from tests.builders.ct import encode, make_ct_instance, uid

_STUDY = f"/dicom-web/studies/{uid(1)}"
_SERIES = f"{_STUDY}/series/{uid(1, 1)}"
_FRAMES = 'multipart/related; type="application/octet-stream"'
_OBJECTS = 'multipart/related; type="application/dicom"; transfer-syntax=*'
_JSON = "application/dicom+json"
_PARTS_AT_ONCE = 50
#: Rows that a query without a limit may give.
_PAGE = 100


@dataclass(frozen=True)
class Server:
    """A server that is up."""

    name: str
    port: int
    group: int


class Client:
    """One connection that stays open."""

    def __init__(self, server: Server) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
        deadline = time.monotonic() + 30
        while True:  # HTTP may be up a little later than what was waited for
            try:
                self._connection.connect()
            except ConnectionRefusedError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.2)
            else:
                break

    def get(self, path: str, accept: str) -> tuple[int, float]:
        """Give the bytes of an answer, and the seconds until its first one."""
        began = time.perf_counter()
        self._connection.request("GET", path, headers={"Accept": accept})
        answer = self._connection.getresponse()
        first = answer.read(1)
        first_s = time.perf_counter() - began
        size = len(first)
        while piece := answer.read(1 << 20):
            size += len(piece)
        if answer.status != 200:
            raise RuntimeError(f"{path} is answered {answer.status}")
        return size, first_s

    def post(self, path: str, body: bytes, kind: str) -> None:
        """Store."""
        self._connection.request("POST", path, body, {"Content-Type": kind, "Accept": _JSON})
        answer = self._connection.getresponse()
        answer.read()
        if answer.status != 200:
            raise RuntimeError(f"storing is answered {answer.status}")


def main() -> None:
    """Measure and print tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--slices", type=int, default=500)
    parser.add_argument("-r", "--rounds", type=int, default=3)
    parser.add_argument("--studies", type=int, nargs="*", default=[20_000])
    parser.add_argument("--only", choices=("retrieve", "query"))
    arguments = parser.parse_args()
    print(f"{platform.machine()}, Python {platform.python_version()}; read ratios, not decimals")
    folder = Path(tempfile.mkdtemp(prefix="dicom-node-bench-"))
    try:
        if arguments.only != "query":
            _retrievals(folder, arguments.slices, arguments.rounds)
        if arguments.only != "retrieve":
            _queries(folder, arguments.studies)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _servers(folder: Path) -> Iterator[list[Server]]:
    with contextlib.ExitStack() as stack:
        ours = stack.enter_context(node(folder / "node", routes="routes: []\n"))
        found = [Server("dicom-node", ours.http_port, ours.group)]
        plugin = next((path for path in _PLUGINS if path.exists()), None)
        if plugin is not None and shutil.which("Orthanc"):
            _, port, group = stack.enter_context(_orthanc(folder / "orthanc", plugin))
            found.append(Server("Orthanc", port, group))
        else:
            print("Orthanc not measured: it, or its DICOMweb plugin, is not installed.")
        yield found


def _retrievals(folder: Path, slices: int, rounds: int) -> None:
    parts = list(_bodies(slices))
    size = sum(len(body) for body, _ in parts)
    rows: dict[str, dict[str, list[tuple[float, float]]]] = {}
    first_bytes: dict[str, list[float]] = {}
    with _servers(folder) as servers:
        for server in servers:
            client = Client(server)
            took = _timed(server, partial(_store, client, parts))
            rows.setdefault(f"STOW, {slices} slices", {})[server.name] = [took]
        time.sleep(2)
        for _ in range(rounds):
            for server in servers:
                for name, work in _work(server, slices, first_bytes):
                    rows.setdefault(name, {}).setdefault(server.name, []).append(_timed(server, work))
    print(f"\n{slices} CT slices, {size / 1e6:.0f} MB; median of {rounds} rounds, server's CPU\n")
    print(f"{'':<26}{'server':<12}{'wall s':>9}{'CPU s':>8}{'MB/s':>8}{'CPU s/GB':>10}{'ms each':>9}")
    for name, by_server in rows.items():
        count = 200 if "frames" in name else slices
        for server_name, times in by_server.items():
            wall, cpu = (statistics.median(each[place] for each in times) for place in (0, 1))
            moved = size * count / slices
            line = f"{name:<26}{server_name:<12}{wall:>9.2f}{cpu:>8.2f}{moved / 1e6 / wall:>8.0f}"
            print(f"{line}{cpu / moved * 1e9:>10.2f}{1000 * wall / count:>9.2f}")
    for server_name, values in first_bytes.items():
        print(f"first byte of the study, {server_name}: {1000 * statistics.median(values):.1f} ms")


def _store(client: Client, parts: Sequence[tuple[bytes, str]]) -> None:
    for body, kind in parts:
        client.post("/dicom-web/studies", body, kind)


def _work(
    server: Server, slices: int, first_bytes: dict[str, list[float]]
) -> Sequence[tuple[str, Callable[[], object]]]:
    client = Client(server)
    numbers = [1 + place * slices // 200 for place in range(200)]
    paths = [f"{_SERIES}/instances/{uid(1, 1, number)}/frames/1" for number in numbers]

    def study() -> None:
        _, first_s = client.get(_STUDY, _OBJECTS)
        first_bytes.setdefault(server.name, []).append(first_s)

    def one_by_one() -> None:
        for path in paths:
            client.get(path, _FRAMES)

    def four_at_once() -> None:
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda place: [Client(server).get(path, _FRAMES) for path in paths[place::4]], range(4)))

    client.get(f"{_STUDY}/series", _JSON)
    return (("study", study), ("200 frames", one_by_one), ("200 frames, 4 at once", four_at_once))


def _timed(server: Server, work: Callable[[], object]) -> tuple[float, float]:
    cpu, began = cpu_seconds(server.group), time.perf_counter()
    work()
    return time.perf_counter() - began, cpu_seconds(server.group) - cpu


def _bodies(slices: int) -> Iterator[tuple[bytes, str]]:
    """Requests to store noisy CT slices of 527 kB, some in each."""
    noise = np.random.default_rng(1)
    pixels = [noise.integers(0, 4096, (512, 512), dtype=np.uint16).tobytes() for _ in range(20)]
    for begin in range(1, slices + 1, _PARTS_AT_ONCE):
        body = bytearray()
        for number in range(begin, min(begin + _PARTS_AT_ONCE, slices + 1)):
            made = make_ct_instance(number, Rows=512, Columns=512, PixelData=pixels[number % 20])
            body += b"--b0\r\nContent-Type: application/dicom\r\n\r\n" + encode(made) + b"\r\n"
        yield bytes(body) + b"--b0--\r\n", 'multipart/related; type="application/dicom"; boundary=b0'


def _queries(folder: Path, counts: Sequence[int]) -> None:
    """Ask a filled index, with keys that are different each time."""
    print(f"\n{'studies':>9} {'query':<34}{'p50 ms':>8}{'p99 ms':>8}{'rows':>6}")
    for count in counts:
        filled = folder / f"filled-{count}"

        def prepare(data_dir: Path, count: int = count) -> None:
            fill(data_dir, instances=count * 10, per_series=5, series=2)

        with node(filled, routes="routes: []\n", roles="web", prepare=prepare) as listening:
            client = Client(Server("dicom-node", listening.http_port, listening.group))
            for name, path_of in _QUERIES:
                times, size = [], 0
                for turn in range(220):
                    number = (turn * 7919) % count
                    began = time.perf_counter()
                    size, _ = client.get(path_of(number), _JSON)
                    times.append(time.perf_counter() - began)
                cuts = statistics.quantiles(times[20:], n=100)
                print(f"{count:>9} {name:<34}{1000 * cuts[49]:>8.2f}{1000 * cuts[98]:>8.2f}{size // 1000:>5}k")
        shutil.rmtree(filled, ignore_errors=True)


def _study_uid(number: int) -> str:
    return ".".join(["2.25", str((number * 2_654_435_761) % 2**32)])


_QUERIES: tuple[tuple[str, Callable[[int], str]], ...] = (
    ("patient ID", lambda n: f"/dicom-web/studies?PatientID=F{n}"),
    ("accession number", lambda n: f"/dicom-web/studies?AccessionNumber=ACC{n}"),
    ("study", lambda n: f"/dicom-web/studies?StudyInstanceUID={_study_uid(n)}"),
    ("date and modality", lambda n: f"/dicom-web/studies?StudyDate=20{n % 25:02d}0102&ModalitiesInStudy=CT&limit=10"),
    ("series of a study", lambda n: f"/dicom-web/studies/{_study_uid(n)}/series"),
    ("name*, 100 of them", lambda n: f"/dicom-web/studies?PatientName=Filler^{1 + n % 9}*&limit={_PAGE}"),
    ("100 with fields", lambda n: f"/dicom-web/studies?limit={_PAGE}&includefield=00081030%2C00080060&offset={n % 50}"),
)


if __name__ == "__main__":
    main()
