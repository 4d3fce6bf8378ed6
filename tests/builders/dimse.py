"""Parts and data for tests that talk DIMSE: a door that remembers, rows that remember, small instances."""

from __future__ import annotations

import contextlib
import io
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from pydicom import Dataset, dcmwrite
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid
from storage.records import InstanceRole, Kept, Origin, Outcome

from configs.peers import Peer
from configs.settings import DimseSettings
from dicom_node.scp.receiver import Receiver
from dicom_node.scu.store import Outgoing

CT_IMAGE_STORAGE = "1.2.840.10008.5.1.4.1.1.2"
#: Anyone on this machine, as the shipped peer list has it.
LOOPBACK = Peer.model_validate({"ae_title": "*", "from": ["127.0.0.0/8", "::1"], "accept": ["echo", "store"]})


def make_instance(**overrides: Any) -> Dataset:
    """Make a small CT image of a synthetic patient."""
    dataset = Dataset()
    dataset.SOPClassUID = CT_IMAGE_STORAGE
    dataset.SOPInstanceUID = generate_uid()
    dataset.StudyInstanceUID = generate_uid()
    dataset.SeriesInstanceUID = generate_uid()
    dataset.PatientName = "Test^Quiet"
    dataset.PatientID = "TEST-1"
    dataset.Modality = "CT"
    dataset.Rows = dataset.Columns = 32
    dataset.BitsAllocated = dataset.BitsStored = 16
    dataset.HighBit = 15
    dataset.PixelRepresentation = 0
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.PixelData = bytes(range(256)) * 8
    for name, value in overrides.items():
        setattr(dataset, name, value)
    return dataset


def part10(dataset: Dataset, transfer_syntax_uid: str = ExplicitVRLittleEndian) -> bytes:
    """Encode as a DICOM file."""
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = transfer_syntax_uid
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    stream = io.BytesIO()
    dcmwrite(stream, dataset, enforce_file_format=True)
    return stream.getvalue()


def to_send(dataset: Dataset, transfer_syntax_uid: str = ExplicitVRLittleEndian) -> Outgoing:
    """Make an instance ready to be sent."""
    encoded = part10(dataset, transfer_syntax_uid)
    return Outgoing(
        str(dataset.SOPInstanceUID),
        str(dataset.SOPClassUID),
        str(transfer_syntax_uid),
        open=lambda: io.BytesIO(encoded),
    )


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
    hold: threading.Event | None = None
    """Where set: keeping waits for it."""
    entered: threading.Event = field(default_factory=threading.Event)

    @contextlib.contextmanager
    def open(
        self, origin: Origin, sop_class_uid: str, sop_instance_uid: str, transfer_syntax_uid: str
    ) -> Iterator[_RememberedInstance]:
        yield _RememberedInstance(self, Arrived(origin, sop_class_uid, sop_instance_uid, transfer_syntax_uid))


@dataclass
class _RememberedInstance:
    door: RememberingDoor
    arrived: Arrived

    def write(self, view: bytes | memoryview) -> None:
        self.arrived.data_set += bytes(view)

    def keep(self) -> Kept:
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

    def opened(self, association_id: str, receiver: str, origin: Origin, at: datetime) -> None:
        self._fail()
        self.open_rows[association_id] = origin

    def traffic(self, association_ids: Iterable[str], at: datetime) -> None:
        self._fail()
        self.traffic_of.extend(association_ids)

    def closed(self, association_id: str, end: str, at: datetime) -> None:
        self._fail()
        self.ends[association_id] = end

    def lost(self, receiver: str, at: datetime) -> None:
        self._fail()
        self.lost_receivers.append(receiver)

    def refused(self, calling_ae_title: str, called_ae_title: str, host: str, reason: str, at: datetime) -> None:
        self._fail()
        self.refusals.append((calling_ae_title, called_ae_title, host, reason))

    def _fail(self) -> None:
        if self.failure is not None:
            raise self.failure


@dataclass
class Listening:
    """A receiver that is up."""

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
def listening(*, peers: Mapping[str, Peer] | None = None, **settings: Any) -> Iterator[Listening]:
    """Start a receiver on a free port of this machine, and stop it."""
    door, rows = RememberingDoor(), RememberingRows()
    receiver = Receiver(
        DimseSettings(port=0, **settings),
        peers={"loopback": LOOPBACK} if peers is None else peers,
        intake=door,
        associations=rows,
    )
    receiver.start()
    try:
        yield Listening(receiver, door, rows)
    finally:
        receiver.stop()


def await_that(look: Callable[[], object], *, within_s: float = 5.0) -> None:
    """Wait until something holds."""
    deadline = time.monotonic() + within_s
    while not look():
        assert time.monotonic() < deadline, "it did not come to hold in time"
        time.sleep(0.01)
