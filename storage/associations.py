"""Who is connected, who brought what, and who was not let in."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Literal

from sqlalchemy import func, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite

from storage.database import Database
from storage.peer_records import RefusedCaller
from storage.peer_tables import associations, refused_callers
from storage.records import Origin

AssociationEnd = Literal["released", "aborted", "lost"]


class Associations:
    """The associations that peers requested, over all receivers."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def opened(self, association_id: str, receiver: str, origin: Origin, at: datetime) -> None:
        """Record that a peer was let in."""
        with self._database.write() as connection:
            connection.execute(
                insert(associations).values(
                    association_id=association_id,
                    receiver=receiver,
                    peer=origin.peer,
                    calling_ae_title=origin.calling_ae_title[:16],
                    called_ae_title=origin.called_ae_title[:16],
                    host=origin.host,
                    opened_at=at,
                    last_traffic_at=at,
                    end="",
                )
            )

    def traffic(self, association_ids: Iterable[str], at: datetime) -> None:
        """Record that these had traffic up to now."""
        ids = list(association_ids)
        if not ids:
            return
        with self._database.write() as connection:
            connection.execute(
                update(associations).where(associations.c.association_id.in_(ids)).values(last_traffic_at=at)
            )

    def closed(self, association_id: str, end: AssociationEnd, at: datetime) -> None:
        """Record how an association ended."""
        with self._database.write() as connection:
            connection.execute(
                update(associations)
                .where(associations.c.association_id == association_id, associations.c.closed_at.is_(None))
                .values(closed_at=at, end=end)
            )

    def lost(self, receiver: str, at: datetime) -> int:
        """End what a dead receiver left open; give how many."""
        with self._database.write() as connection:
            return connection.execute(
                update(associations)
                .where(associations.c.receiver == receiver, associations.c.closed_at.is_(None))
                .values(closed_at=at, end="lost")
            ).rowcount

    def open_count(self) -> int:
        """How many are open now."""
        with self._database.read() as connection:
            query = select(func.count()).select_from(associations).where(associations.c.closed_at.is_(None))
            return connection.execute(query).scalar_one()

    def refused(self, calling_ae_title: str, called_ae_title: str, host: str, reason: str, at: datetime) -> None:
        """Record that a caller was not let in; the same caller is counted, not listed again."""
        dialect = postgresql if self._database.engine.dialect.name == "postgresql" else sqlite
        statement = dialect.insert(refused_callers).values(
            calling_ae_title=calling_ae_title[:16],
            called_ae_title=called_ae_title[:16],
            host=host[:255],
            reason=reason,
            count=1,
            last_at=at,
        )
        key = (refused_callers.c.calling_ae_title, refused_callers.c.called_ae_title, refused_callers.c.host)
        with self._database.write() as connection:
            connection.execute(
                statement.on_conflict_do_update(
                    index_elements=key, set_={"count": refused_callers.c.count + 1, "reason": reason, "last_at": at}
                )
            )

    def refused_since(self, at: datetime) -> list[RefusedCaller]:
        """Callers that were refused since then, the latest first."""
        query = select(refused_callers).where(refused_callers.c.last_at >= at)
        with self._database.read() as connection:
            rows = connection.execute(query.order_by(refused_callers.c.last_at.desc())).all()
        return [RefusedCaller(**row._mapping) for row in rows]
