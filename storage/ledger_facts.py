"""Everything that is kept of some studies, read at once: what the account of the ledger is judged from."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, func, select

from storage import tables
from storage.deliveries import records_of
from storage.job_book import record
from storage.records import DeliveryRecord, JobRecord, JobState
from storage.turns import job_turn


@dataclass(frozen=True)
class ResultFact:
    """One named result object."""

    sop_instance_uid: str
    run_key: str
    form: str
    kept: bool
    """Its instance is kept, not only its name reserved."""
    state: str
    reason: str


@dataclass(frozen=True)
class StudyFacts:
    """All rows of one study."""

    study: Row[Any]
    decided: bool
    """The current decision is written down."""
    instances: Sequence[Row[Any]]
    variants: Sequence[Row[Any]]
    jobs: Sequence[JobRecord]
    turns: Mapping[str, str]
    """Job → the turn that it stands on."""
    results: Sequence[ResultFact]
    deliveries: Sequence[DeliveryRecord]

    @property
    def uid(self) -> str:
        """The Study Instance UID."""
        uid: str = self.study.study_instance_uid
        return uid

    @property
    def current_jobs(self) -> list[JobRecord]:
        """Jobs of the current decision."""
        return [job for job in self.jobs if job.decision_number == self.study.decision_number]


def read_facts(connection: Connection, study_instance_uids: Sequence[str]) -> list[StudyFacts]:
    """Read all rows of some studies."""
    of = _Reader(connection, study_instance_uids)
    instances, variants = of.by_study(tables.instances), of.variants()
    jobs, turns = of.jobs(), of.turns()
    results, deliveries = of.results(), of.deliveries()
    decided = {(row.study_instance_uid, row.decision_number) for row in of.rows(tables.decisions)}
    return [
        StudyFacts(
            study=study,
            decided=(study.study_instance_uid, study.decision_number) in decided,
            instances=instances[study.study_instance_uid],
            variants=variants[study.study_instance_uid],
            jobs=jobs[study.study_instance_uid],
            turns=turns,
            results=results[study.study_instance_uid],
            deliveries=deliveries[study.study_instance_uid],
        )
        for study in of.rows(tables.studies)
    ]


class _Reader:
    def __init__(self, connection: Connection, study_instance_uids: Sequence[str]) -> None:
        self._connection = connection
        self._uids = study_instance_uids

    def rows(self, table: Any) -> Sequence[Row[Any]]:
        wanted = select(table).where(table.c.study_instance_uid.in_(self._uids))
        return self._connection.execute(wanted).all()

    def by_study(self, table: Any) -> Mapping[str, list[Row[Any]]]:
        return _grouped(self.rows(table))

    def variants(self) -> Mapping[str, list[Row[Any]]]:
        instances, variants = tables.instances.c, tables.variants
        rows = self._connection.execute(
            select(variants, instances.study_instance_uid)
            .join(tables.instances, instances.sop_instance_uid == variants.c.sop_instance_uid)
            .where(instances.study_instance_uid.in_(self._uids))
        ).all()
        return _grouped(rows)

    def jobs(self) -> Mapping[str, list[JobRecord]]:
        found: defaultdict[str, list[JobRecord]] = defaultdict(list)
        for row in self.rows(tables.jobs):
            found[row.study_instance_uid].append(record(row))
        return found

    def turns(self) -> Mapping[str, str]:
        jobs, moved = tables.jobs.c, tables.transitions.c
        rows = self._connection.execute(
            select(jobs.job_id, func.count())
            .join(tables.transitions, moved.subject_id == jobs.job_id)
            .where(jobs.study_instance_uid.in_(self._uids), moved.subject == "job", moved.to_state == JobState.QUEUED)
            .group_by(jobs.job_id)
        ).all()
        return {job_id: job_turn(job_id, runs) for job_id, runs in rows}

    def results(self) -> Mapping[str, list[ResultFact]]:
        results, instances = tables.results.c, tables.instances.c
        rows = self._connection.execute(
            select(
                results.study_instance_uid,
                results.sop_instance_uid,
                results.run_key,
                results.form,
                results.state,
                results.reason,
                instances.sop_instance_uid.label("instance"),
            )
            .join(tables.instances, instances.sop_instance_uid == results.sop_instance_uid, isouter=True)
            .where(results.study_instance_uid.in_(self._uids))
        ).all()
        found: defaultdict[str, list[ResultFact]] = defaultdict(list)
        for row in rows:
            kept = row.instance is not None
            fact = ResultFact(row.sop_instance_uid, row.run_key, row.form, kept, row.state, row.reason)
            found[row.study_instance_uid].append(fact)
        return found

    def deliveries(self) -> Mapping[str, list[DeliveryRecord]]:
        found: defaultdict[str, list[DeliveryRecord]] = defaultdict(list)
        for delivery in records_of(self._connection, self.rows(tables.deliveries)):
            found[delivery.study_instance_uid].append(delivery)
        return found


def _grouped(rows: Iterable[Row[Any]]) -> Mapping[str, list[Row[Any]]]:
    found: defaultdict[str, list[Row[Any]]] = defaultdict(list)
    for row in rows:
        found[row.study_instance_uid].append(row)
    return found
