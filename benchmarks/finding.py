"""`make bench-find`: C-FIND from the request to the first pending response and to the last, on an open association.

The node's index is filled with rows; Orthanc is filled over C-STORE, one tiny instance a study, and the node is
measured with as many studies of that kind too.
"""

from __future__ import annotations

import argparse
import contextlib
import platform
import shutil
import socket
import statistics
import struct
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks import replay
from benchmarks.filled import fill, study_uid
from benchmarks.receivers import NODE, ORTHANC, Listening, installed, node

STUDY_ROOT_FIND = "1.2.840.10008.5.1.4.1.2.2.1"
_PENDING = (0xFF00, 0xFF01)
#: Ten instances a study: 100,000 studies are a million instances.
_PER_STUDY = 10


@dataclass(frozen=True)
class Query:
    """One question, asked again and again of other studies."""

    name: str
    keys: Callable[[int], dict[int, tuple[bytes, str]]]
    """Number of a study → tag → VR and value."""


_RETURNED: dict[int, tuple[bytes, str]] = {
    0x00080020: (b"DA", ""),
    0x00080050: (b"SH", ""),
    0x00080052: (b"CS", "STUDY"),
    0x00080061: (b"CS", ""),
    0x00100010: (b"PN", ""),
    0x00100020: (b"LO", ""),
    0x0020000D: (b"UI", ""),
    0x00201208: (b"IS", ""),
}


@dataclass(frozen=True)
class Names:
    """How studies are called that a receiver was filled with."""

    study_instance_uid: Callable[[int], str]
    patient_id: Callable[[int], str]
    accession_number: Callable[[int], str]
    wildcard: Callable[[int], str]
    day: Callable[[int], str]


FILLED = Names(study_uid, "F{}".format, "ACC{}".format, "Filler^{}*".format, lambda number: f"20{number % 25:02d}0102")
SENT = Names(
    lambda number: f"2.25.1{number:012d}000",
    "BENCH{}0".format,
    lambda number: f"ACC{number}0",
    lambda _: "Bench^Inges*",
    lambda _: "20260102",
)


def queries(names: Names) -> list[Query]:
    """Give what is asked."""
    return [
        Query("Study Instance UID", lambda number: {0x0020000D: (b"UI", names.study_instance_uid(number))}),
        Query("Patient ID", lambda number: {0x00100020: (b"LO", names.patient_id(number))}),
        Query("Accession Number", lambda number: {0x00080050: (b"SH", names.accession_number(number))}),
        Query("Patient's Name with *", lambda number: {0x00100010: (b"PN", names.wildcard(number))}),
        Query("Study Date (many)", lambda number: {0x00080020: (b"DA", names.day(number))}),
        Query("anything (many)", lambda _: {}),
    ]


class Asker:
    """One association for queries."""

    def __init__(self, listening: Listening) -> None:
        self._connection = socket.create_connection(("127.0.0.1", listening.port), timeout=120)
        self._connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._connection.sendall(replay.associate_rq(STUDY_ROOT_FIND, listening.ae_title))
        if self._pdu()[0] != 2:
            raise RuntimeError(f"{listening.ae_title} refused the association")
        self._buffer = bytearray()

    def ask(self, keys: dict[int, tuple[bytes, str]], *, most: int) -> tuple[float, float, int]:
        """Ask; give milliseconds to the first response and to the last, and the number of matches.

        `most`: matches after which a cancel is sent.
        """
        identifier = b"".join(
            replay.element(tag, vr, value.encode()) for tag, (vr, value) in sorted((_RETURNED | keys).items())
        )
        message = replay.p_data(_find_rq(), 16384, command=True) + replay.p_data(identifier, 16384, command=False)
        began = time.perf_counter()
        self._connection.sendall(message)
        first, matches = 0.0, 0
        while True:
            status = self._status()
            first = first or time.perf_counter() - began
            if status not in _PENDING:
                return first * 1000, (time.perf_counter() - began) * 1000, matches
            matches += 1
            if matches == most:
                self._connection.sendall(replay.p_data(_cancel_rq(), 16384, command=True))

    def close(self) -> None:
        """Release the association."""
        with contextlib.suppress(OSError):
            self._connection.sendall(struct.pack(">BxL4x", 5, 4))
            self._pdu()
        self._connection.close()

    def _status(self) -> int:
        """Read on to the next command and give its Status; identifiers are passed over."""
        while True:
            while self._buffer:
                (length,) = struct.unpack_from(">L", self._buffer)
                value = bytes(self._buffer[4 : 4 + length])
                del self._buffer[: 4 + length]
                if value[1] & 1:
                    at = value.index(struct.pack("<HHL", 0, 0x0900, 2))
                    return int.from_bytes(value[at + 8 : at + 10], "little")
            kind, content = self._pdu()
            if kind != 4:
                raise RuntimeError(f"the association ended: PDU type {kind}")
            self._buffer += content

    def _pdu(self) -> tuple[int, bytes]:
        kind, length = struct.unpack(">BxL", self._exactly(6))
        return kind, self._exactly(length)

    def _exactly(self, count: int) -> bytes:
        content = b""
        while len(content) < count:
            chunk = self._connection.recv(count - len(content))
            # A receiver with Nagle on sends the rest of its answer only after this acknowledgement.
            self._connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
            if not chunk:
                raise ConnectionError("the receiver closed the connection")
            content += chunk
        return content


