"""Parts for tests that talk DIMSE: receivers that are up, doors and rows that remember, raw PDUs."""

from __future__ import annotations

import contextlib
import io
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from pydicom import Dataset
from pydicom.uid import ExplicitVRLittleEndian
from pynetdicom import build_context
from pynetdicom.association import Association

from configs.peers import Peer
from configs.settings import DimseSettings
from dicom_node.network import application_entity
from dicom_node.scp.receiver import Receiver
from dicom_node.scp.services import ScpService
from dicom_node.scu.store import Outgoing
from storage.records import InstanceRole, Kept, Origin, Outcome
from tests.builders.ct import encode

CT_IMAGE_STORAGE = "1.2.840.10008.5.1.4.1.1.2"
VERIFICATION = "1.2.840.10008.1.1"
EXPLICIT, IMPLICIT = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2"


def a_peer(**settings: Any) -> Peer:
    """Make a peer; unless told otherwise, anyone on this machine, as the shipped list has it."""
    return Peer.model_validate({"ae_title": "*", "from": ["127.0.0.0/8", "::1"]} | settings)


def to_send(dataset: Dataset, transfer_syntax_uid: str = ExplicitVRLittleEndian) -> Outgoing:
    """Make an instance ready to be sent."""
    encoded = encode(dataset, transfer_syntax_uid)
    names = (str(dataset.SOPInstanceUID), str(dataset.SOPClassUID), str(transfer_syntax_uid))
    return Outgoing(*names, open=lambda: io.BytesIO(encoded))


@dataclass
class Arrived:
    """One instance that the door took."""

    origin: Origin
    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    data_set: bytes = b""


@dataclass
class RememberingDoor:
    """Stands in for the intake: keeps in memory, or fails as told."""

    kept: list[Arrived] = field(default_factory=list)
    failure: Exception | None = None
    """Of keeping."""
    write_failure: Exception | None = None
    open_failure: Exception | None = None
    left: int = 0
    """Instances that were let go of, kept or not."""
    hold: threading.Event | None = None
    """Where set: keeping waits for it."""
    entered: threading.Event = field(default_factory=threading.Event)
    entries: int = 0
    """Instances that were to be kept."""

    def open(
        self, origin: Origin, sop_class_uid: str, sop_instance_uid: str, transfer_syntax_uid: str
    ) -> _RememberedInstance:
        if self.open_failure is not None:
            raise self.open_failure
        return _RememberedInstance(self, Arrived(origin, sop_class_uid, sop_instance_uid, transfer_syntax_uid))


@dataclass
class _RememberedInstance:
    door: RememberingDoor
    arrived: Arrived

    def forget(self) -> None:
        self.door.left += 1

    def write(self, view: bytes | memoryview) -> None:
        if self.door.write_failure is not None:
            raise self.door.write_failure
        self.arrived.data_set += bytes(view)

    def keep(self) -> Kept:
        self.door.entries += 1
        self.door.entered.set()
        if self.door.hold is not None:
            self.door.hold.wait(10)
        if self.door.failure is not None:
            raise self.door.failure
        self.door.kept.append(self.arrived)
        name = self.arrived.sop_instance_uid
        return Kept(Outcome.KEPT, InstanceRole.INPUT, "1.1", "1.2", name, f"{name}.dcm", "0" * 64)


@dataclass
class RememberingRows:
    """Stands in for storage's rows of associations."""

    open_rows: dict[str, Origin] = field(default_factory=dict)
    ends: dict[str, str] = field(default_factory=dict)
    traffic_of: list[str] = field(default_factory=list)
    refusals: list[tuple[str, str, str, str]] = field(default_factory=list)
    lost_receivers: list[str] = field(default_factory=list)
    failure: Exception | None = None

    def opened(self, association_id: str, _receiver: str, origin: Origin, _at: datetime) -> None:
        self._fail()
        self.open_rows[association_id] = origin

    def traffic(self, association_ids: Iterable[str], _at: datetime) -> None:
        self._fail()
        self.traffic_of.extend(association_ids)

    def closed(self, association_id: str, end: str, _at: datetime) -> None:
        self._fail()
        self.ends[association_id] = end

    def lost(self, receiver: str, _at: datetime) -> None:
        self._fail()
        self.lost_receivers.append(receiver)

    def refused(self, calling: str, called: str, host: str, reason: str, _at: datetime) -> None:
        self._fail()
        self.refusals.append((calling, called, host, reason))

    def _fail(self) -> None:
        if self.failure is not None:
            raise self.failure


@dataclass
class Listening:
    """A receiver that is up, with stand-ins for storage."""

    receiver: Receiver
    door: RememberingDoor
    rows: RememberingRows

    @property
    def port(self) -> int:
        return self.receiver.port

    @property
    def as_peer(self) -> Peer:
        """The node, as a peer of it sees it."""
        return Peer(ae_title="DICOMNODE", host="127.0.0.1", port=self.port)


@contextlib.contextmanager
def listening(
    *,
    peers: Mapping[str, Peer] | None = None,
    door: Any = None,
    rows: Any = None,
    services: Sequence[ScpService] = (),
    **settings: Any,
) -> Iterator[Listening]:
    """Start a receiver on a free port of this machine, and stop it."""
    door, rows = door or RememberingDoor(), rows or RememberingRows()
    receiver = Receiver(
        DimseSettings(port=0, **settings),
        peers={"loopback": a_peer()} if peers is None else peers,
        intake=door,
        associations=rows,
        services=services,
    )
    receiver.start()
    try:
        yield Listening(receiver, door, rows)
    finally:
        receiver.stop()


