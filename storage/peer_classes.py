"""What destinations take: learned from their answers, remembered until somebody forgets it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import delete, select
from sqlalchemy.dialects import postgresql, sqlite

from storage.database import Database
from storage.peer_tables import peer_classes


@dataclass(frozen=True)
class PeerClass:
    """One answer of a peer for one SOP Class: the last one."""

    peer: str
    sop_class_uid: str
    accepted: bool
    reason: str
    """What the peer said where it refused."""
    at: datetime
    """Since when it is so."""


class PeerClasses:
    """The answers of all peers."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def learn(self, peer: str, sop_class_uids: Iterable[str], *, accepted: bool, reason: str, at: datetime) -> None:
        """Remember what a peer answered; nothing is written where that is known."""
        known = {each.sop_class_uid: each.accepted for each in self.of(peer)}
        changed = [uid for uid in dict.fromkeys(sop_class_uids) if known.get(uid) is not accepted]
        if not changed:
            return
        with self._database.write() as connection:
            insert = sqlite.insert if connection.dialect.name == "sqlite" else postgresql.insert
            for uid in changed:
                said = {"accepted": accepted, "reason": reason, "at": at}
                connection.execute(
                    insert(peer_classes)
                    .values(peer=peer, sop_class_uid=uid, **said)
                    .on_conflict_do_update(index_elements=["peer", "sop_class_uid"], set_=said)
                )

    def of(self, peer: str) -> list[PeerClass]:
        """Give what one peer answered, by SOP Class."""
        rows = peer_classes.c
        with self._database.read() as connection:
            found = connection.execute(select(peer_classes).where(rows.peer == peer).order_by(rows.sop_class_uid)).all()
        return [PeerClass(row.peer, row.sop_class_uid, row.accepted, row.reason, row.at) for row in found]

    def refused_by(self, peer: str) -> frozenset[str]:
        """Name the SOP Classes that a peer did not take when it was last asked."""
        return frozenset(each.sop_class_uid for each in self.of(peer) if not each.accepted)

    def forget(self, peer: str) -> int:
        """Forget what a peer answered, so that everything is tried again; give how much that was."""
        with self._database.write() as connection:
            return connection.execute(delete(peer_classes).where(peer_classes.c.peer == peer)).rowcount
