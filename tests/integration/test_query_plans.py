"""What a filled index is asked by key is found by an index: no plan reads a whole table."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.filled import fill
from dicomweb.qido import query_of
from storage.database import Database, default_url
from storage.matching import Level
from storage.records import EVERYTHING
from storage.search import search_statement


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory with an index of 200 studies."""
    folder = tmp_path_factory.mktemp("filled")
    fill(folder, instances=2000, per_series=5, series=2)
    return folder


def plan_of(folder: Path, level: Level, pairs: list[tuple[str, str]], study: str | None = None) -> list[str]:
    """Give the steps of a query's plan."""
    database = Database(default_url(folder))
    query = query_of(pairs, study=study)
    statement = search_statement(level, query, EVERYTHING, dialect="sqlite").statement
    text = str(statement.compile(dialect=database.engine.dialect, compile_kwargs={"literal_binds": True}))
    with database.read() as connection:
        rows = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {text.replace('%%', '%')}").all()
    database.close()
    return [str(row[-1]) for row in rows]


@pytest.mark.parametrize(
    ("level", "pairs", "study"),
    [
        (Level.STUDY, [("PatientID", "F7")], None),
        (Level.STUDY, [("AccessionNumber", "ACC7")], None),
        (Level.STUDY, [("StudyInstanceUID", "2.25.1")], None),
        (Level.STUDY, [("StudyDate", "20260102"), ("ModalitiesInStudy", "CT")], None),
        (Level.STUDY, [("StudyDate", "20260101-20260103")], None),
        (Level.SERIES, [], "2.25.1"),
        (Level.INSTANCE, [], "2.25.1"),
    ],
)
def test_a_key_is_looked_up(filled: Path, level: Level, pairs: list[tuple[str, str]], study: str | None) -> None:
    steps = plan_of(filled, level, pairs, study)
    assert any(step.startswith("SEARCH") for step in steps)
    assert not [step for step in steps if step.startswith("SCAN") and "USING" not in step]