def _find_rq() -> bytes:
    elements = replay.command_element(0x0002, STUDY_ROOT_FIND.encode())
    elements += replay.command_element(0x0100, struct.pack("<H", 0x20)) + replay.command_element(0x0110, b"\1\0")
    elements += replay.command_element(0x0700, b"\0\0") + replay.command_element(0x0800, b"\1\0")
    return replay.command_element(0x0000, struct.pack("<L", len(elements))) + elements


def _cancel_rq() -> bytes:
    elements = replay.command_element(0x0100, struct.pack("<H", 0xFFF)) + replay.command_element(0x0120, b"\1\0")
    elements += replay.command_element(0x0800, struct.pack("<H", 0x101))
    return replay.command_element(0x0000, struct.pack("<L", len(elements))) + elements


def measure(name: str, listening: Listening, names: Names, *, studies: int, times: int) -> Iterator[str]:
    """Ask each question so many times, and give a line of the table for each."""
    asker = Asker(listening)
    for query in queries(names):
        asker.ask(query.keys(0), most=100)
        first, last, matches = [], [], 0
        for turn in range(times):
            began, ended, matches = asker.ask(query.keys((turn * 7919 + 13) % studies), most=100)
            first.append(began)
            last.append(ended)
        worst = sorted(first)[max(0, int(0.99 * len(first)) - 1)]
        yield (
            f"| {name} | {studies} | {query.name} | {statistics.median(first):.1f} | {worst:.1f} |"
            f" {statistics.median(last):.1f} | {matches if matches < 100 else '100, then cancelled'} |"
        )
    asker.close()


def send_studies(listening: Listening, count: int) -> None:
    """Send tiny instances, each a study of its own, over one association."""
    sender = replay.Replayer("tiny", 0, port=listening.port, called=listening.ae_title, run=0, association=0)
    sender.take(("tiny", number, 0, 1) for number in range(count))
    sender.gate.set()
    sender.run()
    if sender.failure is not None:
        raise sender.failure


def main() -> None:
    """Measure and print one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, nargs="*", default=[20_000, 100_000], help="of the node")
    parser.add_argument("--beside", type=int, default=2_000, help="studies for the node and Orthanc; 0 leaves it out")
    parser.add_argument("--times", type=int, default=100, help="of each question")
    given = parser.parse_args()
    print(f"{platform.machine()}, Python {platform.python_version()}; milliseconds on an open association\n")
    print("| receiver | studies | key | first p50 | first p99 | last p50 | matches |\n|---|---|---|---|---|---|---|")
    folder = Path(tempfile.mkdtemp(prefix="dicom-node-bench-"))
    try:
        for studies in given.studies:
            with node(
                folder / f"filled-{studies}",
                roles="receiver",
                prepare=lambda data, count=studies: fill(
                    data, instances=count * _PER_STUDY, per_series=_PER_STUDY, series=1
                ),
            ) as listening:
                for line in measure(NODE, listening, FILLED, studies=studies, times=given.times):
                    print(line, flush=True)
        for receiver in installed() if given.beside else ():
            if receiver.name not in (NODE, ORTHANC):
                continue
            with receiver.start(folder / receiver.name) as listening:
                send_studies(listening, given.beside)
                for line in measure(receiver.name, listening, SENT, studies=given.beside, times=given.times):
                    print(line, flush=True)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
