"""The floor: what receiving costs at least on this machine. Reads, writes and syncs each data set, and answers.

No checks, no index, no digest, one file after the other in one folder. It is what rates are compared with, no server.
"""

from __future__ import annotations

import argparse
import os
import socket
import struct
import threading
from pathlib import Path

_BUFFER = 1 << 20


def main() -> None:
    """Serve until killed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("port", type=int)
    parser.add_argument("folder", type=Path)
    arguments = parser.parse_args()
    with socket.create_server(("127.0.0.1", arguments.port), backlog=128) as listening:
        while True:
            connection, _ = listening.accept()
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=_serve, args=(connection, arguments.folder), daemon=True).start()


class _Reader:
    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.buffer = memoryview(bytearray(_BUFFER))
        self.begin = self.end = 0

    def exactly(self, count: int) -> bytes:
        while self.end - self.begin < count:
            left = self.end - self.begin
            self.buffer[:left] = self.buffer[self.begin : self.end]
            self.begin, self.end = 0, left
            self._receive()
        self.begin += count
        return bytes(self.buffer[self.begin - count : self.begin])

    def copy(self, count: int, descriptor: int) -> None:
        while count:
            if self.begin == self.end:
                self.begin = self.end = 0
                self._receive()
            part = min(count, self.end - self.begin)
            os.write(descriptor, self.buffer[self.begin : self.begin + part])
            self.begin += part
            count -= part

    def _receive(self) -> None:
        received = self.connection.recv_into(self.buffer[self.end :])
        if not received:
            raise ConnectionError
        self.end += received


def _serve(connection: socket.socket, folder: Path) -> None:
    reader = _Reader(connection)
    try:
        with connection:
            kind, length = struct.unpack(">BxL", reader.exactly(6))
            connection.sendall(_associate_ac(reader.exactly(length)))
            number = 0
            while True:
                kind, length = struct.unpack(">BxL", reader.exactly(6))
                if kind != 4:
                    reader.exactly(length)
                    connection.sendall(struct.pack(">BxL4x", 6, 4))
                    continue
                command = reader.exactly(length)
                number += 1
                _keep(reader, folder / f"{threading.get_ident()}-{number}")
                connection.sendall(_store_rsp(command))
    except OSError:
        return


def _keep(reader: _Reader, path: Path) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
    last = False
    while not last:
        _, length = struct.unpack(">BxL", reader.exactly(6))
        _, _, control = struct.unpack(">LBB", reader.exactly(6))
        reader.copy(length - 6, descriptor)
        last = bool(control & 2)
    os.fdatasync(descriptor)
    os.close(descriptor)


def _associate_ac(request: bytes) -> bytes:
    def item(kind: int, content: bytes) -> bytes:
        return struct.pack(">BxH", kind, len(content)) + content

    body = request[:68] + item(0x10, b"1.2.840.10008.3.1.1.1")
    body += item(0x21, b"\x01\0\0\0" + item(0x40, b"1.2.840.10008.1.2.1"))
    body += item(0x50, item(0x51, struct.pack(">L", 1 << 17)) + item(0x52, b"2.25.1"))
    return struct.pack(">BxL", 2, len(body)) + body


def _store_rsp(pdv: bytes) -> bytes:
    """Answer Success; the request stands behind a PDV header of six bytes."""
    values, position, command = {}, 0, pdv[6:]
    while position < len(command):
        _, element, length = struct.unpack_from("<HHL", command, position)
        values[element] = command[position + 8 : position + 8 + length]
        position += 8 + length

    def element_of(number: int, value: bytes) -> bytes:
        return struct.pack("<HHL", 0, number, len(value)) + value

    answer = element_of(0x0002, values[0x0002]) + element_of(0x0100, b"\x01\x80")
    answer += element_of(0x0120, values[0x0110]) + element_of(0x0800, b"\x01\x01") + element_of(0x0900, b"\0\0")
    answer += element_of(0x1000, values[0x1000])
    answer = element_of(0x0000, struct.pack("<L", len(answer))) + answer
    return struct.pack(">BxLLBB", 4, len(answer) + 6, len(answer) + 2, pdv[4], 3) + answer


if __name__ == "__main__":
    main()
