"""Changes of state in the database: only allowed ones happen, and each is written down with time and reason."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from sqlalchemy import Integer, MetaData, Table, insert, select, text

from storage import ledger, tables
from storage.blobs import LocalBlobs
from storage.database import Database
from storage.errors import ForbiddenTransition, NotKept
from storage.findings_store import FindingsStore
from storage.jobs import Queue
from storage.migrate import migrate
from storage.records import DeliveryState, JobState, ResultState, StudyState
from storage.results import ResultBook, note_kept
from tests.builders.work import NOON, at, put_findings, put_gathering_study, put_job, results_of, transitions_of, uid_of


@pytest.mark.parametrize("seed", range(5))
def test_random_moves_follow_the_table_and_are_all_written_down(database: Database, queue: Queue, seed: int) -> None:
    job_id, chance, state = put_job(database, queue), random.Random(seed), JobState.QUEUED
    went = [state]
    for second in range(60):
        to = chance.choice(list(JobState))
        try:
            with database.write() as connection:
                moved = ledger.move(connection, job_id, to, reason=f"because {second}", at=at(second))
        except ForbiddenTransition:
            assert to not in ledger.JOB[state] | {state}
            continue
        assert moved == (to is not state)
        assert to in ledger.JOB[state] | {state}
        went += [to] if moved else []
        state = to
    assert transitions_of(database, job_id) == went
    table = tables.transitions
    with database.read() as connection:
        rows = connection.execute(select(table).where(table.c.subject_id == job_id).order_by(table.c.number)).all()
    assert [row.from_state for row in rows[1:]] == [row.to_state for row in rows[:-1]]
    assert all(row.reason.startswith("because") and row.at for row in rows[1:])


def test_a_forbidden_move_leaves_nothing(database: Database) -> None:
    uid = put_gathering_study(database)
    with pytest.raises(ForbiddenTransition), database.write() as connection:
        ledger.move(connection, uid, StudyState.ANSWERED, reason="", at=at(1))
    assert transitions_of(database, uid) == [StudyState.GATHERING]


def test_what_is_not_there_has_no_state(database: Database) -> None:
    with pytest.raises(NotKept), database.write() as connection:
        ledger.move(connection, "1.2.3", DeliveryState.SENDING, reason="", at=at(1))


def test_results_are_named_then_kept_then_superseded(database: Database, queue: Queue, blobs: LocalBlobs) -> None:
    put_job(database, queue)
    findings, book = FindingsStore(database, blobs), ResultBook(database, lambda: NOON)
    first, second = (results_of(put_findings(findings, uid_of(1), key)) for key in ("first", "second"))
    for results in (first, second):
        book.reserve(results)
        with database.write() as connection:
            note_kept(connection, [result.sop_instance_uid for result in results], at(1))
    states = [ResultState.NAMED, ResultState.KEPT]
    assert transitions_of(database, first[0].sop_instance_uid) == [*states, ResultState.SUPERSEDED]
    assert transitions_of(database, second[0].sop_instance_uid) == states
    assert [result.current for result in book.of_study(uid_of(1))] == [False, False, True, True]


def test_an_earlier_revision_that_is_kept_late_is_superseded_at_once(
    database: Database, queue: Queue, blobs: LocalBlobs
) -> None:
    put_job(database, queue)
    findings, book = FindingsStore(database, blobs), ResultBook(database, lambda: NOON)
    first, second = (results_of(put_findings(findings, uid_of(1), key)) for key in ("first", "second"))
    book.reserve([*first, *second])
    for results in (second, first):
        with database.write() as connection:
            note_kept(connection, [result.sop_instance_uid for result in results], at(1))
    assert {result.state for result in book.of_run("first")} == {ResultState.SUPERSEDED}
    assert {result.state for result in book.of_run("second")} == {ResultState.KEPT}


def test_results_of_an_older_version_get_their_state(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'old.db'}"
    migrate(url, "0005")
    old = Database(url)
    with old.write() as connection:
        of_then = Table("studies", MetaData(), autoload_with=connection)  # without the columns that came later
        blank = {each.name: 0 if isinstance(each.type, Integer) else "" for each in of_then.c if not each.nullable}
        times = dict.fromkeys(
            ("state_since", "first_received_at", "gathering_since", "last_instance_at"), "2026-11-24T12:00:00.000000Z"
        )
        study = blank | times | {"study_instance_uid": "1.2", "state": "answered"}
        connection.execute(insert(of_then).values(study))
        for revision, key in enumerate(("first", "second", "third"), start=1):
            connection.execute(
                text(
                    "INSERT INTO findings VALUES (:key, '1.2', 'lung', 'default', :revision, "
                    "'2026-11-24T12:00:00.000000Z', 'p', '{}')"
                ),
                {"key": key, "revision": revision},
            )
            connection.execute(
                text("INSERT INTO results VALUES (:uid, :key, 'f', 'sr', '1.2', '1.2.9', '1.3', 0)"),
                {"uid": f"2.25.{revision}", "key": key},
            )
            if key != "third":
                connection.execute(
                    text(
                        "INSERT INTO instances (sop_instance_uid, study_instance_uid, series_instance_uid, "
                        "sop_class_uid, transfer_syntax_uid, number_of_frames, attributes, patient, role, state, "
                        "reason, path, size, sha256, received_at, origin_kind, peer, calling_ae_title, "
                        "called_ae_title, host) VALUES (:uid, '1.2', '1.2.9', '1.3', '1.2', 1, '{}', '[]', 'result', "
                        "'follows study', '', 'p', 1, 'd', '2026-11-24T12:00:00.000000Z', 'ours', '', '', '', '')"
                    ),
                    {"uid": f"2.25.{revision}"},
                )
    migrate(url)
    states = [(result.sop_instance_uid, result.state) for result in ResultBook(old).of_study("1.2")]
    assert states == [
        ("2.25.1", ResultState.SUPERSEDED),
        ("2.25.2", ResultState.KEPT),
        ("2.25.3", ResultState.NAMED),
    ]
    assert transitions_of(old, "2.25.1") == [ResultState.SUPERSEDED]
    old.close()
