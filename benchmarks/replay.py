"""A C-STORE sender that costs next to nothing: it builds all PDUs first, then only sends them and waits for answers.

Run as a program it prints one line of JSON: seconds, and the latency of each answer in milliseconds.
"""

from __future__ import annotations

import argparse
import json
import secrets
import socket
import struct
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

CT, MR, CR = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.4", "1.2.840.10008.5.1.4.1.1.1"
EXPLICIT = "1.2.840.10008.1.2.1"
#: Kind → SOP Class, modality, rows, columns.
KINDS = {
    "ct": (CT, "CT", 512, 512),
    "mr": (MR, "MR", 256, 256),
    "cr": (CR, "CR", 3000, 2500),
    "tiny": (CT, "CT", 8, 8),
}


@dataclass(frozen=True)
class Sent:
    """What one run came to."""

    seconds: float
    bytes_sent: int
    latencies_ms: list[float]


def data_set(kind: str, *, run: int, association: int, number: int) -> tuple[str, bytes, bytes]:
    """Give the SOP Instance UID of a synthetic instance, its header, and its noisy pixels (shared by all)."""
    sop_class, modality, rows, columns = KINDS[kind]
    study = f"2.25.1{run:012d}{association:03d}"  # a component never begins with 0
    series, instance = f"{study}.1", f"{study}.1.{number}"
    values = [
        (0x00080008, b"CS", b"ORIGINAL\\PRIMARY\\AXIAL "),
        (0x00080016, b"UI", sop_class.encode()),
        (0x00080018, b"UI", instance.encode()),
        (0x00080020, b"DA", b"20260102"),
        (0x00080030, b"TM", b"101500"),
        (0x00080050, b"SH", f"ACC{run}{association}".encode()[:16]),
        (0x00080060, b"CS", modality.encode()),
        (0x00080070, b"LO", b"Bench Systems"),
        (0x00081030, b"LO", b"Test chest"),
        (0x0008103E, b"LO", b"Test series"),
        (0x00100010, b"PN", b"Bench^Ingest"),
        (0x00100020, b"LO", f"BENCH{run}{association}".encode()),
        (0x00100030, b"DA", b"19700101"),
        (0x00100040, b"CS", b"O"),
        (0x00180050, b"DS", b"1.25"),
        *((0x00181000 + each, b"LO", b"filler %d" % each) for each in range(30)),
        (0x0020000D, b"UI", study.encode()),
        (0x0020000E, b"UI", series.encode()),
        (0x00200010, b"SH", b"1"),
        (0x00200011, b"IS", b"1"),
        (0x00200013, b"IS", str(number).encode()),
        (0x00200032, b"DS", b"0\\0\\%d" % number),
        (0x00280002, b"US", struct.pack("<H", 1)),
        (0x00280004, b"CS", b"MONOCHROME2"),
        (0x00280010, b"US", struct.pack("<H", rows)),
        (0x00280011, b"US", struct.pack("<H", columns)),
        (0x00280100, b"US", struct.pack("<H", 16)),
        (0x00280101, b"US", struct.pack("<H", 12)),
        (0x00280102, b"US", struct.pack("<H", 11)),
        (0x00280103, b"US", struct.pack("<H", 0)),
    ]
    header = b"".join(element(tag, vr, value) for tag, vr, value in values)
    length = rows * columns * 2
    return instance, header + struct.pack("<HH2sHL", 0x7FE0, 0x10, b"OW", 0, length), _pixels(rows, columns)


def element(tag: int, vr: bytes, value: bytes) -> bytes:
    """Encode one element in Explicit VR Little Endian."""
    if len(value) % 2:
        value += b"\0" if vr == b"UI" else b" "
    return struct.pack("<HH2sH", tag >> 16, tag & 0xFFFF, vr, len(value)) + value


_noise: dict[tuple[int, int], bytes] = {}


def _pixels(rows: int, columns: int) -> bytes:
    if (rows, columns) not in _noise:
        chance = np.random.default_rng(1)
        _noise[rows, columns] = chance.integers(0, 4000, (rows, columns), dtype=np.uint16).tobytes()
    return _noise[rows, columns]


