"""A modality written against the wire alone: it knows PDUs, and nothing of the node's own code for them."""

from __future__ import annotations

import contextlib
import hashlib
import random
import socket
import struct
from collections.abc import Sequence
from dataclasses import dataclass

from pydicom import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.uid import ExplicitVRLittleEndian

from tests.builders.ct import make_ct_instance
from tests.builders.dimse import CT_IMAGE_STORAGE, p_data, read_pdu, status_in, store_rq

_PDV = 16000
_RELEASE_RQ = struct.pack(">BxLL", 0x05, 4, 0)
_ABORT = struct.pack(">BxLL", 0x07, 4, 0)


class Gone(Exception):
    """The node ended the connection, or cannot be reached."""


class Rejected(Exception):
    """The node did not want the association."""


@dataclass(frozen=True)
class Made:
    """One instance, ready to be sent."""

    study_instance_uid: str
    sop_instance_uid: str
    data_set: bytes
    sop_class_uid: str = CT_IMAGE_STORAGE

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.data_set).hexdigest()


def bare(dataset: Dataset) -> bytes:
    """Encode a data set alone, in Explicit VR Little Endian, whatever it lacks."""
    buffer = DicomBytesIO()
    buffer.is_little_endian, buffer.is_implicit_VR = True, False
    write_dataset(buffer, dataset)
    return bytes(buffer.getvalue())


class Mill:
    """Makes small CT instances fast, no two alike; `name` keeps the UIDs of several mills apart."""

    _STUDY, _NUMBER = "1.2.826.0.1.3680043.8.498.77.1000000001", "1000000002"

    def __init__(self, name: int, *, seed: int) -> None:
        self._name = name
        self._chance = random.Random(f"{seed}/{name}")
        series = f"{self._STUDY}.1"
        made = make_ct_instance(
            StudyInstanceUID=self._STUDY, SeriesInstanceUID=series, SOPInstanceUID=f"{series}.{self._NUMBER}"
        )
        made.PixelData = b"PIXELS" * 85 + b"\0\0"
        self._template = bare(made)

    def make(self, study: int, number: int) -> Made:
        study_uid = self._STUDY[:-10] + f"{1_000_000_000 + self._name * 10_000_000 + study}"
        pixels = self._chance.randbytes(510)
        data_set = self._template.replace(self._STUDY.encode(), study_uid.encode())
        data_set = data_set.replace(f".1.{self._NUMBER}".encode(), f".1.{1_000_000_000 + number}".encode())
        data_set = data_set.replace(b"PIXELS" * 85, pixels)
        return Made(study_uid, f"{study_uid}.1.{1_000_000_000 + number}", data_set)


def associate_rq(calling: str, called: str, contexts: Sequence[tuple[str, str]]) -> bytes:
    """Encode an A-ASSOCIATE-RQ: (abstract syntax, transfer syntax) under the context IDs 1, 3, 5, …"""

    def item(kind: int, content: bytes) -> bytes:
        return struct.pack(">BxH", kind, len(content)) + content

    wishes = b"".join(
        item(0x20, bytes([2 * at + 1, 0, 0, 0]) + item(0x30, abstract.encode()) + item(0x40, syntax.encode()))
        for at, (abstract, syntax) in enumerate(contexts)
    )
    user = item(0x51, struct.pack(">L", 16384)) + item(0x52, b"1.2.3.4")
    body = struct.pack(">HH", 1, 0) + called.encode().ljust(16) + calling.encode().ljust(16) + bytes(32)
    body += item(0x10, b"1.2.840.10008.3.1.1.1") + wishes + item(0x50, user)
    return struct.pack(">BxL", 0x01, len(body)) + body


def store_message(made: Made, context_id: int = 1) -> bytes:
    """Encode a whole C-STORE request: command and data set."""
    command = store_rq(sop_class_uid=made.sop_class_uid, sop_instance_uid=made.sop_instance_uid)
    parts = [p_data(command, command=True, last=True, context_id=context_id)]
    for begin in range(0, max(len(made.data_set), 1), _PDV):
        chunk = made.data_set[begin : begin + _PDV]
        last = begin + _PDV >= len(made.data_set)
        parts.append(p_data(chunk, command=False, last=last, context_id=context_id))
    return b"".join(parts)


class Modality:
    """One association with the node."""

    def __init__(
        self,
        port: int,
        *,
        calling: str = "CT1",
        called: str = "DICOMNODE",
        contexts: Sequence[tuple[str, str]] = ((CT_IMAGE_STORAGE, str(ExplicitVRLittleEndian)),),
        timeout_s: float = 60.0,
    ) -> None:
        try:
            self.socket = socket.create_connection(("127.0.0.1", port), timeout=timeout_s)
        except OSError as error:
            raise Gone from error
        try:
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.send(associate_rq(calling, called, contexts))
            kind, _ = self.read()
            if kind != 0x02:
                raise Rejected(kind)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Modality:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def send(self, encoded: bytes) -> None:
        try:
            self.socket.sendall(encoded)
        except OSError as error:
            raise Gone from error

    def read(self) -> tuple[int, bytes]:
        try:
            kind, content = read_pdu(self.socket)
        except OSError as error:
            raise Gone from error
        if kind == 0:
            raise Gone
        return kind, content

    def store(self, made: Made, context_id: int = 1) -> int:
        """Send one instance; give the Status."""
        self.send(store_message(made, context_id))
        kind, content = self.read()
        if kind != 0x04:
            raise Gone
        return status_in(content)

    def release(self) -> None:
        with contextlib.suppress(Gone):
            self.send(_RELEASE_RQ)
            self.read()
        self.close()

    def abort(self) -> None:
        with contextlib.suppress(Gone):
            self.send(_ABORT)
        self.close()

    def reset(self) -> None:
        """End the connection with a TCP reset."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close()

    def half_close(self) -> None:
        """Say that nothing more comes, and go on listening."""
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        self.socket.close()
