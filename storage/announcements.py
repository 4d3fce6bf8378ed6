"""What peers announce of studies: procedure steps (MPPS) and available instances, as evidence of completeness."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, Select, delete, func, insert, select, update

from storage.database import Database
from storage.errors import AlreadyAnnounced, NotKept, StepEnded
from storage.peer_records import Announcement, AnnouncementKind, AnnouncementState, Coverage
from storage.peer_tables import announced_instances, announced_studies, announcements
from storage.records import InstanceRole, InstanceState, Origin, StudyState
from storage.tables import instances, studies

#: Once in one of these a procedure step never changes again. Source: PS3.4 F.7.2.2.2.
FINAL = frozenset({AnnouncementState.COMPLETED, AnnouncementState.DISCONTINUED})


@dataclass(frozen=True)
class Named:
    """One instance that an announcement names."""

    sop_class_uid: str
    series_instance_uid: str
    sop_instance_uid: str


@dataclass(frozen=True)
class Said:
    """What a peer says in one announcement."""

    state: AnnouncementState
    study_instance_uids: frozenset[str]
    named: Sequence[Named] = ()
    attributes: Mapping[str, Any] = field(default_factory=dict)
    """DICOM JSON of the data set, as the peer gave it."""


class Announcements:
    """All announcements, of studies that came or are still to come."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def create(self, kind: AnnouncementKind, sop_instance_uid: str, origin: Origin, said: Said, at: datetime) -> None:
        """Record a new announcement; it is durable when this returns.

        Raises
        ------
        AlreadyAnnounced
            There is one of this UID.
        """
        with self._database.write() as connection:
            if _row(connection, sop_instance_uid) is not None:
                raise AlreadyAnnounced(sop_instance_uid=sop_instance_uid)
            connection.execute(
                insert(announcements).values(
                    sop_instance_uid=sop_instance_uid,
                    kind=kind.value,
                    peer=origin.peer,
                    calling_ae_title=origin.calling_ae_title,
                    called_ae_title=origin.called_ae_title,
                    host=origin.host,
                    received_at=at,
                    **_values(said, at),
                )
            )
            _name(connection, sop_instance_uid, said)

    def attributes_of(self, kind: AnnouncementKind, sop_instance_uid: str) -> dict[str, Any]:
        """Give the attributes of an announcement as they are now.

        Raises
        ------
        NotKept
            There is none of this kind and UID.
        """
        with self._database.read() as connection:
            row = _row(connection, sop_instance_uid)
        if row is None or row.kind != kind:
            raise NotKept("no such announcement was made", sop_instance_uid=sop_instance_uid)
        attributes: dict[str, Any] = json.loads(row.attributes)
        return attributes

    def change(self, sop_instance_uid: str, said: Said, at: datetime) -> None:
        """Replace what a procedure step says.

        Raises
        ------
        NotKept
            There is no such step.
        StepEnded
            It is completed or discontinued, and so never changes again.
        """
        with self._database.write() as connection:
            row = _row(connection, sop_instance_uid, locked=True)
            if row is None:
                raise NotKept("no such announcement was made", sop_instance_uid=sop_instance_uid)
            if row.state in FINAL:
                raise StepEnded(sop_instance_uid=sop_instance_uid)
            this_one = announcements.c.sop_instance_uid == sop_instance_uid
            connection.execute(update(announcements).where(this_one).values(_values(said, at)))
            for table in (announced_studies, announced_instances):
                connection.execute(delete(table).where(table.c.announcement_uid == sop_instance_uid))
            _name(connection, sop_instance_uid, said)

    def of_gathering(self) -> dict[str, list[Announcement]]:
        """Give what was announced of the studies that gather now, by Study Instance UID."""
        return self._of(studies.c.state == StudyState.GATHERING.value)

    def of_study(self, study_instance_uid: str) -> list[Announcement]:
        """Give what was announced of one kept study."""
        return self._of(studies.c.study_instance_uid == study_instance_uid).get(study_instance_uid, [])

    def coverage(self, study_instance_uid: str) -> Coverage:
        """Compare what is here of a study with what its ended steps and its notices name.

        Instances that a discontinued step names are expected like any others, but it vouches for none.
        """
        ended = _announcements_of(study_instance_uid, FINAL)
        vouching = _announcements_of(study_instance_uid, {AnnouncementState.COMPLETED})
        named = (
            select(announced_instances.c.sop_instance_uid)
            .where(announced_instances.c.announcement_uid.in_(ended))
            .distinct()
            .subquery()
        )
        here = instances.c.sop_instance_uid
        counts = select(func.count().label("named"), (func.count() - func.count(here)).label("missing")).select_from(
            named.outerjoin(instances, here == named.c.sop_instance_uid)
        )
        vouched = select(announced_instances.c.sop_instance_uid).where(
            announced_instances.c.announcement_uid.in_(vouching)
        )
        unnamed = (
            select(func.count())
            .select_from(instances)
            .where(
                instances.c.study_instance_uid == study_instance_uid,
                instances.c.role == InstanceRole.INPUT.value,
                instances.c.state == InstanceState.FOLLOWS_STUDY.value,
                here.not_in(vouched),
            )
        )
        with self._database.read() as connection:
            counted = connection.execute(counts).one()
            return Coverage(counted.named, counted.missing, connection.execute(unnamed).scalar_one())

    def _of(self, wanted: ColumnElement[bool]) -> dict[str, list[Announcement]]:
        said = announcements.c
        statement: Select[Any] = (
            select(
                announced_studies.c.study_instance_uid,
                *(said.sop_instance_uid, said.kind, said.state, said.peer, said.calling_ae_title),
                *(said.number_named, said.changed_at),
            )
            .join_from(announced_studies, announcements, announced_studies.c.announcement_uid == said.sop_instance_uid)
            .join(studies, studies.c.study_instance_uid == announced_studies.c.study_instance_uid)
            .where(wanted)
            .order_by(said.received_at, said.sop_instance_uid)
        )
        found: dict[str, list[Announcement]] = {}
        with self._database.read() as connection:
            for row in connection.execute(statement).all():
                found.setdefault(row.study_instance_uid, []).append(_record(row))
        return found


