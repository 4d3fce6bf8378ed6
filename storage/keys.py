"""Keys of programs and persons that use HTTP. A secret is shown once; what is kept does not give it back."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
import secrets
from collections.abc import Callable, Collection
from datetime import datetime
from typing import Any

from sqlalchemy import Row, insert, select, update

from storage.database import Database
from storage.errors import KeyRefused, NotKept
from storage.peer_records import KeyRecord
from storage.peer_tables import api_keys
from storage.records import EVERYTHING, StudyFilter

#: What a key may allow.
PERMISSIONS = frozenset(
    {"read", "store", "delete", "predict", "chat", "console", "operate", "configure", "keys", "retract", "audit"}
)

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]{0,62}")
_SECRET = re.compile(rf"dn_({_NAME.pattern})_([A-Za-z0-9_-]{{43}})")
_RANDOM_BYTES = 32  # 43 characters in base64 without padding
_SALT_BYTES = 16


class Keys:
    """The keys of this node."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def create(
        self,
        name: str,
        permissions: Collection[str],
        visible: StudyFilter,
        at: datetime,
        *,
        expires_at: datetime | None = None,
        draw: Callable[[int], bytes] = secrets.token_bytes,
    ) -> str:
        """Make a key and give its secret, `dn_<name>_<43 characters>`; nobody can read it again.

        `draw`: gives that many random bytes.

        Raises
        ------
        KeyRefused
            The name is taken or cannot be one, or there is no such permission.
        """
        if not _NAME.fullmatch(name):
            raise KeyRefused("A key's name is letters, digits, dots and dashes, 63 at most.")
        if unknown := set(permissions) - PERMISSIONS:
            raise KeyRefused(f"There is no permission {', '.join(sorted(unknown))}.")
        drawn = base64.urlsafe_b64encode(draw(_RANDOM_BYTES)).rstrip(b"=").decode()
        secret = f"dn_{name}_{drawn}"
        salt = draw(_SALT_BYTES)
        peers = None if visible.sender_peers is None else json.dumps(sorted(visible.sender_peers))
        with self._database.write() as connection:
            if connection.execute(select(api_keys.c.name).where(api_keys.c.name == name)).first():
                raise KeyRefused(f"There is or was a key named {name}.")
            connection.execute(
                insert(api_keys).values(
                    name=name,
                    salt=salt,
                    digest=_digest(salt, secret),
                    permissions=json.dumps(sorted(permissions)),
                    sender_peers=peers,
                    created_at=at,
                    expires_at=expires_at,
                )
            )
        return secret

    def recognise(self, secret: str) -> KeyRecord | None:
        """Give the key whose secret this is, even a revoked or expired one; None for anything else."""
        shape = _SECRET.fullmatch(secret)
        if shape is None:
            return None
        with self._database.read() as connection:
            row = connection.execute(select(api_keys).where(api_keys.c.name == shape.group(1))).one_or_none()
        salt, digest = (row.salt, row.digest) if row is not None else (b"", b"")
        # Compared even where there is no such name, so that the time taken does not tell names.
        same = hmac.compare_digest(_digest(salt, secret), digest)
        return _record(row) if same and row is not None else None

    def revoke(self, name: str, at: datetime) -> None:
        """Close a key for good; `NotKept` where there is none. One that is closed keeps its time."""
        keys = api_keys
        with self._database.write() as connection:
            if connection.execute(select(keys.c.name).where(keys.c.name == name)).first() is None:
                raise NotKept("There is no such key.", name=name)
            connection.execute(
                update(keys).where(keys.c.name == name, keys.c.revoked_at.is_(None)).values(revoked_at=at)
            )

    def all(self) -> list[KeyRecord]:
        """Give all keys, revoked ones too, by name."""
        with self._database.read() as connection:
            return [_record(row) for row in connection.execute(select(api_keys).order_by(api_keys.c.name)).all()]


def _digest(salt: bytes, secret: str) -> bytes:
    # The secret is 256 random bits: a slow hash would protect nothing more.
    return hashlib.sha256(salt + secret.encode()).digest()


def _record(row: Row[Any]) -> KeyRecord:
    peers = row.sender_peers
    return KeyRecord(
        name=row.name,
        permissions=frozenset(json.loads(row.permissions)),
        visible=EVERYTHING if peers is None else StudyFilter(frozenset(json.loads(peers))),
        created_at=row.created_at,
        revoked_at=row.revoked_at,
        expires_at=row.expires_at,
    )
