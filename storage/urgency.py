"""How urgent others say that studies are, and how long senders pause: what the courier learns and keeps."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import delete, select
from sqlalchemy.dialects import postgresql, sqlite

from configs.routes import Priority
from storage.database import Database
from storage.model_writer import first_text
from storage.peer_tables import sender_pauses
from storage.tables import study_priorities

#: What a sender did in its latest so many studies counts, and no longer ago than this.
_STUDIES = 20
_REMEMBERED = timedelta(days=30)

#: Peer and calling AE title.
SenderKey = tuple[str, str]


#: Scheduled Procedure Step Priority: HIGH is what STAT is elsewhere. Source: PS3.3 C.30.2.
_OF_WORKITEM = {"HIGH": Priority.STAT, "MEDIUM": Priority.ROUTINE, "LOW": Priority.LOW}


def urgency_of(workitem: Mapping[str, Any]) -> Priority | None:
    """Say how urgent a work item is, in the DICOM JSON model; None: it does not say."""
    return _OF_WORKITEM.get(first_text(workitem, "00741200"))


class Priorities:
    """What UPS workitems and worklists say of studies, whether these came already or not."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def say(self, study_instance_uid: str, source: str, priority: Priority, at: datetime) -> None:
        """Note how urgent a study is; the same source may say otherwise later.

        `source`: who says it, such as `ups:<UID of the workitem>` or `worklist:<peer>`.
        """
        dialect = postgresql if self._database.engine.dialect.name == "postgresql" else sqlite
        statement = dialect.insert(study_priorities).values(
            study_instance_uid=study_instance_uid, source=source[:128], priority=priority.value, at=at
        )
        key = [study_priorities.c.study_instance_uid, study_priorities.c.source]
        with self._database.write() as connection:
            connection.execute(
                statement.on_conflict_do_update(index_elements=key, set_={"priority": priority.value, "at": at})
            )

    def of(self, study_instance_uid: str) -> dict[str, Priority]:
        """Give what was said of a study, by source."""
        with self._database.read() as connection:
            rows = connection.execute(
                select(study_priorities.c.source, study_priorities.c.priority).where(
                    study_priorities.c.study_instance_uid == study_instance_uid
                )
            ).all()
        return {row.source: Priority(row.priority) for row in rows}


class Pauses:
    """How long senders pause within a study."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def note(self, study_instance_uid: str, longest_s: Mapping[SenderKey, float], at: datetime) -> None:
        """Note the longest pause that each sender made in a study."""
        dialect = postgresql if self._database.engine.dialect.name == "postgresql" else sqlite
        key = [sender_pauses.c.study_instance_uid, sender_pauses.c.peer, sender_pauses.c.calling_ae_title]
        with self._database.write() as connection:
            connection.execute(delete(sender_pauses).where(sender_pauses.c.at < at - _REMEMBERED))
            for (peer, calling_ae_title), seconds in longest_s.items():
                statement = dialect.insert(sender_pauses).values(
                    study_instance_uid=study_instance_uid,
                    peer=peer[:255],
                    calling_ae_title=calling_ae_title[:16],
                    longest_s=seconds,
                    at=at,
                )
                connection.execute(
                    statement.on_conflict_do_update(index_elements=key, set_={"longest_s": seconds, "at": at})
                )

    def learned(self, now: datetime) -> dict[SenderKey, float]:
        """Give the longest pause of each sender in its latest studies, seconds."""
        pauses = sender_pauses.c
        statement = (
            select(pauses.peer, pauses.calling_ae_title, pauses.longest_s)
            .where(pauses.at >= now - _REMEMBERED)
            .order_by(pauses.at.desc())
            .limit(5000)
        )
        with self._database.read() as connection:
            rows = connection.execute(statement).all()
        latest: dict[SenderKey, list[float]] = {}
        for row in rows:
            seen = latest.setdefault((row.peer, row.calling_ae_title), [])
            if len(seen) < _STUDIES:
                seen.append(row.longest_s)
        return {sender: max(seconds) for sender, seconds in latest.items()}