def _row(connection: Connection, sop_instance_uid: str, *, locked: bool = False) -> Row[Any] | None:
    statement = select(announcements).where(announcements.c.sop_instance_uid == sop_instance_uid)
    return connection.execute(statement.with_for_update() if locked else statement).one_or_none()


def _values(said: Said, at: datetime) -> dict[str, Any]:
    return {
        "state": said.state.value,
        "changed_at": at,
        "number_named": len(_distinct(said.named)),
        "attributes": json.dumps(said.attributes, ensure_ascii=False, separators=(",", ":")),
    }


def _name(connection: Connection, announcement_uid: str, said: Said) -> None:
    for study_instance_uid in sorted(said.study_instance_uids):
        connection.execute(
            insert(announced_studies).values(study_instance_uid=study_instance_uid, announcement_uid=announcement_uid)
        )
    rows = [
        {
            "announcement_uid": announcement_uid,
            "sop_instance_uid": each.sop_instance_uid,
            "series_instance_uid": each.series_instance_uid,
            "sop_class_uid": each.sop_class_uid,
        }
        for each in _distinct(said.named)
    ]
    if rows:
        connection.execute(insert(announced_instances), rows)


def _distinct(named: Iterable[Named]) -> list[Named]:
    return list({each.sop_instance_uid: each for each in named}.values())


def _announcements_of(study_instance_uid: str, states: Iterable[AnnouncementState]) -> Select[tuple[str]]:
    return (
        select(announcements.c.sop_instance_uid)
        .join(announced_studies, announced_studies.c.announcement_uid == announcements.c.sop_instance_uid)
        .where(announced_studies.c.study_instance_uid == study_instance_uid, announcements.c.state.in_(sorted(states)))
    )


def _record(row: Row[Any]) -> Announcement:
    return Announcement(
        announcement_uid=row.sop_instance_uid,
        kind=AnnouncementKind(row.kind),
        state=AnnouncementState(row.state),
        peer=row.peer,
        calling_ae_title=row.calling_ae_title,
        number_named=row.number_named,
        changed_at=row.changed_at,
    )
