"""Before any role starts: the schema of index and queue."""

from __future__ import annotations

from configs.settings import Settings
from dicom_node.parts import blob_root, database_url
from storage.blobs import make_directory
from storage.jobs import prepare_queue
from storage.migrate import migrate


def prepare(settings: Settings) -> None:
    """Make the data directory and bring the database to this version."""
    make_directory(blob_root(settings))
    url = database_url(settings)
    migrate(url)
    prepare_queue(url)