@contextlib.contextmanager
def associated(
    port: int, contexts: Iterable[tuple[str, list[str]]], *, calling: str = "CT1", called: str = "DICOMNODE"
) -> Iterator[Association]:
    """Have an association with whoever listens there, by pynetdicom alone."""
    entity = application_entity(calling)
    entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = 10
    wishes = [build_context(sop_class, syntaxes) for sop_class, syntaxes in contexts]
    association = entity.associate("127.0.0.1", port, contexts=wishes, ae_title=called)
    try:
        yield association
    finally:
        if association.is_established:
            association.release()


@contextlib.contextmanager
def raw_connection(port: int) -> Iterator[socket.socket]:
    """Have a plain TCP connection to whoever listens there."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        yield connection


def item(kind: int, content: bytes) -> bytes:
    """Encode an item of an association PDU."""
    return struct.pack(">BxH", kind, len(content)) + content


def associate_rq(
    *,
    calling: str = "CT1",
    called: str = "DICOMNODE",
    abstract_syntax: str = CT_IMAGE_STORAGE,
    contexts: Mapping[int, tuple[str, list[str]]] | None = None,
    version: int = 1,
    application_context: bytes = b"1.2.840.10008.3.1.1.1",
    maximum_length: int = 16384,
    more: bytes = b"",
) -> bytes:
    """Encode an A-ASSOCIATE-RQ; unless told otherwise for one context (ID 1, Explicit VR Little Endian).

    `more`: further user information items.
    """
    body = struct.pack(">HH", version, 0) + called.encode().ljust(16) + calling.encode().ljust(16) + bytes(32)
    body += item(0x10, application_context)
    for context_id, (syntax, offered) in (contexts or {1: (abstract_syntax, [EXPLICIT])}).items():
        names = item(0x30, syntax.encode()) + b"".join(item(0x40, each.encode()) for each in offered)
        body += item(0x20, bytes((context_id, 0, 0, 0)) + names)
    body += item(0x50, item(0x51, struct.pack(">L", maximum_length)) + item(0x52, b"1.2.3.4") + more)
    return struct.pack(">BxL", 0x01, len(body)) + body


def pdv(content: bytes, *, command: bool, last: bool, context_id: int = 1) -> bytes:
    """Encode one PDV."""
    return struct.pack(">LBB", len(content) + 2, context_id, (1 if command else 0) | (2 if last else 0)) + content


def p_data_of(*pdvs: bytes) -> bytes:
    """Encode a P-DATA-TF of several PDVs."""
    content = b"".join(pdvs)
    return struct.pack(">BxL", 0x04, len(content)) + content


def p_data(content: bytes, *, command: bool, last: bool, context_id: int = 1) -> bytes:
    """Encode a P-DATA-TF with one PDV."""
    return p_data_of(pdv(content, command=command, last=last, context_id=context_id))


def command_set(*, field: int, **elements: int | str) -> bytes:
    """Encode a command set: `field`, and elements by number such as `e0110=7`; numbers as US, texts as UI."""
    values = {0x0100: struct.pack("<H", field)}
    for name, value in elements.items():
        coded = struct.pack("<H", value) if isinstance(value, int) else value.encode() + b"\0" * (len(value) % 2)
        values[int(name[1:], 16)] = coded
    command = b"".join(struct.pack("<HHL", 0, each, len(values[each])) + values[each] for each in sorted(values))
    return struct.pack("<HHLL", 0, 0, 4, len(command)) + command


def store_rq(
    *,
    sop_class_uid: str = CT_IMAGE_STORAGE,
    sop_instance_uid: str | None = "1.2.3",
    message_id: int = 7,
    data_set: bool = True,
) -> bytes:
    """Encode the command set of a C-STORE-RQ."""
    names = {"e0002": sop_class_uid} | ({"e1000": sop_instance_uid} if sop_instance_uid is not None else {})
    return command_set(field=0x0001, e0110=message_id, e0700=0, e0800=1 if data_set else 0x0101, **names)


def read_pdu(connection: socket.socket) -> tuple[int, bytes]:
    """Read one PDU: its type and its content; (0, b"") at the end of the connection."""

    def exactly(count: int) -> bytes:
        taken = b""
        while len(taken) < count:
            try:
                chunk = connection.recv(count - len(taken))
            except ConnectionResetError:
                return b""
            if not chunk:
                return b""
            taken += chunk
        return taken

    header = exactly(6)
    if not header:
        return 0, b""
    kind, length = struct.unpack(">BxL", header)
    return kind, exactly(length)


def status_in(content: bytes) -> int:
    """Read the DIMSE Status out of the content of a P-DATA-TF."""
    at = content.index(struct.pack("<HHL", 0, 0x0900, 2))
    return int.from_bytes(content[at + 8 : at + 10], "little")


def await_that(look: Callable[[], object], *, within_s: float = 5.0) -> None:
    """Wait until something holds."""
    deadline = time.monotonic() + within_s
    while not look():
        assert time.monotonic() < deadline, "it did not come to hold in time"
        time.sleep(0.01)
