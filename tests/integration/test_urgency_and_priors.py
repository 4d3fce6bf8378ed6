"""What the courier learns and keeps: urgency, pauses, requests for earlier studies, and when jobs may start."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from configs.routes import Priority
from storage.database import Database
from storage.decisions import job_id_of, take
from storage.job_book import JobBook
from storage.jobs import Queue
from storage.prior_book import MOST_ATTEMPTS, PriorBook, PriorState
from storage.records import JobRecord, StudyState, WantedPriors
from storage.turns import TurnState
from storage.urgency import Pauses, Priorities
from tests.builders.work import NOON, at, decision, new_job, put_gathering_study, uid_of

PRIORS = WantedPriors("chest-ct", '{"from": ["pacs"], "modalities": ["CT"]}')


def put(
    database: Database, queue: Queue, number: int, *, second: float, priority: Priority = Priority.ROUTINE
) -> JobRecord:
    """Decide on a study of a rule that may start two jobs an hour; give its job."""
    uid = put_gathering_study(database, uid_of(number))
    job = replace(new_job(), at_most_per_hour=2, priority=priority)
    assert take(database, queue, decision(uid, job, when=at(second)), to=StudyState.ANALYSING, reason="Complete.")
    return JobBook(database).job(job_id_of(uid, 1, "classical-lung"))


def test_a_rule_starts_no_more_jobs_in_an_hour_than_it_may(database: Database, queue: Queue) -> None:
    starts = [put(database, queue, number, second=number * 60).not_before for number in range(1, 6)]
    assert starts == [None, None, at(3660), at(3720), at(7260)]
    third = JobBook(database).job(job_id_of(uid_of(3), 1, "classical-lung"))
    assert third.reason.startswith("Waits until 2")
    assert third.reason.endswith('UTC: rule "chest-ct" starts at most 2 jobs in an hour.')
    assert queue.states([third.job_id]) == {third.job_id: TurnState.QUEUED}


def test_a_job_that_comes_when_the_hour_is_over_starts_at_once(database: Database, queue: Queue) -> None:
    for number in (1, 2):
        put(database, queue, number, second=number)
    assert put(database, queue, 3, second=3602).not_before is None


def test_what_is_urgent_is_held_back_by_no_rule(database: Database, queue: Queue) -> None:
    for number in (1, 2):
        put(database, queue, number, second=number)
    urgent = put(database, queue, 3, second=10, priority=Priority.STAT)
    assert (urgent.not_before, urgent.priority) == (None, Priority.STAT)


def test_each_source_has_one_word_on_the_urgency_of_a_study(database: Database) -> None:
    priorities = Priorities(database)
    priorities.say("1.2.3", "ups:1", Priority.LOW, NOON)
    priorities.say("1.2.3", "worklist:ris", Priority.HIGH, NOON)
    priorities.say("1.2.3", "ups:1", Priority.STAT, at(1))
    assert priorities.of("1.2.3") == {"ups:1": Priority.STAT, "worklist:ris": Priority.HIGH}
    assert priorities.of("1.2.4") == {}


def test_a_sender_is_known_by_the_longest_pause_of_its_latest_studies(database: Database) -> None:
    pauses = Pauses(database)
    pauses.note("1.0", {("ct1", "CT1"): 50.0, ("mr1", "MR1"): 3.0}, at(0))
    assert pauses.learned(at(1)) == {("ct1", "CT1"): 50.0, ("mr1", "MR1"): 3.0}
    pauses.note("1.0", {("ct1", "CT1"): 55.0}, at(2))  # reopened by a late image
    assert pauses.learned(at(3))[("ct1", "CT1")] == 55.0
    for number in range(1, 21):
        pauses.note(f"1.{number}", {("ct1", "CT1"): 1.0}, at(10 + number))
    assert pauses.learned(at(60))[("ct1", "CT1")] == 1.0  # the long pause was 20 studies ago
    assert pauses.learned(at(60) + timedelta(days=31)) == {}


def test_priors_are_asked_for_once_for_each_rule_with_the_decision(database: Database, queue: Queue) -> None:
    uid = put_gathering_study(database)
    asked = replace(decision(uid, new_job()), priors=(PRIORS,))
    assert take(database, queue, asked, to=StudyState.ANALYSING, reason="Complete.")
    book = PriorBook(database)
    (fetch,) = book.due(NOON, limit=10)
    assert (fetch.study_instance_uid, fetch.route, fetch.state) == (uid, "chest-ct", PriorState.WAITING)
    book.again(fetch, "pacs is away.", NOON)
    assert book.due(at(29), limit=10) == []
    (again,) = book.due(at(30), limit=10)
    assert (again.attempts, again.reason) == (1, "pacs is away.")
    book.end(again, PriorState.DONE, "2 studies fetched.", at(31))
    assert book.due(at(10_000), limit=10) == []
    (ended,) = book.of_study(uid)
    assert (ended.state, ended.reason, ended.ended_at) == (PriorState.DONE, "2 studies fetched.", at(31))


def test_a_request_for_priors_is_given_up_in_the_end(database: Database, queue: Queue) -> None:
    uid = put_gathering_study(database)
    take(database, queue, replace(decision(uid, new_job()), priors=(PRIORS,)), to=StudyState.ANALYSING, reason="x.")
    book, now = PriorBook(database), NOON
    for _ in range(MOST_ATTEMPTS):
        now += timedelta(hours=2)
        (fetch,) = book.due(now, limit=10)
        book.again(fetch, "pacs is away.", now)
    (given_up,) = book.of_study(uid)
    assert given_up.state is PriorState.FAILED
    assert given_up.reason == f"Given up after {MOST_ATTEMPTS} attempts. pacs is away."


def test_a_study_counts_as_fetched_only_while_nobody_else_sent_it(database: Database) -> None:
    book = PriorBook(database)
    book.expect("1.2.9", "1.2.3", "pacs", NOON)
    fetched = book.fetched("1.2.9")
    assert fetched is not None
    assert (fetched.for_study, fetched.peer) == ("1.2.3", "pacs")
    assert book.fetched("1.2.3") is None
