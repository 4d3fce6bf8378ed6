"""Receivers that answer wrongly: storage SCPs by pynetdicom, and peers that break the protocol on a raw socket."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from pydicom.uid import UID
from pynetdicom import AE, AllStoragePresentationContexts, evt
from pynetdicom.events import Event

from tests.builders.dimse import read_pdu

EXPLICIT = "1.2.840.10008.1.2.1"
Behave = Callable[[socket.socket], None]


@dataclass
class Receiver:
    """What a fake was sent."""

    port: int = 0
    received: list[str] = field(default_factory=list)
    """SOP Instance UIDs, in order, whatever was answered."""


@contextlib.contextmanager
def answering(answer: Callable[[str], int], *, without: Sequence[str] = ()) -> Iterator[Receiver]:
    """Start a storage SCP by pynetdicom that answers as told, by SOP Class.

    `without`: SOP Classes whose contexts it rejects.
    """
    fake = Receiver()

    def on_store(event: Event) -> int:
        fake.received.append(str(event.request.AffectedSOPInstanceUID))
        return answer(str(event.request.AffectedSOPClassUID))

    entity = AE(ae_title="PACS")
    entity.supported_contexts = [
        context for context in AllStoragePresentationContexts if str(context.abstract_syntax) not in without
    ]
    for uid in ("1.2.840.10008.5.1.4.1.1.66.7",):
        if uid not in without:
            entity.add_supported_context(UID(uid))
    server = entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, on_store)])
    fake.port = int(server.server_address[1])
    try:
        yield fake
    finally:
        server.shutdown()


@contextlib.contextmanager
def behaving(behave: Behave) -> Iterator[Receiver]:
    """Start a peer that does as told with each connection."""
    fake = Receiver()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        fake.port = listener.getsockname()[1]

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    with contextlib.suppress(OSError), connection:
                        behave(connection)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield fake
        with contextlib.suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
    thread.join(15)


def accept_all(connection: socket.socket) -> None:
    """Answer an association request: every context in its first transfer syntax."""
    _, body = read_pdu(connection)
    items, position = [], body.index(b"1.2.840.10008.3.1.1.1") + len("1.2.840.10008.3.1.1.1")
    while position + 4 <= len(body):
        kind, length = struct.unpack_from(">BxH", body, position)
        if kind == 0x20:
            items.append((body[position + 4], _first_syntax(body[position + 4 : position + 4 + length])))
        position += 4 + length
    contexts = b"".join(_item(0x21, bytes([number, 0, 0, 0]) + _item(0x40, syntax)) for number, syntax in items)
    user = _item(0x51, struct.pack(">L", 16384)) + _item(0x52, b"1.2.3.4")
    answer = struct.pack(">HH", 1, 0) + b"PACS".ljust(16) + b"DICOMNODE".ljust(16) + bytes(32)
    answer += _item(0x10, b"1.2.840.10008.3.1.1.1") + contexts + _item(0x50, user)
    connection.sendall(struct.pack(">BxL", 2, len(answer)) + answer)


def _first_syntax(context: bytes) -> bytes:
    position = 4
    while position + 4 <= len(context):
        kind, length = struct.unpack_from(">BxH", context, position)
        if kind == 0x40:
            return context[position + 4 : position + 4 + length]
        position += 4 + length
    return EXPLICIT.encode()


def _item(kind: int, content: bytes) -> bytes:
    return struct.pack(">BxH", kind, len(content)) + content


def silent(connection: socket.socket) -> None:
    """Accept, read on, and never answer."""
    accept_all(connection)
    connection.settimeout(10)
    while connection.recv(1 << 16):
        pass


def stalled(connection: socket.socket) -> None:
    """Accept, and read nothing more: TCP comes to a stand."""
    accept_all(connection)
    time.sleep(8)


def sipping(connection: socket.socket) -> None:
    """Accept, and read a little now and then."""
    accept_all(connection)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    while connection.recv(256):
        time.sleep(0.05)


def dripping(connection: socket.socket) -> None:
    """Accept, and answer a byte now and then."""
    accept_all(connection)
    for byte in struct.pack(">BxL", 4, 1000) + bytes(1000):
        connection.sendall(bytes([byte]))
        time.sleep(0.1)


def aborting(connection: socket.socket) -> None:
    """Accept, and abort in the middle of the first message."""
    accept_all(connection)
    read_pdu(connection)
    connection.sendall(struct.pack(">BxLL", 7, 4, 0))


def resetting(connection: socket.socket) -> None:
    """Accept, and reset the connection."""
    accept_all(connection)
    read_pdu(connection)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def naming_another(connection: socket.socket) -> None:
    """Answer the first request with Success for another instance."""
    accept_all(connection)
    kind, content = read_pdu(connection)
    while kind and content[5] != 0x02:  # to the last fragment of the data set
        kind, content = read_pdu(connection)
    name = b"9.9.9.9\0"
    elements = struct.pack("<HHLH", 0, 0x0120, 2, 1) + struct.pack("<HHLH", 0, 0x0900, 2, 0)
    elements += struct.pack("<HHL", 0, 0x1000, len(name)) + name
    connection.sendall(struct.pack(">BxLLBB", 4, len(elements) + 6, len(elements) + 2, 1, 3) + elements)
    silent_rest(connection)


def silent_rest(connection: socket.socket) -> None:
    """Read what still comes."""
    connection.settimeout(5)
    while connection.recv(1 << 16):
        pass