class Replayer(threading.Thread):
    """One association."""

    def __init__(self, kind: str, count: int, *, port: int, called: str, run: int, association: int) -> None:
        super().__init__()
        sop_class = KINDS[kind][0]
        self._connection = socket.create_connection(("127.0.0.1", port), timeout=120)
        self._connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._connection.sendall(associate_rq(sop_class, called))
        kind_of, content = self._read_pdu()
        if kind_of != 2:
            raise RuntimeError(f"the association was refused: PDU type {kind_of}")
        self._maximum = _maximum_length(content) or 1 << 17
        self.take((kind, run, association, number) for number in range(1, count + 1))
        self.latencies_ms: list[float] = []
        self.gate = threading.Event()
        self.ended = 0.0
        self.failure: BaseException | None = None

    def take(self, names: Iterable[tuple[str, int, int, int]]) -> None:
        """Build the messages of instances: kind, run, association and number of each."""
        self._messages = []
        for kind, run, association, number in names:
            instance, header, pixels = data_set(kind, run=run, association=association, number=number)
            command = _store_rq(KINDS[kind][0], instance, len(self._messages) % 65535 + 1)
            encoded = p_data(command, self._maximum, command=True)
            self._messages.append(encoded + p_data(header + pixels, self._maximum, command=False))
        self.bytes_sent = sum(map(len, self._messages))

    def run(self) -> None:
        self.gate.wait()
        try:
            self._send()
        except (OSError, RuntimeError) as error:
            self.failure = error
        self.ended = time.perf_counter()

    def _send(self) -> None:
        for message in self._messages:
            began = time.perf_counter()
            self._connection.sendall(message)
            kind, content = self._read_pdu()
            self.latencies_ms.append((time.perf_counter() - began) * 1000)
            if kind != 4 or struct.pack("<HHLH", 0, 0x0900, 2, 0) not in content:
                raise RuntimeError("an instance was not answered with Success")
        self.ended = time.perf_counter()
        self._connection.sendall(struct.pack(">BxL4x", 5, 4))
        self._read_pdu()
        self._connection.close()

    def _read_pdu(self) -> tuple[int, bytes]:
        header = self._exactly(6)
        # A receiver with Nagle on sends the rest of its answer only after this acknowledgement.
        self._connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
        kind, length = struct.unpack(">BxL", header)
        return kind, self._exactly(length)

    def _exactly(self, count: int) -> bytes:
        content = b""
        while len(content) < count:
            chunk = self._connection.recv(count - len(content))
            if not chunk:
                raise ConnectionError("the receiver closed the connection")
            content += chunk
        return content


def associate_rq(sop_class: str, called: str) -> bytes:
    """Encode a request for one context."""

    def item(kind: int, content: bytes) -> bytes:
        return struct.pack(">BxH", kind, len(content)) + content

    context = b"\x01\0\0\0" + item(0x30, sop_class.encode()) + item(0x40, EXPLICIT.encode())
    user = item(0x51, struct.pack(">L", 1 << 17)) + item(0x52, b"2.25.1")
    body = struct.pack(">HH", 1, 0) + called.encode().ljust(16) + b"REPLAY".ljust(16) + bytes(32)
    body += item(0x10, b"1.2.840.10008.3.1.1.1") + item(0x20, context) + item(0x50, user)
    return struct.pack(">BxL", 1, len(body)) + body


def _maximum_length(content: bytes) -> int:
    at = content.index(struct.pack(">BxH", 0x51, 4)) + 4
    return int(struct.unpack_from(">L", content, at)[0])


def command_element(number: int, value: bytes) -> bytes:
    """Encode one element of a command set."""
    value += b"\0" * (len(value) % 2)
    return struct.pack("<HHL", 0, number, len(value)) + value


def _store_rq(sop_class: str, instance: str, message_id: int) -> bytes:
    command = command_element(0x0002, sop_class.encode()) + command_element(0x0100, struct.pack("<H", 1))
    command += command_element(0x0110, struct.pack("<H", message_id)) + command_element(0x0700, b"\0\0")
    command += command_element(0x0800, b"\1\0") + command_element(0x1000, instance.encode())
    return command_element(0x0000, struct.pack("<L", len(command))) + command


def p_data(content: bytes, maximum: int, *, command: bool) -> bytes:
    """Encode a command or data set, cut to the maximum."""
    room, encoded = maximum - 6, []
    for begin in range(0, len(content), room):
        part = content[begin : begin + room]
        control = (1 if command else 0) | (2 if begin + room >= len(content) else 0)
        encoded.append(struct.pack(">BxLLBB", 4, len(part) + 6, len(part) + 2, 1, control) + part)
    return b"".join(encoded)


def send(kind: str, *, port: int, called: str, associations: int, count: int) -> Sent:
    """Send `count` instances spread over the associations, each association a study of its own."""
    run = secrets.randbelow(10**12)
    threads = [
        Replayer(kind, max(1, count // associations), port=port, called=called, run=run, association=each)
        for each in range(associations)
    ]
    for thread in threads:
        thread.start()
    began = time.perf_counter()
    for thread in threads:
        thread.gate.set()
    for thread in threads:
        thread.join()
    failures = [thread.failure for thread in threads if thread.failure is not None]
    if failures:
        raise RuntimeError(f"{len(failures)} associations failed; the first: {failures[0]}")
    latencies = [each for thread in threads for each in thread.latencies_ms]
    return Sent(max(thread.ended for thread in threads) - began, sum(t.bytes_sent for t in threads), latencies)


def main() -> None:
    """Send once."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--called", required=True)
    parser.add_argument("-a", "--associations", type=int, default=1)
    parser.add_argument("-n", "--count", type=int, default=100)
    arguments = parser.parse_args()
    sent = send(
        arguments.kind,
        port=arguments.port,
        called=arguments.called,
        associations=arguments.associations,
        count=arguments.count,
    )
    print(json.dumps({"seconds": sent.seconds, "bytes": sent.bytes_sent, "latencies_ms": sent.latencies_ms}))


if __name__ == "__main__":
    main()
