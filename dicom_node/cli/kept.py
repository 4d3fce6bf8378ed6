"""What commands open to look at what is kept."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from configs.errors import ConfigError
from configs.load import Loaded
from dicom_node.parts import Storage


@contextmanager
def kept(loaded: Loaded) -> Iterator[Storage]:
    """Open what a node keeps, whether it runs now or not.

    Raises
    ------
    ConfigError
        No node has been started on these settings: there is nothing, and a look must not make it.
    """
    settings = loaded.settings
    refusal = f"No node was started on {settings.data_dir} yet: nothing is kept there. Start one: dicom-node up"
    if not settings.database.url and not (settings.data_dir / "node.db").exists():
        raise ConfigError(refusal)
    storage = Storage.open(settings)
    try:
        if not storage.database.is_prepared():
            raise ConfigError(refusal)
        yield storage
    finally:
        storage.close()
