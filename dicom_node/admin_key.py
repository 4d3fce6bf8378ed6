"""The administrator's key: configured, or made at first start and kept with the data."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from configs.settings import Settings


def admin_key_path(data_dir: Path) -> Path:
    """Where a key that the node made is kept, readable by its owner alone."""
    return data_dir / "admin.key"


def admin_key(settings: Settings) -> str | None:
    """Return the administrator's key; None where none was configured or made yet."""
    if settings.auth.admin_key is not None:
        return settings.auth.admin_key.get_secret_value()
    path = admin_key_path(settings.data_dir)
    return path.read_text(encoding="ascii").strip() if path.exists() else None


def forget_admin_key(settings: Settings) -> None:
    """Take back a key that was made for a start that failed: nobody has seen it."""
    admin_key_path(settings.data_dir).unlink(missing_ok=True)


def make_admin_key(settings: Settings) -> str | None:
    """Make the key at first start; None where there is one already."""
    if admin_key(settings) is not None:
        return None
    key = f"dn_admin_{secrets.token_urlsafe(32)}"
    path = admin_key_path(settings.data_dir)
    path.parent.mkdir(parents=True, exist_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(key + "\n")
        file.flush()
        os.fsync(file.fileno())
    return key
