"""Parts that several roles and commands are made of."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from configs.settings import Settings
from dicom_node.version import VERSION
from inference.results.run import NodeIdentity
from storage.blobs import LocalBlobs
from storage.database import Database, default_url
from storage.intake import Intake

MEGABYTE = 1_000_000


def now() -> datetime:
    """Return the present time, aware, UTC."""
    return datetime.now(UTC)


def database_url(settings: Settings) -> str:
    """Where the index and the queue live."""
    return settings.database.url or default_url(settings.data_dir)


def identity(settings: Settings) -> NodeIdentity:
    """Who this node says it is in what it makes."""
    node = settings.node
    return NodeIdentity(
        name=node.name,
        serial_number=node.serial_number,
        institution_name=node.institution_name,
        version=VERSION,
    )


def blob_root(settings: Settings) -> Path:
    """Directory of the local blob store."""
    return settings.data_dir / "blobs"


@dataclass(frozen=True)
class Storage:
    """The parts that keep."""

    database: Database
    blobs: LocalBlobs

    @classmethod
    def open(cls, settings: Settings) -> Storage:
        """Connect to the index and the blob store of these settings."""
        return cls(Database(database_url(settings)), LocalBlobs(blob_root(settings)))

    def intake(self, settings: Settings) -> Intake:
        """Make the one door."""
        return Intake(self.database, self.blobs, reserve_bytes=int(settings.disk.reserve_mb * MEGABYTE))

    def close(self) -> None:
        """Let go of the database."""
        self.database.close()
