"""Before any role starts: the schema of index and queue."""

from __future__ import annotations

from configs.settings import Settings
from dicom_node.parts import blob_root, database_url
from storage.jobs import prepare_queue
from storage.migrate import migrate


def prepare(settings: Settings) -> None:
    """Make the data directory and bring the database to this version."""
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    blob_root(settings).mkdir(exist_ok=True)
    url = database_url(settings)
    migrate(url)
    prepare_queue(url)
