"""What HTTP needs of the other rooms; `dicom_node.roles.web` fills it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, Protocol

from configs.peers import Peer
from configs.settings import Settings
from storage.associations import Associations
from storage.audit import Audit
from storage.blobs import BlobStore
from storage.database import Database
from storage.deliveries import Deliveries
from storage.index import Index
from storage.job_book import JobBook
from storage.jobs import Queue
from storage.keys import Keys
from storage.results import ResultBook

Plane = Literal["axial", "coronal", "sagittal"]


class Pictures(Protocol):
    """Pictures of results."""

    def overlay(self, seg_sop_instance_uid: str, plane: Plane) -> bytes:
        """Give a PNG of a segmentation on its source.

        Raises
        ------
        NotKept
            There is no such segmentation, or its source is gone.
        """
        ...


class Readings(Protocol):
    """Results as people and programs read them."""

    def text(self, sr_sop_instance_uid: str) -> str:
        """Give a kept SR as plain text."""
        ...

    def findings(self, run_key: str) -> dict[str, Any]:
        """Give the findings of a run as plain JSON values; what they were made with, too."""
        ...


@dataclass(frozen=True)
class EngineInfo:
    """One engine of this installation, as answers show it."""

    name: str
    version: str
    kind: Literal["classical", "model"]
    modalities: tuple[str, ...]
    enabled: bool


@dataclass(frozen=True)
class WebParts:
    """What the application is made of."""

    settings: Settings
    version: str
    database: Database
    index: Index
    blobs: BlobStore
    keys: Keys
    audit: Audit
    job_book: JobBook
    queue: Queue
    results: ResultBook
    deliveries: Deliveries
    associations: Associations
    peers: Mapping[str, Peer]
    admin_key: str | None
    pictures: Pictures
    readings: Readings
    engines: tuple[EngineInfo, ...]
    now: Callable[[], datetime]
