"""What a filled index is asked by key is found by an index: no plan reads a whole table."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.filled import fill
from dicomweb.qido import query_of
from storage.database import Database, default_url
from storage.index import Index
from storage.matching import Level
from storage.records import EVERYTHING
from storage.search import names_statement, search_statement


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


@pytest.mark.parametrize("pattern", ["filler^7*", "*7", "*ller*7*", "FILLER^7"])
@pytest.mark.parametrize("fuzzy", ["false", "true"])
def test_a_name_is_looked_for_in_the_index_of_names_alone(filled: Path, pattern: str, fuzzy: str) -> None:
    database = Database(default_url(filled))
    statement = names_statement(query_of([("PatientName", pattern), ("fuzzymatching", fuzzy)]), dialect="sqlite")
    assert statement is not None
    text = str(statement.compile(dialect=database.engine.dialect, compile_kwargs={"literal_binds": True}))
    with database.read() as connection:
        (step,) = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {text.replace('%%', '%')}").all()
    database.close()
    assert "USING COVERING INDEX ix_studies_patient_name_folded" in str(step[-1])


@pytest.mark.parametrize("most", [500, 3])
def test_a_name_finds_the_same_whether_few_or_many_have_it(
    filled: Path, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("storage.search.MOST_NAMED", most)
    monkeypatch.setattr("storage.index.MOST_NAMED", most)
    database = Database(default_url(filled))
    answer = Index(database).search(Level.STUDY, query_of([("PatientName", "*^19*")]))
    database.close()
    assert len(answer.rows) == 11  # 19, 190 to 199
