"""DICOM JSON that was made, kept in segments of many instances; and what is still to be made.

A series' metadata is a few rows, inflated and joined as bytes. An entry names the digest of what it was made
from, so that JSON of other bytes under the same UID is never given.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import orjson
from sqlalchemy import Connection, and_, delete, func, insert, select

from storage.database import Database
from storage.errors import IndexUnavailable, NotKept
from storage.records import EVERYTHING, StudyFilter
from storage.tables import instances, json_pending, json_segments, series
from storage.visibility import is_counted, may_see

#: Instances in one segment at most.
SEGMENT = 256
_DIGEST = 16
_TRIES = 3


class Source(NamedTuple):
    """A kept instance, as far as its JSON needs it. A tuple: a request makes hundreds."""

    study_instance_uid: str
    series_instance_uid: str
    sop_instance_uid: str
    path: str
    sha256: str


class Made(NamedTuple):
    """The JSON of one instance."""

    sop_instance_uid: str
    digest: str
    """Beginning of the SHA-256 of what it was made from."""
    content: bytes


@dataclass(frozen=True)
class _Segment:
    number: int
    entries: bytes
    body: bytes

    def unpack(self) -> list[Made]:
        """Give what is in it."""
        content, made, begin = zlib.decompress(self.body), [], 0
        for sop_instance_uid, digest, length in orjson.loads(self.entries):
            made.append(Made(sop_instance_uid, digest, content[begin : begin + length]))
            begin += length
        return made


def digest_of(sha256: str) -> str:
    """Give what an entry names of a digest."""
    return sha256[:_DIGEST]


class JsonStore:
    """The tables of DICOM JSON."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def pending(self, *, limit: int) -> list[Source]:
        """Give instances whose JSON is to be made, those of a series together."""
        some = select(json_pending.c.sop_instance_uid).limit(limit).subquery()
        statement = (
            select(*_SOURCE)
            .join(some, some.c.sop_instance_uid == instances.c.sop_instance_uid)
            .order_by(
                instances.c.study_instance_uid,
                instances.c.series_instance_uid,
                instances.c.instance_number,
                instances.c.sop_instance_uid,
            )
        )
        with self._database.read() as connection:
            return list(map(Source._make, connection.execute(statement).all()))

    def keep(self, study_instance_uid: str, series_instance_uid: str, made: Sequence[Made]) -> None:
        """Keep JSON of instances of one series; they are no longer pending once this returns.

        Small segments before it are taken into the new one, so that a series that trickles in ends in few rows.

        Raises
        ------
        IndexUnavailable
            It is not kept; do it again.
        """
        for _ in range(_TRIES):
            with self._database.read() as connection:
                taken, number = _small_ones(connection, study_instance_uid, series_instance_uid, made)
            newest = {each.sop_instance_uid: each for segment in taken for each in segment.unpack()}
            newest |= {each.sop_instance_uid: each for each in made}
            values = _packed(list(newest.values())) | {
                "study_instance_uid": study_instance_uid,
                "series_instance_uid": series_instance_uid,
                "number": number,
            }
            with self._database.write() as connection:
                if self._replace(connection, values, [segment.number for segment in taken], made):
                    return
        raise IndexUnavailable("Another process keeps JSON of the same series.")

    def give_up(self, sop_instance_uids: Iterable[str]) -> None:
        """Take instances whose JSON cannot be made from the pending ones."""
        with self._database.write() as connection:
            _done(connection, list(sop_instance_uids))

    def of(
        self,
        study_instance_uid: str,
        series_instance_uid: str | None = None,
        sop_instance_uid: str | None = None,
        *,
        visible: StudyFilter = EVERYTHING,
    ) -> list[tuple[Source, bytes | None]]:
        """Give the JSON of a study's, a series' or one instance, by series number and instance number.

        None stands for JSON that was not made yet.

        Raises
        ------
        NotKept
            There is no such thing, or the asker may not see it.
        """
        named = [instances.c.study_instance_uid == study_instance_uid]
        held = [json_segments.c.study_instance_uid == study_instance_uid]
        if series_instance_uid is not None:
            named.append(instances.c.series_instance_uid == series_instance_uid)
            held.append(json_segments.c.series_instance_uid == series_instance_uid)
        if sop_instance_uid is not None:
            named.append(instances.c.sop_instance_uid == sop_instance_uid)
            held.append(json_segments.c.entries.contains(f'"{sop_instance_uid}"', autoescape=True))
        else:
            named.append(is_counted(instances))  # what was rejected answers to its UID alone
        statement = (
            select(*_SOURCE)
            .join_from(instances, series, _OF_SERIES)
            .where(*named, may_see(visible, instances.c.study_instance_uid))
            .order_by(
                *(series.c.series_number.is_(None), series.c.series_number, instances.c.series_instance_uid),
                *(instances.c.instance_number.is_(None), instances.c.instance_number, instances.c.sop_instance_uid),
            )
        )
        with self._database.read() as connection:
            sources = list(map(Source._make, connection.execute(statement).all()))
            rows = connection.execute(select(*_SEGMENT).where(*held)).all() if sources else []
        if not sources:
            raise NotKept("Nothing is kept here under these UIDs.")
        made = {
            (each.sop_instance_uid, each.digest): each.content
            for row in rows
            for each in _Segment(row.number, row.entries.encode(), row.body).unpack()
        }
        return [(source, made.get((source.sop_instance_uid, source.sha256[:_DIGEST]))) for source in sources]

    @staticmethod
    def _replace(connection: Connection, values: dict[str, object], taken: Sequence[int], made: Sequence[Made]) -> bool:
        """Write a segment in the place of others; False where somebody else was faster."""
        of_series = and_(
            json_segments.c.study_instance_uid == values["study_instance_uid"],
            json_segments.c.series_instance_uid == values["series_instance_uid"],
        )
        # The row of the series is what writers of its segments queue for.
        there = connection.execute(
            select(series.c.series_instance_uid)
            .where(
                series.c.study_instance_uid == values["study_instance_uid"],
                series.c.series_instance_uid == values["series_instance_uid"],
            )
            .with_for_update()
        ).first()
        if there is None:
            return True  # the series was deleted meanwhile: nobody asks for its JSON
        latest = connection.execute(select(func.max(json_segments.c.number)).where(of_series)).scalar_one()
        if (latest or 0) + 1 != values["number"]:
            return False
        if taken:
            connection.execute(delete(json_segments).where(of_series, json_segments.c.number.in_(taken)))
        connection.execute(insert(json_segments).values(values))
        _done(connection, [each.sop_instance_uid for each in made])
        return True


