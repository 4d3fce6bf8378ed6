"""Sending over our own association: to peers that are slow, hostile, or say no."""

from __future__ import annotations

import io
import socket
import struct
import threading
import time
import tracemalloc
from collections.abc import Callable
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
from pynetdicom import AE, evt
from pynetdicom.events import Event

from configs.peers import Peer
from dicom_node.errors import AssociationRejected, ContextRefused, PeerUnreachable
from dicom_node.scu.association import Timeouts
from dicom_node.scu.store import MOST_CONTEXTS, Outgoing, batches, send
from dicom_node.scu.transcoding import NativeTranscoder
from storage.errors import UnreadableInstance
from tests.builders.ct import encode, make_ct_instance, make_ct_series
from tests.builders.dimse import CT_IMAGE_STORAGE, EXPLICIT, IMPLICIT, read_pdu, to_send

QUICK = Timeouts(connect_s=2, associate_s=1, answer_s=1)


@contextmanager
def storing(*, syntaxes: tuple[str, ...] = (EXPLICIT,), maximum_pdu: int = 16384, answer: int = 0, title: str = "DEST"):
    """Start a storage SCP by pynetdicom; give it as a peer, and what arrives."""
    arrived: list[bytes] = []

    def on_store(event: Event) -> int:
        arrived.append(event.encoded_dataset(include_meta=False))
        return answer

    entity = AE(ae_title="DEST")
    entity.maximum_pdu_size = maximum_pdu
    entity.require_called_aet = True
    entity.add_supported_context(CT_IMAGE_STORAGE, list(syntaxes))
    server = entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, on_store)])
    try:
        yield Peer(ae_title=title, host="127.0.0.1", port=server.server_address[1]), arrived
    finally:
        server.shutdown()


