"""Findings kept once, and the names of results, on both databases."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from storage.blobs import LocalBlobs
from storage.database import Database
from storage.errors import NotKept
from storage.findings_store import FindingsStore
from storage.records import FindingsRecord
from storage.results import ResultBook, UidTaken
from tests.builders.work import at, put_findings, put_gathering_study, results_of


@pytest.fixture
def findings(database: Database, blobs: LocalBlobs) -> FindingsStore:
    return FindingsStore(database, blobs)


@pytest.fixture
def results(database: Database) -> ResultBook:
    return ResultBook(database)


def test_findings_are_made_once(database: Database, findings: FindingsStore) -> None:
    uid = put_gathering_study(database)
    made = put_findings(findings, uid, "key1", content=b"first")

    again = put_findings(findings, uid, "key1", content=b"second")

    assert again == made
    assert (made.content, made.revision, made.facts) == (b"first", 1, {"inputs": {}})


def test_of_two_who_find_at_once_both_get_what_was_kept_first(
    database: Database, findings: FindingsStore, tmp_path: Path
) -> None:
    uid = put_gathering_study(database)
    both_asked = threading.Barrier(2)

    def find(content: bytes) -> FindingsRecord:
        def make() -> bytes:
            both_asked.wait(timeout=10)
            return content

        return findings.once(
            "key1",
            study_instance_uid=uid,
            engine="lung",
            task="default",
            facts={},
            at=at(1 if content == b"one" else 2),
            make=make,
        )

    with ThreadPoolExecutor(2) as pool:
        one, other = pool.map(find, [b"one", b"other"])

    assert one == other
    assert one.analysed_at == at(1 if one.content == b"one" else 2)
    assert len(list((tmp_path / "blobs" / "findings").rglob("*.bin"))) == 1


def test_revisions_count_distinct_runs_of_one_engine_and_task(database: Database, findings: FindingsStore) -> None:
    uid = put_gathering_study(database)

    revisions = [
        put_findings(findings, uid, "key1").revision,
        put_findings(findings, uid, "key2").revision,
        put_findings(findings, uid, "key3", task="other").revision,
        put_findings(findings, uid, "key1").revision,
    ]

    assert revisions == [1, 2, 1, 1]


def test_runs_that_end_at_once_get_different_revisions(database: Database, findings: FindingsStore) -> None:
    uid = put_gathering_study(database)

    with ThreadPoolExecutor(8) as pool:
        records = list(pool.map(lambda number: put_findings(findings, uid, f"key{number}"), range(8)))

    assert sorted(record.revision for record in records) == list(range(1, 9))


def test_a_revision_knows_the_one_before(database: Database, findings: FindingsStore) -> None:
    uid = put_gathering_study(database)
    first, second = put_findings(findings, uid, "key1"), put_findings(findings, uid, "key2")

    assert findings.predecessor(second) == first
    assert findings.predecessor(first) is None
    assert findings.latest(uid, "classical-lung", "default") == second
    assert findings.latest(uid, "medversa", "default") is None
    assert findings.of("unknown") is None


def test_a_failed_analysis_leaves_no_findings(database: Database, findings: FindingsStore) -> None:
    uid = put_gathering_study(database)

    def fail() -> bytes:
        raise ValueError("no answer")

    with pytest.raises(ValueError, match="no answer"):
        findings.once("key1", study_instance_uid=uid, engine="lung", task="default", facts={}, at=at(1), make=fail)

    assert findings.of("key1") is None


def test_results_are_ours_before_they_are_kept(
    database: Database, findings: FindingsStore, results: ResultBook
) -> None:
    record = put_findings(findings, put_gathering_study(database), "key1")
    named = results_of(record)

    results.reserve(named)
    results.reserve(named)

    assert results.of_run("key1") == named
    assert all(results.is_ours(result.sop_instance_uid) for result in named)
    assert not results.is_ours("1.2.3")


def test_results_of_an_earlier_revision_are_not_current(
    database: Database, findings: FindingsStore, results: ResultBook
) -> None:
    uid = put_gathering_study(database)
    for key in ("key1", "key2"):
        results.reserve(results_of(put_findings(findings, uid, key)))

    assert [(result.revision, result.kind, result.current) for result in results.of_study(uid)] == [
        (1, "seg", False),
        (1, "sr", False),
        (2, "seg", True),
        (2, "sr", True),
    ]


def test_a_result_needs_findings(database: Database, findings: FindingsStore, results: ResultBook) -> None:
    record = put_findings(findings, put_gathering_study(database), "key1")
    stray = replace(results_of(record)[0], run_key="never")

    with pytest.raises(NotKept):
        results.reserve([stray])


def test_one_uid_names_one_result(database: Database, findings: FindingsStore, results: ResultBook) -> None:
    record = put_findings(findings, put_gathering_study(database), "key1")
    seg, sr = results_of(record)
    results.reserve([seg])

    with pytest.raises(UidTaken):
        results.reserve([replace(sr, sop_instance_uid=seg.sop_instance_uid)])


def test_results_that_two_reserve_at_once_are_reserved_once(
    database: Database, findings: FindingsStore, results: ResultBook
) -> None:
    named = results_of(put_findings(findings, put_gathering_study(database), "key1"))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: results.reserve(named), range(4)))

    assert results.of_run("key1") == named