def make_again(connection: Connection, study_instance_uid: str, series_instance_uid: str) -> None:
    """Forget the JSON of a series and have it made anew, in the transaction that removes or changes an instance."""
    connection.execute(
        delete(json_segments).where(
            json_segments.c.study_instance_uid == study_instance_uid,
            json_segments.c.series_instance_uid == series_instance_uid,
        )
    )
    of_series = and_(
        instances.c.study_instance_uid == study_instance_uid,
        instances.c.series_instance_uid == series_instance_uid,
        instances.c.sop_instance_uid.not_in(select(json_pending.c.sop_instance_uid)),
    )
    connection.execute(
        insert(json_pending).from_select(["sop_instance_uid"], select(instances.c.sop_instance_uid).where(of_series))
    )


_SOURCE = (
    instances.c.study_instance_uid,
    instances.c.series_instance_uid,
    instances.c.sop_instance_uid,
    instances.c.path,
    instances.c.sha256,
)
_SEGMENT = (json_segments.c.number, json_segments.c.entries, json_segments.c.body)
_OF_SERIES = and_(
    instances.c.study_instance_uid == series.c.study_instance_uid,
    instances.c.series_instance_uid == series.c.series_instance_uid,
)


def _small_ones(
    connection: Connection, study_instance_uid: str, series_instance_uid: str, made: Sequence[Made]
) -> tuple[list[_Segment], int]:
    """Give the last segments that are no larger than what follows them, and the number of the next one."""
    table = json_segments.c
    of_series = (table.study_instance_uid == study_instance_uid, table.series_instance_uid == series_instance_uid)
    sizes = connection.execute(
        select(table.number, table.number_of_instances).where(*of_series).order_by(table.number.desc())
    ).all()
    count, taken = len(made), []
    for number, size in sizes:
        if size > count or count + size > SEGMENT:
            break
        count += size
        taken.append(number)
    rows = connection.execute(select(*_SEGMENT).where(*of_series, table.number.in_(taken)).order_by(table.number)).all()
    segments = [_Segment(row.number, row.entries.encode(), row.body) for row in rows]
    return segments, (sizes[0].number if sizes else 0) + 1


def _packed(made: Sequence[Made]) -> dict[str, object]:
    entries = [[each.sop_instance_uid, each.digest, len(each.content)] for each in made]
    return {
        "number_of_instances": len(made),
        "entries": orjson.dumps(entries).decode(),
        "body": zlib.compress(b"".join(each.content for each in made), 6),
    }


def _done(connection: Connection, sop_instance_uids: Sequence[str]) -> None:
    connection.execute(delete(json_pending).where(json_pending.c.sop_instance_uid.in_(sop_instance_uids)))
