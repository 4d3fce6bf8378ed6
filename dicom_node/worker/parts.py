"""What workers and couriers work with, put together by `main`."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import BinaryIO

from configs.peers import Peer
from configs.routes import Route
from configs.settings import DeliverySettings, DimseSettings, QuietSettings
from dicom_node.scu.transcoding import Transcoder
from dicom_node.worker.counts import ArchiveCounts
from inference.engines.protocol import Engine
from inference.loading import FrameDecoder
from inference.results.forms import Form
from inference.results.run import NodeIdentity
from storage.announcements import Announcements
from storage.blobs import BlobStore
from storage.corrections import Corrections
from storage.database import Database
from storage.deliveries import Deliveries
from storage.findings_store import FindingsStore
from storage.index import Index
from storage.intake import Intake
from storage.job_book import JobBook
from storage.jobs import Queue
from storage.peer_classes import PeerClasses
from storage.prior_book import PriorBook
from storage.results import ResultBook
from storage.urgency import Pauses, Priorities
from storage.variants import Variants


@dataclass(frozen=True)
class WorkerParts:
    """What the story of a study needs."""

    index: Index
    blobs: BlobStore
    intake: Intake
    job_book: JobBook
    findings: FindingsStore
    results: ResultBook
    deliveries: Deliveries
    engines: Mapping[str, Engine]
    """Engines that run here, by the names that routes use."""
    peers: Mapping[str, Peer]
    """The peer list as it stands now."""
    identity: NodeIdentity
    timezone: str
    """Zone of times in results whose sources name none."""
    now: Callable[[], datetime]
    refused_by: Callable[[str], Collection[str]] = lambda _: ()
    """Gives the SOP Classes that a destination is known not to take."""
    decoder: FrameDecoder | None = None
    """Decodes compressed frames in processes with limits; None: the worker itself does."""


@dataclass(frozen=True)
class CourierParts:
    """What the completion watch and deliveries need."""

    database: Database
    queue: Queue
    index: Index
    blobs: BlobStore
    deliveries: Deliveries
    classes: PeerClasses
    make_set: Callable[[str, Form], Sequence[tuple[str, str]]]
    """Makes and keeps the results of a run (its run key) in a form; gives SOP Instance UID and kind of each."""
    variants: Variants
    corrections: Corrections
    announcements: Announcements
    peers: Mapping[str, Peer]
    """The peer list as it stands now."""
    routes: Sequence[Route]
    """The rules as they stand now."""
    counts: ArchiveCounts
    pauses: Pauses
    priorities: Priorities
    priors: PriorBook
    engines: Collection[str]
    """Names of engines that are installed and enabled."""
    quiet: QuietSettings
    delivery: DeliverySettings
    dimse: DimseSettings
    now: Callable[[], datetime]
    digest_pixels: Callable[[BinaryIO], str]
    """Digests the frames of a file that stands at its start, decoded with limits; raises `InferenceError`."""
    transcoder: Transcoder | None = None
    """Encodes originals anew for destinations that do not take them as they are kept; None: uncompressed ones alone."""
