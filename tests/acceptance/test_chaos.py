"""Short runs of what `make chaos` does at length. A smaller count is never called the same claim."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.chaos.audit import sqlite_is_sound
from tests.chaos.fuzz import fuzz
from tests.chaos.ingest import ingest_under_kills
from tests.chaos.network import cut_connections, many_connections, refuse_many, slow_peers
from tests.chaos.results import results_under_kills
from tests.chaos.storm import duplicate_storm

pytestmark = pytest.mark.timeout(400)

SEED = int(os.environ.get("CHAOS_SEED", "20261124"))


def test_nothing_acknowledged_is_lost_when_the_node_is_killed_during_ingest(tmp_path: Path) -> None:
    outcome = ingest_under_kills(tmp_path, kills=4, senders=4, seed=SEED)
    found, sent = outcome.found, outcome.sent
    assert found.acknowledged > 100
    assert (found.lost, found.altered, found.phantom, found.doubled) == ((), (), (), ()), f"seed {SEED}"
    assert set(sent.refused) <= {0xA700}
    assert outcome.ledger == "0 unexplained"
    assert sqlite_is_sound(tmp_path / "data")


def test_a_study_has_one_result_set_whatever_is_killed_in_each_phase(tmp_path: Path) -> None:
    outcome = results_under_kills(tmp_path, studies=1, seed=SEED, victims=("all", "worker", "supervisor", "courier"))
    assert outcome.problems == {}, f"seed {SEED}"
    assert sum(outcome.kills.values()) >= 3
    assert outcome.ledger == "0 unexplained"


def test_connections_cut_at_any_byte_leave_no_file_and_no_thread(tmp_path: Path) -> None:
    cuts = cut_connections(tmp_path, count=24, seed=SEED)
    assert cuts.found is not None
    assert cuts.found.clean, f"seed {SEED}"
    assert cuts.incoming == 0
    assert cuts.freed_within_s <= 30


def test_slow_peers_are_ended_and_hold_nobody_up(tmp_path: Path) -> None:
    slow = slow_peers(tmp_path, half_open=30, dripping=10, stores=40, patience_s=4.0)
    assert slow.gone_within_s <= 30
    # A shared machine is noisy: the floor keeps a baseline of a few milliseconds from deciding.
    assert slow.p95_ms <= max(2 * slow.baseline_p95_ms, 250.0), slow


def test_connections_leave_nothing_behind(tmp_path: Path) -> None:
    leak = many_connections(tmp_path, associations=300, bare=300, aborts=50, queries=100)
    assert leak.after.rss_mb - leak.before.rss_mb <= 20, leak


def test_a_refusal_is_cheap(tmp_path: Path) -> None:
    refusals = refuse_many(tmp_path, count=150)
    assert refusals.cpu_ms_each <= 5.0, refusals


def test_the_same_study_from_sixteen_senders_at_once_is_one_study_and_one_inference(tmp_path: Path) -> None:
    storm = duplicate_storm(tmp_path, senders=16, instances=25, rounds=2, seed=SEED)
    assert storm.statuses == {0x0000: 16 * 25 * 2}
    assert (storm.studies, storm.inputs, storm.decisions, storm.findings) == (1, 25, 1, 1)
    assert storm.found.clean
    assert storm.found.orphans == ()
    assert storm.ledger == "0 unexplained"


def test_mutated_instances_and_messages_harm_nobody(tmp_path: Path) -> None:
    fuzzed = fuzz(tmp_path, data_sets=250, associations=100, seed=SEED)
    assert (fuzzed.deaths, fuzzed.unexpected) == (0, 0), f"seed {SEED}"
    assert set(fuzzed.statuses) <= {0x0000, 0xA900, 0xC000}
    assert fuzzed.slowest_s <= 5
    assert fuzzed.ledger == "0 unexplained"
