"""The account: every kept instance and every study has a state and a reason that its facts bear out, or is listed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy import Column, Row, Table, func, select

from storage import tables
from storage.blobs import BlobStore
from storage.correction_tables import rejection_notes
from storage.database import Database
from storage.deliveries import current_attempt
from storage.errors import NotKept
from storage.job_book import FINAL
from storage.ledger_facts import ResultFact, StudyFacts, read_facts
from storage.records import (
    DeliveryRecord,
    DeliveryState,
    InstanceRole,
    InstanceState,
    ItemState,
    JobRecord,
    JobState,
    ResultState,
    StudyState,
    VariantState,
)
from storage.turns import ALIVE, TurnState, delivery_turn
from storage.visibility import is_note

if TYPE_CHECKING:
    from storage.jobs import Queue

#: Studies read in one go; a short read each, so that the log of the database does not grow.
_PAGE = 100

#: What is counted, and which time says since when something is there.
_COUNTED: tuple[tuple[str, Table, Column[Any]], ...] = (
    ("study", tables.studies, tables.studies.c.state_since),
    ("instance", tables.instances, tables.instances.c.received_at),
    ("variant", tables.variants, tables.variants.c.received_at),
    ("job", tables.jobs, tables.jobs.c.created_at),
    ("result", tables.results, tables.results.c.state_since),
    ("delivery", tables.deliveries, tables.deliveries.c.created_at),
    ("commitment", tables.commitments, tables.commitments.c.requested_at),
    ("note", rejection_notes, rejection_notes.c.received_at),
)

#: Results that were taken back, or removed after they were delivered, need not be here.
_GONE = frozenset({ResultState.RETRACTED, ResultState.EXPIRED})

_WORKING = frozenset({JobState.QUEUED, JobState.RUNNING})


@dataclass(frozen=True)
class Unexplained:
    """Something whose state its facts do not bear out."""

    subject: str
    """`study`, `instance`, `variant`, `job`, `result` or `delivery`."""
    subject_id: str
    why: str


@dataclass(frozen=True)
class Account:
    """What is kept, where it stands, and what cannot be explained."""

    counts: Mapping[str, Mapping[str, int]]
    """Subject → state → how many."""
    oldest: Mapping[str, Mapping[str, datetime]]
    """Subject → state → since when the oldest of them is there."""
    unexplained: tuple[Unexplained, ...]


@dataclass(frozen=True)
class Patience:
    """How long something may stand where it should not stay."""

    gathering_at_most_s: float = 1800.0
    """Seconds of gathering after which a study is decided as it stands."""
    margin_s: float = 120.0
    """Seconds that the courier may take over that, and for classing a variant."""


SHIPPED_PATIENCE = Patience()


def account(
    database: Database,
    blobs: BlobStore,
    now: datetime,
    *,
    queue: Queue | None = None,
    patience: Patience = SHIPPED_PATIENCE,
    check_files: bool = True,
) -> Account:
    """Account for every study and instance, and for jobs, deliveries and variants.

    What does not add up is looked at twice, for the node works on meanwhile.

    Parameters
    ----------
    queue
        Where given, work in hand must be known to it.
    check_files
        Whether the file of each instance is looked for, and its size compared.
    """
    examiner = _Examiner(now, patience, blobs if check_files else None, queue)
    unexplained: list[Unexplained] = []
    for uids in _pages(database):
        suspects = examiner.examine(_facts(database, uids))
        if suspects:
            again = examiner.examine(_facts(database, uids))
            unexplained += [suspect for suspect in again if suspect in suspects]
    counts, oldest = _totals(database)
    return Account(counts, oldest, tuple(unexplained))


def _facts(database: Database, uids: list[str]) -> list[StudyFacts]:
    with database.read() as connection:
        return read_facts(connection, uids)


def _pages(database: Database) -> Iterator[list[str]]:
    uid = tables.studies.c.study_instance_uid
    last = ""
    while True:
        with database.read() as connection:
            page = list(connection.execute(select(uid).where(uid > last).order_by(uid).limit(_PAGE)).scalars().all())
        if not page:
            return
        yield page
        last = page[-1]


def _totals(database: Database) -> tuple[dict[str, dict[str, int]], dict[str, dict[str, datetime]]]:
    counts: dict[str, dict[str, int]] = {}
    oldest: dict[str, dict[str, datetime]] = {}
    with database.read() as connection:
        for subject, table, since in _COUNTED:
            rows = connection.execute(
                select(table.c.state, func.count(), func.min(since)).group_by(table.c.state).order_by(table.c.state)
            ).all()
            counts[subject] = {state: count for state, count, _ in rows}
            oldest[subject] = {state: earliest for state, _, earliest in rows}
    return counts, oldest


class _Examiner:
    """Judges facts; each rule gives why something is unexplained, empty where it is explained."""

    def __init__(self, now: datetime, patience: Patience, files: BlobStore | None, queue: Queue | None) -> None:
        self._now = now
        self._patience = patience
        self._files = files
        self._queue = queue

    def examine(self, page: list[StudyFacts]) -> list[Unexplained]:
        """Give what is unexplained of some studies."""
        found: list[Unexplained] = []
        turns = self._turn_states(page)
        for facts in page:
            found += _told("study", facts.uid, self._study(facts))
            ours = {result.sop_instance_uid for result in facts.results}
            for row in facts.instances:
                found += _told("instance", row.sop_instance_uid, self._instance(row, ours))
            for row in facts.variants:
                found += _told("variant", f"{row.sop_instance_uid} {row.sha256}", self._variant(row))
            for job in facts.jobs:
                found += _told("job", job.job_id, _job(job, turns.get(facts.turns.get(job.job_id, ""))))
            for result in facts.results:
                found += _told("result", result.sop_instance_uid, _result(result))
            for delivery in facts.deliveries:
                found += _told("delivery", delivery.delivery_id, _delivery(delivery, turns.get(_turn_of(delivery))))
        return found

    def _turn_states(self, page: list[StudyFacts]) -> Mapping[str, TurnState]:
        """Ask the queue for the turns of what is in work; empty where there is no queue to ask."""
        if self._queue is None:
            return {}
        turns = [facts.turns.get(job.job_id, "") for facts in page for job in facts.jobs if job.state in _WORKING]
        turns += [_turn_of(delivery) for facts in page for delivery in facts.deliveries if _is_open(delivery)]
        return self._queue.states(turns)

    def _study(self, facts: StudyFacts) -> str:
        study, state = facts.study, StudyState(facts.study.state)
        if state is StudyState.DOCUMENTS:
            return f"It holds {study.number_of_inputs} inputs and gathers none." if study.number_of_inputs else ""
        if state is StudyState.GATHERING:
            at_most_s = self._patience.gathering_at_most_s + self._patience.margin_s
            gathers = self._now - study.gathering_since
            return f"It has gathered for {gathers}." if gathers > timedelta(seconds=at_most_s) else ""
        if not study.reason and state is not StudyState.ANALYSING:
            return f"It is {state} without a reason."
        if state is not StudyState.QUARANTINED and not facts.decided:
            return f"It is {state} without a decision."
        return _STUDY_RULES[state](facts)

    def _instance(self, row: Row[Any], ours: set[str]) -> str:
        if row.state != InstanceState.FOLLOWS_STUDY and not row.reason:
            return f"It is {row.state} without a reason."
        if row.role == InstanceRole.RESULT and row.sop_instance_uid not in ours:
            return "It is kept as a result and belongs to no run."
        if self._files is None:
            return ""
        try:
            size = self._files.size(row.path)
        except NotKept:
            return "Its file is missing."
        return f"Its file has {size} bytes instead of {row.size}." if size != row.size else ""

    def _variant(self, row: Row[Any]) -> str:
        if row.state == VariantState.UNCLASSED:
            waits = self._now - row.received_at
            return f"It was not classed for {waits}." if waits > timedelta(seconds=self._patience.margin_s) else ""
        return "" if row.reason else f"It is {row.state} without a reason."


def _told(subject: str, subject_id: str, why: str) -> list[Unexplained]:
    return [Unexplained(subject, subject_id, why)] if why else []


def _is_open(delivery: DeliveryRecord) -> bool:
    return delivery.state in (DeliveryState.WAITING, DeliveryState.SENDING)


def _turn_of(delivery: DeliveryRecord) -> str:
    return delivery_turn(delivery.delivery_id, current_attempt(delivery.state, delivery.attempts))


def _job(job: JobRecord, turn: TurnState | None) -> str:
    if job.state in _WORKING:
        return f"It is {job.state}, and its turn in the queue is {turn}." if turn not in ALIVE | {None} else ""
    return "" if job.reason or job.state is JobState.DONE else f"It is {job.state} without a reason."


def _result(result: ResultFact) -> str:
    if result.state == ResultState.NAMED:
        return "It is kept and counts as named alone." if result.kept else ""
    if result.state == ResultState.KEPT:
        return "" if result.kept else "It counts as kept and is not here."
    return "" if result.reason else f"It is {result.state} without a reason."


def _delivery(delivery: DeliveryRecord, turn: TurnState | None) -> str:
    if _is_open(delivery):
        return f"It is {delivery.state}, and its turn in the queue is {turn}." if turn not in ALIVE | {None} else ""
    if delivery.state in (DeliveryState.DELIVERED, DeliveryState.CONFIRMED):
        states = {item.state for item in delivery.items}
        taken = ItemState.ACCEPTED in states and ItemState.REFUSED not in states
        return "" if taken else f"It is {delivery.state} though not accepted."
    return "" if delivery.reason else f"It is {delivery.state} without a reason."


def _analysing(facts: StudyFacts) -> str:
    return "" if any(job.state in _WORKING for job in facts.current_jobs) else "No job of its decision is in work."


def _waiting(facts: StudyFacts) -> str:
    waits = any(job.state is JobState.WAITING_FOR_ENGINE for job in facts.current_jobs)
    return "" if waits else "No job of its decision waits for an engine."


def _failed(facts: StudyFacts) -> str:
    failed = any(job.state is JobState.FAILED for job in facts.current_jobs)
    return "" if failed else "No job of its decision failed."


def _nothing_to_do(facts: StudyFacts) -> str:
    return "Its decision has jobs." if facts.current_jobs else ""


def _answered(facts: StudyFacts) -> str:
    """Every job ended; each run has kept results; each destination was asked for."""
    if not facts.current_jobs:
        return "Its decision has no jobs."
    return next((why for job in facts.current_jobs if (why := _unanswered(facts, job))), "")


def _unanswered(facts: StudyFacts, job: JobRecord) -> str:
    if job.state not in FINAL:
        return f"{job.job_id} is {job.state}."
    if job.state not in (JobState.DONE, JobState.DECLINED):
        return ""
    if not job.run_keys and job.state is JobState.DONE:
        return f"{job.job_id} came to no run."
    return next((why for run_key in job.run_keys if (why := _undelivered(facts, job, run_key))), "")


def _undelivered(facts: StudyFacts, job: JobRecord, run_key: str) -> str:
    results = [result for result in facts.results if result.run_key == run_key and not is_note(result.form)]
    if not results:
        return f"Run {run_key} has no results."
    if missing := [result.sop_instance_uid for result in results if not result.kept and result.state not in _GONE]:
        return f"Result {missing[0]} is not kept."
    if all(result.state == ResultState.RETRACTED for result in results):
        return ""
    sets = (delivery for delivery in facts.deliveries if not is_note(delivery.form))
    asked = {delivery.destination for delivery in sets if delivery.run_key == run_key}
    wanted = set(job.deliver_to) if job.state is JobState.DONE or job.deliver_refusals else set()
    unasked = sorted(wanted - asked)
    return f"Nobody asked for the delivery of run {run_key} to {unasked[0]}." if unasked else ""


_STUDY_RULES: Mapping[StudyState, Callable[[StudyFacts], str]] = {
    StudyState.ANALYSING: _analysing,
    StudyState.WAITING_FOR_ENGINE: _waiting,
    StudyState.UNMATCHED: _nothing_to_do,
    StudyState.ANSWERED: _answered,
    StudyState.DECLINED: _answered,
    StudyState.FAILED: _failed,
    StudyState.QUARANTINED: lambda _: "",
}
