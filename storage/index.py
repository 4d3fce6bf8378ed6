"""The index, read: what is kept, found by its names. Every question takes the asker's filter."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any

from sqlalchemy import ColumnElement, Row, Select, and_, bindparam, func, select, true

from storage.correction_tables import removed_instances
from storage.database import Database
from storage.errors import NotKept
from storage.matching import Level, Matcher, Query
from storage.patients import patients_answer, patients_statement
from storage.peer_tables import associations
from storage.prepared import Prepared
from storage.records import (
    EVERYTHING,
    InstanceRecord,
    InstanceRole,
    InstanceState,
    Origin,
    OriginKind,
    RemovalCause,
    Sender,
    SeriesRecord,
    StudyFilter,
    StudyRecord,
    StudyState,
)
from storage.search import (
    MOST_NAMED,
    SearchAnswer,
    answer_of,
    conditions_of,
    joined,
    names_statement,
    search_statement,
)
from storage.tables import contributions, instances, series, studies
from storage.visibility import may_see

_STUDY_COLUMNS = (
    studies.c.study_instance_uid,
    studies.c.patient_id,
    studies.c.patient_name,
    studies.c.accession_number,
    studies.c.study_date,
    studies.c.study_time,
    studies.c.study_description,
    studies.c.modalities,
    studies.c.number_of_series,
    studies.c.number_of_instances,
    studies.c.number_of_inputs,
    studies.c.state,
    studies.c.reason,
    studies.c.input_version,
    studies.c.decision_number,
    studies.c.first_received_at,
    studies.c.gathering_since,
    studies.c.last_instance_at,
    studies.c.state_since,
)
_SERIES_COLUMNS = (
    series.c.study_instance_uid,
    series.c.series_instance_uid,
    series.c.modality,
    series.c.series_number,
    series.c.series_description,
    series.c.number_of_instances,
    series.c.number_of_inputs,
)
_INSTANCE_COLUMNS = tuple(column for column in instances.c if column.name not in ("attributes", "patient"))
_FOR_ALL = Prepared(lambda _: _instances_in_order(instances.c.study_instance_uid == bindparam("study")))
_FOR_ALL_OF_SERIES = Prepared(
    lambda _: _instances_in_order(
        and_(
            instances.c.study_instance_uid == bindparam("study"),
            instances.c.series_instance_uid == bindparam("series"),
        )
    )
)
_ONE_INSTANCE = Prepared(lambda _: select(*_INSTANCE_COLUMNS).where(instances.c.sop_instance_uid == bindparam("uid")))
_ROLES = {role.value: role for role in InstanceRole}
_STATES = {state.value: state for state in InstanceState}


@dataclass(frozen=True)
class Totals:
    """How much the node keeps."""

    studies: int
    series: int
    instances: int
    bytes: int
    studies_by_state: dict[StudyState, int]


class Index:
    """Answers questions about what is kept, each from one short transaction."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def study(self, study_instance_uid: str, visible: StudyFilter = EVERYTHING) -> StudyRecord:
        """Give one study.

        Raises
        ------
        NotKept
            There is no such study, or the asker may not see it.
        """
        found = self._studies(studies.c.study_instance_uid == study_instance_uid, visible)
        if not found:
            raise NotKept("No such study is kept here.", study_instance_uid=study_instance_uid)
        return found[0]

    def studies(
        self,
        *,
        visible: StudyFilter = EVERYTHING,
        states: Iterable[StudyState] | None = None,
        limit: int | None = None,
        offset: int = 0,
    ) -> list[StudyRecord]:
        """Give studies, the one that arrived last first."""
        wanted = [] if states is None else [studies.c.state.in_([state.value for state in states])]
        return self._studies(and_(true(), *wanted), visible, limit=limit, offset=offset)

    def gathering(self) -> list[StudyRecord]:
        """Give the studies that may still grow or wait for their decision."""
        return self._studies(studies.c.state == StudyState.GATHERING.value, EVERYTHING)

    def studies_by_accession(self, accession_number: str, visible: StudyFilter = EVERYTHING) -> list[StudyRecord]:
        """Give the studies of one accession number."""
        return self._studies(studies.c.accession_number == accession_number, visible)

    def series_of(self, study_instance_uid: str, visible: StudyFilter = EVERYTHING) -> list[SeriesRecord]:
        """Give the series of a study by their number; none where there is no such study."""
        statement = (
            select(*_SERIES_COLUMNS)
            .where(series.c.study_instance_uid == study_instance_uid, may_see(visible, series.c.study_instance_uid))
            .order_by(_last(series.c.series_number), series.c.series_number, series.c.series_instance_uid)
        )
        return [SeriesRecord(**row._mapping) for row in self._fetch(statement)]

    def instances_of(
        self, study_instance_uid: str, series_instance_uid: str | None = None, *, visible: StudyFilter = EVERYTHING
    ) -> list[InstanceRecord]:
        """Give the instances of a study or of one of its series, by series number and instance number."""
        if visible.sender_peers is None:
            # A viewer waits for the first byte of a study of hundreds.
            statement = _FOR_ALL if series_instance_uid is None else _FOR_ALL_OF_SERIES
            with self._database.read() as connection:
                rows = statement.rows(connection, {"study": study_instance_uid, "series": series_instance_uid})
            return [_instance_record(row, datetime.fromisoformat(row.received_at)) for row in rows]
        wanted = [instances.c.study_instance_uid == study_instance_uid]
        if series_instance_uid is not None:
            wanted.append(instances.c.series_instance_uid == series_instance_uid)
        return self._instances(and_(*wanted), visible)

    def instance(self, sop_instance_uid: str, visible: StudyFilter = EVERYTHING) -> InstanceRecord:
        """Give one instance.

        Raises
        ------
        NotKept
            There is no such instance, or the asker may not see it.
        """
        if visible.sender_peers is None:
            # A viewer asks for the frames of hundreds of instances, one at a time.
            with self._database.read() as connection:
                rows = _ONE_INSTANCE.rows(connection, {"uid": sop_instance_uid})
            found = [_instance_record(row, datetime.fromisoformat(row.received_at)) for row in rows]
        else:
            found = self._instances(instances.c.sop_instance_uid == sop_instance_uid, visible)
        if not found:
            raise NotKept("No such instance is kept here.", sop_instance_uid=sop_instance_uid)
        return found[0]

    def instance_at_hand(self, sop_instance_uid: str, visible: StudyFilter = EVERYTHING) -> InstanceRecord | None:
        """Give one instance without waiting; None: ask `instance`, which tells whether there is such a one."""
        if visible.sender_peers is not None:
            return None
        rows = self._database.at_hand.rows(_ONE_INSTANCE, {"uid": sop_instance_uid})
        return _instance_record(rows[0], datetime.fromisoformat(rows[0].received_at)) if rows else None

    def inputs_of(self, study_instance_uid: str) -> list[InstanceRecord]:
        """Give what of a study is to be analysed."""
        return self._instances(_is_input(study_instance_uid), EVERYTHING)

    def digests_of(self, study_instance_uid: str) -> dict[str, str]:
        """Give the SHA-256 of the inputs of a study that count, and of those that retention alone removed."""
        counting = select(instances.c.sop_instance_uid, instances.c.sha256).where(_is_input(study_instance_uid))
        removed = removed_instances.c
        expired = (
            select(removed.sop_instance_uid, removed.sha256)
            .where(removed.study_instance_uid == study_instance_uid, removed.cause == RemovalCause.EXPIRED)
            .where(removed.sop_instance_uid.not_in(select(instances.c.sop_instance_uid)))
            .order_by(removed.number)
        )
        found = {row.sop_instance_uid: row.sha256 for row in self._fetch(expired)}
        return found | {row.sop_instance_uid: row.sha256 for row in self._fetch(counting)}

    def expired_inputs_of(self, study_instance_uid: str) -> int:
        """Count the inputs of a study that retention removed and that did not come again."""
        removed = removed_instances.c
        gone = select(func.count(removed.sop_instance_uid.distinct()).label("gone")).where(
            removed.study_instance_uid == study_instance_uid,
            removed.cause == RemovalCause.EXPIRED,
            removed.role == InstanceRole.INPUT,
            removed.sop_instance_uid.not_in(select(instances.c.sop_instance_uid)),
        )
        return int(self._fetch(gone)[0].gone)

    def patients_of(self, study_instance_uid: str) -> list[tuple[str, ...]]:
        """Say whom the inputs of a study are of: each distinct (ID, issuer, name, birth date, sex), normalised."""
        statement = select(instances.c.patient).distinct().where(_is_input(study_instance_uid))
        return sorted(tuple(json.loads(row.patient)) for row in self._fetch(statement))

    def senders_of(self, study_instance_uid: str, *, now: datetime, idle_after_s: float) -> list[Sender]:
        """Give who brought inputs of a study, the latest first.

        Parameters
        ----------
        idle_after_s
            Seconds without traffic after which an open association no longer counts as active.
        """
        seen = contributions.c
        statement = (
            select(
                *(seen.peer, seen.calling_ae_title, seen.called_ae_title, seen.host, seen.last_instance_at),
                associations.c.closed_at,
                associations.c.last_traffic_at,
            )
            .outerjoin_from(contributions, associations, seen.association_id == associations.c.association_id)
            .where(seen.study_instance_uid == study_instance_uid)
        )
        active_since = now - timedelta(seconds=idle_after_s)
        senders: dict[tuple[str, str, str, str], Sender] = {}
        for row in self._fetch(statement):
            who = (row.peer, row.calling_ae_title, row.called_ae_title, row.host)
            is_open = row.last_traffic_at is not None and row.closed_at is None
            active = is_open and row.last_traffic_at >= active_since
            before = senders.get(who)
            last_at = row.last_instance_at if before is None else max(before.last_instance_at, row.last_instance_at)
            senders[who] = Sender(*who, last_at, active or (before is not None and before.active))
        return sorted(senders.values(), key=lambda sender: sender.last_instance_at, reverse=True)

    def counts(self, visible: StudyFilter = EVERYTHING) -> Totals:
        """Say how much is kept."""
        by_state = (
            select(
                studies.c.state,
                func.count().label("studies"),
                func.sum(studies.c.number_of_series).label("series"),
                func.sum(studies.c.number_of_instances).label("instances"),
                func.sum(studies.c.size_bytes).label("bytes"),
            )
            .where(may_see(visible, studies.c.study_instance_uid))
            .group_by(studies.c.state)
        )
        rows = self._fetch(by_state)
        return Totals(
            studies=sum(row.studies for row in rows),
            series=sum(row.series for row in rows),
            instances=sum(row.instances for row in rows),
            bytes=int(sum(row.bytes for row in rows)),
            studies_by_state={StudyState(row.state): row.studies for row in rows},
        )

    def search(self, level: Level, query: Query, visible: StudyFilter = EVERYTHING) -> SearchAnswer:
        """Give what matches a query, as DICOM JSON; the study with the latest date first.

        Raises
        ------
        MalformedQuery
            A value cannot be matched as its attribute asks.

        Source: PS3.18 10.6, PS3.4 C.2.2.
        """
        dialect = self._database.engine.dialect.name
        by_name = names_statement(query, dialect=dialect)
        with self._database.read() as connection:
            among = None
            if by_name is not None:
                found = connection.execute(by_name).scalars().all()
                among = found if len(found) <= MOST_NAMED else None
            search = search_statement(level, query, visible, dialect=dialect, among=among)
            return answer_of(search, connection.execute(search.statement).all())

    def search_patients(self, query: Query, visible: StudyFilter = EVERYTHING) -> SearchAnswer:
        """Give the patients that match, as DICOM JSON, by Patient ID.

        Raises
        ------
        MalformedQuery
            A value cannot be matched as its attribute asks.
        """
        dialect = self._database.engine.dialect.name
        statement, unsupported = patients_statement(query, visible, dialect=dialect)
        return patients_answer(query, self._fetch(statement), unsupported)

    def instances_matching(self, query: Query, visible: StudyFilter = EVERYTHING) -> list[InstanceRecord]:
        """Give the instances that a query names, study by study, by series number and instance number.

        Results of other forms than the canonical one are among them only where series or instance are named.

        Raises
        ------
        MalformedQuery
            A value cannot be matched as its attribute asks.
        """
        conditions, _ = conditions_of(Level.INSTANCE, query, Matcher(self._database.engine.dialect.name))
        statement = (
            select(*_INSTANCE_COLUMNS)
            .select_from(joined(Level.INSTANCE))
            .where(*conditions, may_see(visible, instances.c.study_instance_uid))
            .order_by(
                instances.c.study_instance_uid,
                *(_last(series.c.series_number), series.c.series_number, instances.c.series_instance_uid),
                *(_last(instances.c.instance_number), instances.c.instance_number, instances.c.sop_instance_uid),
            )
            .limit(query.limit)
        )
        return [_instance_record(row) for row in self._fetch(statement)]

    def _studies(
        self, wanted: ColumnElement[bool], visible: StudyFilter, *, limit: int | None = None, offset: int = 0
    ) -> list[StudyRecord]:
        statement = (
            select(*_STUDY_COLUMNS)
            .where(wanted, may_see(visible, studies.c.study_instance_uid))
            .order_by(studies.c.last_instance_at.desc(), studies.c.study_instance_uid)
            .limit(limit)
            .offset(offset)
        )
        return [_study_record(row) for row in self._fetch(statement)]

    def _instances(self, wanted: ColumnElement[bool], visible: StudyFilter) -> list[InstanceRecord]:
        statement = _instances_in_order(and_(wanted, may_see(visible, instances.c.study_instance_uid)))
        return [_instance_record(row) for row in self._fetch(statement)]

    def _fetch(self, statement: Select[Any]) -> Sequence[Row[Any]]:
        with self._database.read() as connection:
            return connection.execute(statement).all()