@contextmanager
def behaving(behave: Callable[[socket.socket], None]):
    """Start a peer that does as told with one connection."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            try:
                connection, _ = listener.accept()
                with connection:
                    behave(connection)
            except OSError:
                return

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield Peer(ae_title="DEST", host="127.0.0.1", port=listener.getsockname()[1])
        listener.close()
        thread.join(10)


def sent(peer: Peer, items: list[Outgoing], **how: object) -> list[int]:
    """Send, and give the Statuses."""
    statuses: list[int] = []
    send(
        peer,
        calling_ae_title="DICOMNODE",
        items=items,
        on_status=lambda _, status: statuses.append(status),
        timeouts=QUICK,
        **how,  # type: ignore[arg-type]
    )
    return statuses


@pytest.mark.parametrize("maximum_pdu", [0, 4096, 16384, 1 << 20])
def test_instances_arrive_as_they_are_kept_whatever_the_peer_s_maximum(maximum_pdu: int) -> None:
    items = [to_send(dataset) for dataset in make_ct_series(3)]
    with storing(maximum_pdu=maximum_pdu) as (peer, arrived):
        assert sent(peer, items) == [0, 0, 0]
    assert arrived == [item.open().read()[-len(content) :] for item, content in zip(items, arrived, strict=True)]
    assert len(arrived) == 3


def test_the_other_uncompressed_syntax_is_used_where_it_alone_is_accepted() -> None:
    with storing(syntaxes=(IMPLICIT,)) as (peer, arrived):
        assert sent(peer, [to_send(make_ct_instance())]) == [0]
    assert arrived[0] == to_send(make_ct_instance(), IMPLICIT).open().read()[-len(arrived[0]) :]


def test_a_rejection_says_its_reason() -> None:
    with storing(title="OTHER") as (peer, _), pytest.raises(AssociationRejected) as raised:
        sent(peer, [to_send(make_ct_instance())])
    assert (raised.value.result, raised.value.source, raised.value.reason) == (1, 1, 7)
    assert "called AE title not recognized" in str(raised.value)


def test_a_class_that_the_peer_does_not_take_is_refused_by_name() -> None:
    mr = to_send(make_ct_instance(SOPClassUID="1.2.840.10008.5.1.4.1.1.4"))
    with storing() as (peer, _):
        with pytest.raises(ContextRefused):
            sent(peer, [mr])
        refused: list[Outgoing] = []
        statuses = sent(peer, [mr, to_send(make_ct_instance(2))], on_refused=lambda item, _: refused.append(item))
    assert (statuses, refused) == ([0], [mr])


def test_what_the_callback_raises_ends_the_sending() -> None:
    class Enough(Exception):
        pass

    def on_status(_: Outgoing, __: int) -> None:
        raise Enough

    items = [to_send(dataset) for dataset in make_ct_series(3)]
    with storing() as (peer, arrived), pytest.raises(Enough):
        send(peer, calling_ae_title="DICOMNODE", items=items, on_status=on_status, timeouts=QUICK)
    assert len(arrived) == 1


def test_sending_stops_in_good_order() -> None:
    items = [to_send(dataset) for dataset in make_ct_series(3)]
    with storing() as (peer, arrived):
        assert sent(peer, items, stop=lambda: len(arrived) == 2) == [0, 0]


def test_memory_stays_flat_whatever_is_sent(tmp_path: Path) -> None:
    """Sixty instances of 2 MB from files: what Python allocates at its peak is less than one of them."""
    file = tmp_path / "instance.dcm"
    file.write_bytes(encode(make_ct_instance(Rows=1024, Columns=1024, PixelData=bytes(1024 * 1024 * 2))))
    items = [
        Outgoing(f"1.2.{number}", CT_IMAGE_STORAGE, EXPLICIT, open=partial(file.open, "rb")) for number in range(60)
    ]
    with behaving(taking_all) as peer:
        tracemalloc.start()
        statuses = sent(peer, items)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert statuses == [0] * 60
    assert peak < 1_500_000


def test_more_classes_than_contexts_are_spread_over_associations() -> None:
    items = [Outgoing(f"1.2.{n}", f"1.3.{n}", EXPLICIT, open=io.BytesIO) for n in range(150)]
    cut = list(batches(items, NativeTranscoder()))
    assert [item for batch in cut for item in batch] == items
    assert all(2 * len(batch) <= MOST_CONTEXTS for batch in cut)
    assert len(cut) == 3


def test_a_file_that_is_none_is_said() -> None:
    broken = Outgoing("1.2.3", CT_IMAGE_STORAGE, EXPLICIT, open=lambda: io.BytesIO(b"nothing"))
    with storing() as (peer, _), pytest.raises(UnreadableInstance):
        sent(peer, [broken])


def test_nobody_there_is_unreachable() -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        peer = Peer(ae_title="DEST", host="127.0.0.1", port=nobody.getsockname()[1])
        with pytest.raises(PeerUnreachable):
            sent(peer, [to_send(make_ct_instance())])


def accept(connection: socket.socket) -> None:
    """Answer an association request: context 1 in Explicit VR Little Endian."""
    read_pdu(connection)

    def item(kind: int, content: bytes) -> bytes:
        return struct.pack(">BxH", kind, len(content)) + content

    context = b"\x01\0\0\0" + item(0x40, EXPLICIT.encode())
    user = item(0x51, struct.pack(">L", 16384)) + item(0x52, b"1.2.3.4")
    body = struct.pack(">HH", 1, 0) + b"DEST".ljust(16) + b"DICOMNODE".ljust(16) + bytes(32)
    body += item(0x10, b"1.2.840.10008.3.1.1.1") + item(0x21, context) + item(0x50, user)
    connection.sendall(struct.pack(">BxL", 2, len(body)) + body)


def taking_all(connection: socket.socket) -> None:
    """Answer each request with Success, reading into one buffer."""
    accept(connection)
    buffer, message_id = bytearray(1 << 17), 0
    with connection.makefile("rb") as stream:
        while header := stream.read(6):
            kind, length = struct.unpack(">BxL", header)
            stream.readinto(memoryview(buffer)[:length])
            if kind != 4:
                connection.sendall(struct.pack(">BxLL", 6, 4, 0))
                return
            if buffer[5] == 0x02:  # the last fragment of a data set
                message_id += 1
                elements = struct.pack("<HHLH", 0, 0x0120, 2, message_id) + struct.pack("<HHLH", 0, 0x0900, 2, 0)
                connection.sendall(struct.pack(">BxLLBB", 4, len(elements) + 6, len(elements) + 2, 1, 3) + elements)


def silent(connection: socket.socket) -> None:
    connection.settimeout(5)
    while connection.recv(1 << 16):
        pass


def huge_accept(connection: socket.socket) -> None:
    read_pdu(connection)
    connection.sendall(struct.pack(">BxL", 2, 0xFFFFFFFF) + bytes(1000))
    silent(connection)


def garbage_accept(connection: socket.socket) -> None:
    read_pdu(connection)
    connection.sendall(struct.pack(">BxL", 2, 100) + b"\x7f" * 100)
    silent(connection)


def dripping_accept(connection: socket.socket) -> None:
    read_pdu(connection)
    for byte in struct.pack(">BxL", 2, 100) + bytes(100):
        connection.sendall(bytes([byte]))
        time.sleep(0.2)


def huge_answer(connection: socket.socket) -> None:
    accept(connection)
    read_pdu(connection)
    connection.sendall(struct.pack(">BxL", 4, 0x7FFFFFFF))
    silent(connection)


def lying_answer(connection: socket.socket) -> None:
    accept(connection)
    read_pdu(connection)
    connection.sendall(struct.pack(">BxLLBB", 4, 10, 0xFFFF, 1, 3) + bytes(4))
    silent(connection)


def aborting(connection: socket.socket) -> None:
    accept(connection)
    read_pdu(connection)
    connection.sendall(struct.pack(">BxLL", 7, 4, 0))


def answering_another(connection: socket.socket) -> None:
    accept(connection)
    read_pdu(connection)
    elements = struct.pack("<HHLH", 0, 0x0120, 2, 99) + struct.pack("<HHLH", 0, 0x0900, 2, 0)
    connection.sendall(struct.pack(">BxLLBB", 4, len(elements) + 6, len(elements) + 2, 1, 3) + elements)
    silent(connection)


def not_answering(connection: socket.socket) -> None:
    accept(connection)
    silent(connection)


@pytest.mark.parametrize(
    "behave",
    [
        silent,
        huge_accept,
        garbage_accept,
        dripping_accept,
        huge_answer,
        lying_answer,
        aborting,
        answering_another,
        not_answering,
    ],
)
def test_a_peer_that_misbehaves_is_unreachable_soon(behave: Callable[[socket.socket], None]) -> None:
    began = time.monotonic()
    with behaving(behave) as peer, pytest.raises(PeerUnreachable):
        sent(peer, [to_send(make_ct_instance())])
    assert time.monotonic() - began < 9
