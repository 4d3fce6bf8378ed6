"""What the node has, compared with what it acknowledged: read from its database and files, not from its answers."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import select

from storage.database import Database, default_url
from storage.part10 import pass_file_meta
from storage.records import InstanceRole
from storage.tables import instances, variants


@dataclass(frozen=True)
class Found:
    """What an audit found."""

    acknowledged: int
    kept: int
    lost: tuple[str, ...]
    """Acknowledged, and no row or no file."""
    altered: tuple[str, ...]
    """The file's data set has another digest than what was sent."""
    phantom: tuple[str, ...]
    """A row of an instance that nobody offered and we did not make, or that no file bears out."""
    doubled: tuple[str, ...]
    """Set aside as other bytes though the same bytes were sent."""
    orphans: tuple[str, ...]
    """Files that no row names: what a kill leaves, taken in again later."""

    @property
    def clean(self) -> bool:
        """Whether nothing was lost, altered or made up."""
        return not (self.lost or self.altered or self.phantom or self.doubled)


def audit(
    data_dir: Path, *, acknowledged: Mapping[str, str], offered: Mapping[str, str], url: str | None = None
) -> Found:
    """Compare; both mappings give the digest of a data set by SOP Instance UID."""
    database = Database(url or default_url(data_dir))
    try:
        with database.read() as connection:
            rows = {row.sop_instance_uid: row for row in connection.execute(select(instances))}
            aside = {row.sop_instance_uid: row.path for row in connection.execute(select(variants))}
    finally:
        database.close()
    root = data_dir / "blobs"
    digests = {uid: _digest(root / row.path) for uid, row in rows.items()}
    lost = [uid for uid in acknowledged if not digests.get(uid)]
    altered = [
        uid for uid, sent in offered.items() if digests.get(uid) and not (digests[uid] == rows[uid].sha256 == sent)
    ]
    ours = {uid for uid, row in rows.items() if row.role == InstanceRole.RESULT}
    phantom = [uid for uid, digest in digests.items() if uid not in offered.keys() | ours or not digest]
    named = {row.path for row in rows.values()} | set(aside.values())
    files = {path.relative_to(root).as_posix() for path in (root / "instances").rglob("*") if path.is_file()}
    return Found(
        acknowledged=len(acknowledged),
        kept=len(rows),
        lost=tuple(lost),
        altered=tuple(altered),
        phantom=tuple(phantom),
        doubled=tuple(aside),
        orphans=tuple(sorted(files - named)),
    )


def sqlite_is_sound(data_dir: Path) -> bool:
    """Ask SQLite to check its file."""
    connection = sqlite3.connect(data_dir / "node.db")
    try:
        return connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    finally:
        connection.close()


def _digest(path: Path) -> str:
    with suppress(FileNotFoundError), path.open("rb") as file:
        pass_file_meta(file)
        return hashlib.file_digest(file, "sha256").hexdigest()
    return ""