def _instances_in_order(wanted: ColumnElement[bool]) -> Select[Any]:
    """Give instances by series number and instance number."""
    return (
        select(*_INSTANCE_COLUMNS)
        .join_from(
            instances,
            series,
            and_(
                instances.c.study_instance_uid == series.c.study_instance_uid,
                instances.c.series_instance_uid == series.c.series_instance_uid,
            ),
        )
        .where(wanted)
        .order_by(
            *(_last(series.c.series_number), series.c.series_number, instances.c.series_instance_uid),
            *(_last(instances.c.instance_number), instances.c.instance_number, instances.c.sop_instance_uid),
        )
    )


def _last(column: ColumnElement[Any]) -> ColumnElement[bool]:
    """Order what has no number after what has one, on both engines."""
    return column.is_(None)


def _is_input(study_instance_uid: str) -> ColumnElement[bool]:
    return and_(
        instances.c.study_instance_uid == study_instance_uid,
        instances.c.role == InstanceRole.INPUT.value,
        instances.c.state == InstanceState.FOLLOWS_STUDY.value,
    )


def _study_record(row: Row[Any]) -> StudyRecord:
    values = dict(row._mapping)
    values["modalities"] = tuple(filter(None, row.modalities.split("\\")))
    values["state"] = StudyState(row.state)
    return StudyRecord(**values)


def _instance_record(row: Any, received_at: datetime | None = None) -> InstanceRecord:
    return InstanceRecord(
        study_instance_uid=row.study_instance_uid,
        series_instance_uid=row.series_instance_uid,
        sop_instance_uid=row.sop_instance_uid,
        sop_class_uid=row.sop_class_uid,
        transfer_syntax_uid=row.transfer_syntax_uid,
        instance_number=row.instance_number,
        number_of_frames=row.number_of_frames,
        role=_ROLES[row.role],
        state=_STATES[row.state],
        reason=row.reason,
        path=row.path,
        size=row.size,
        sha256=row.sha256,
        received_at=received_at or row.received_at,
        origin=_origin(
            row.origin_kind, row.peer, row.calling_ae_title, row.called_ae_title, row.host, row.association_id
        ),
    )


@lru_cache(maxsize=256)
def _origin(kind: str, peer: str, calling: str, called: str, host: str, association_id: str | None) -> Origin:
    """Give where instances came from; those of an association, hundreds of them, came from one place."""
    return Origin(OriginKind(kind), peer, calling, called, host, association_id)
