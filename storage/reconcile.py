"""Files and rows brought together again: what a kill or an outage left between the two.

A file whose row is missing was placed in the moment before its row was committed. Its sender got no Success; most
send it again. The file enters through the one door once more: same bytes add nothing, new ones are kept, and only
then it goes. So nothing that may be the only copy is ever deleted, also where the index is older than the files.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from sqlalchemy import select

from storage.blobs import BlobStore
from storage.correction_tables import removed_files
from storage.database import Database
from storage.errors import UnreadableInstance
from storage.intake import Intake
from storage.part10 import pass_file_meta
from storage.records import Origin, OriginKind, Outcome
from storage.tables import instances, variants

log = logging.getLogger(__name__)

#: Instances lie below directories that begin with a hex digit; one digit's paths are compared at a time.
_SHARDS = tuple(f"instances/{digit:x}" for digit in range(16))


class Stop(Protocol):
    """Whether to end early, as an event tells."""

    def is_set(self) -> bool:
        """Tell."""
        ...


@dataclass(frozen=True)
class Reconciled:
    """What became of files without rows."""

    known: int = 0
    """Their bytes are kept under another name; the file is gone."""
    kept: int = 0
    """Their instance was not kept; now it is."""
    unreadable: int = 0
    """They are no instance; they stay where they are."""


def take_in_orphans(
    database: Database, blobs: BlobStore, intake: Intake, *, before: datetime, stop: Stop | None = None
) -> Reconciled:
    """Take in files that have no row and were placed before a time.

    Parameters
    ----------
    before
        Far enough back that nobody still waits for the row of such a file.

    Raises
    ------
    IndexUnavailable, DiskFull
        It goes on next time.
    """
    known = kept = unreadable = 0
    for path in orphans(database, blobs, before):
        if stop is not None and stop.is_set():
            break
        try:
            outcome = take_in(path, blobs, intake)
        except UnreadableInstance as error:
            unreadable += 1
            log.warning("a file without a row is no instance", extra={"action": "orphan_unreadable", "why": str(error)})
            continue
        known += outcome is Outcome.ALREADY_KEPT
        kept += outcome is not Outcome.ALREADY_KEPT
    return Reconciled(known, kept, unreadable)


def orphans(database: Database, blobs: BlobStore, before: datetime) -> Iterator[str]:
    """Give the paths of files that have no row and were placed before a time."""
    for shard in _SHARDS:
        files = list(blobs.placed(shard, before=before))
        if not files:
            continue
        with database.read() as connection:
            rows: set[str] = set()
            for table in (instances, variants, removed_files):
                rows.update(connection.execute(select(table.c.path).where(table.c.path.startswith(shard))).scalars())
        yield from (path for path in files if path not in rows)


def take_in(path: str, blobs: BlobStore, intake: Intake) -> Outcome:
    """Let a file that has no row enter by the one door; only then it goes.

    Raises
    ------
    UnreadableInstance
        It is no instance; it stays where it is.
    """
    with blobs.open(path) as file:
        values = pass_file_meta(file)
        file.seek(0)
        sender = values.get(0x0016, b"").decode("ascii", "replace").strip("\0 ")[:16]
        kept = intake.receive(file, Origin(OriginKind.RECOVERED, calling_ae_title=sender))
    blobs.delete(path)
    facts = {"action": "orphan_taken_in", "sop_instance_uid": kept.sop_instance_uid, "outcome": kept.outcome.value}
    log.warning("a file without a row entered again", extra=facts)
    return kept.outcome
