"""Arrivals that only add to series which this process has just written to.

Most instances follow others of their series. What is known of them is tried, not looked up: each statement says what it
expects to find, and where one finds something else all is undone and done again by `record_arrivals`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sqlalchemy import Connection, Integer, bindparam, literal_column, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.sql import Executable

from storage.arrivals import (
    INSERT_PENDING,
    RAISE_SERIES,
    Arrival,
    instance_values,
    note_contributions,
    open_values,
)
from storage.prepared import Prepared, stamp
from storage.records import InstanceRole, Kept, Outcome, StudyState
from storage.tables import instances, studies

#: Series that are remembered; more begin anew.
_MOST_REMEMBERED = 1000


class NotAsRemembered(Exception):
    """The database holds something else than expected; what the transaction did so far is to be undone."""


class Continuations:
    """Remembers which series are being written to; for one writer at a time."""

    def __init__(self) -> None:
        self._modalities: dict[tuple[str, str, str], str] = {}

    def record(self, connection: Connection, arrivals: Sequence[Arrival]) -> list[Kept] | None:
        """Write the rows of arrivals that all continue series; None: they do not, and nothing was done.

        Raises
        ------
        NotAsRemembered
            An instance is kept already, or a study has changed.
        """
        expected: dict[str, str] = {}
        for arrival in arrivals:
            modalities = self._modalities.get(_series_of(arrival))
            if modalities is None or arrival.role is not InstanceRole.INPUT:
                return None
            if expected.setdefault(arrival.study_instance_uid, modalities) != modalities:
                return None
        try:
            _add(connection, arrivals, expected)
        except NotAsRemembered:
            for arrival in arrivals:
                self._modalities.pop(_series_of(arrival), None)
            raise
        return [arrival.answer(Outcome.KEPT, InstanceRole.INPUT, arrival.path) for arrival in arrivals]

    def remember(self, connection: Connection, arrivals: Sequence[Arrival], kept: Sequence[Kept]) -> None:
        """Take note of the series of arrivals that were just recorded, where all were new."""
        if any(each.outcome is not Outcome.KEPT or each.role is not InstanceRole.INPUT for each in kept):
            return
        if len(self._modalities) + len(arrivals) > _MOST_REMEMBERED:
            self._modalities.clear()
        found: dict[str, str] = {}
        for arrival in arrivals:
            study = arrival.study_instance_uid
            if study not in found:
                (row,) = _SELECT_MODALITIES.rows(connection, {"uid": study})
                found[study] = row.modalities
            self._modalities[_series_of(arrival)] = found[study]


def _series_of(arrival: Arrival) -> tuple[str, str, str]:
    """Name a series, with a modality of its: another one would have to be noted in the study's row."""
    return arrival.study_instance_uid, arrival.series_instance_uid, arrival.header.text("Modality")


def _add(connection: Connection, arrivals: Sequence[Arrival], expected: Mapping[str, str]) -> None:
    """Write the rows, the studies first and in one order, as `record_arrivals` locks them."""
    of_studies: dict[str, list[Arrival]] = {}
    of_series: dict[tuple[str, str], int] = {}
    for arrival in arrivals:
        study, uid = arrival.study_instance_uid, arrival.series_instance_uid
        of_studies.setdefault(study, []).append(arrival)
        of_series[study, uid] = of_series.get((study, uid), 0) + 1
    more = [
        {
            "uid": study,
            "expected": expected[study],
            "state": StudyState.GATHERING.value,
            "more": len(group),
            "bytes": sum(arrival.size for arrival in group),
            "at": stamp(max(arrival.received_at for arrival in group)),
        }
        for study, group in sorted(of_studies.items())
    ]
    _expect(_RAISE_STUDY.change_many(connection, more), len(more))
    counts = [
        {"study": study, "series": uid, "instances": count, "inputs": count}
        for (study, uid), count in sorted(of_series.items())
    ]
    _expect(RAISE_SERIES.change_many(connection, counts), len(counts))
    rows = [instance_values(arrival, InstanceRole.INPUT) for arrival in arrivals]
    _expect(_INSERT_NEW.change_many(connection, rows), len(rows))
    INSERT_PENDING.change_many(connection, [{"sop_instance_uid": each.sop_instance_uid} for each in arrivals])
    note_contributions(connection, arrivals)


def _expect(changed: int, expected: int) -> None:
    if changed != expected:
        raise NotAsRemembered


def _insert_new(dialect: str) -> Executable:
    make = postgresql.insert if dialect == "postgresql" else sqlite.insert
    return make(instances).values(open_values(instances.c)).on_conflict_do_nothing()


_more = bindparam("more", type_=Integer)
_RAISE_STUDY = Prepared(
    lambda _: (
        update(studies)
        .where(
            studies.c.study_instance_uid == bindparam("uid"),
            studies.c.state == bindparam("state"),
            studies.c.number_of_inputs > literal_column("0"),
            studies.c.modalities == bindparam("expected"),
        )
        .values(
            number_of_instances=studies.c.number_of_instances + _more,
            number_of_inputs=studies.c.number_of_inputs + _more,
            input_version=studies.c.input_version + _more,
            size_bytes=studies.c.size_bytes + bindparam("bytes", type_=studies.c.size_bytes.type),
            last_instance_at=bindparam("at"),
        )
    )
)
_INSERT_NEW = Prepared(_insert_new)
_SELECT_MODALITIES = Prepared(
    lambda _: select(studies.c.modalities).where(studies.c.study_instance_uid == bindparam("uid"))
)
