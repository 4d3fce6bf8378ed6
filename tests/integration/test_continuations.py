"""Instances that follow others of their series: the same rows, whatever was remembered of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import func, select, update

from storage import intake as intake_module
from storage.database import Database
from storage.records import Kept, Outcome
from storage.tables import contributions, instances, json_pending, series, studies
from tests.builders.ct import make_ct_instance
from tests.conftest import SENDER

Receive = Callable[..., Kept]
AGAIN = replace(SENDER, association_id="another-association")


def rows(database: Database, table: Any) -> list[Any]:
    with database.read() as connection:
        return list(connection.execute(select(table)).all())


def counts(database: Database) -> tuple[int, int, int, int]:
    """Instances, inputs and series of the one study, and instances of its first series, as its rows have them."""
    (study,) = rows(database, studies)
    first = min(rows(database, series), key=lambda row: row.series_instance_uid)
    return study.number_of_instances, study.number_of_inputs, study.number_of_series, first.number_of_instances


@pytest.fixture
def unknown(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many arrivals were recorded with a look at what is there, each time that was done."""
    looked: list[int] = []
    real = intake_module.record_arrivals

    def look(connection: Any, arrivals: Any) -> list[Kept]:
        looked.append(len(arrivals))
        return real(connection, arrivals)

    monkeypatch.setattr(intake_module, "record_arrivals", look)
    return looked


def test_what_follows_in_a_series_is_kept_without_a_look_and_counted(
    database: Database, receive: Receive, unknown: list[int]
) -> None:
    kept = [receive(make_ct_instance(number)) for number in (1, 2, 3)]
    assert unknown == [1]
    assert [each.outcome for each in kept] == [Outcome.KEPT] * 3
    assert counts(database) == (3, 3, 1, 3)
    (study,) = rows(database, studies)
    stored = rows(database, instances)
    assert study.input_version == 3
    assert study.size_bytes == sum(row.size for row in stored)
    assert study.last_instance_at == max(row.received_at for row in stored)
    assert len(rows(database, json_pending)) == 3
    assert {row.role for row in stored} == {"input"}


def test_a_copy_among_what_follows_adds_nothing(database: Database, receive: Receive, unknown: list[int]) -> None:
    for number in (1, 2, 3):
        receive(make_ct_instance(number))
    assert receive(make_ct_instance(2)).outcome is Outcome.ALREADY_KEPT
    assert counts(database) == (3, 3, 1, 3)
    assert receive(make_ct_instance(2, PatientID="TEST-2")).outcome is Outcome.SET_ASIDE
    assert receive(make_ct_instance(4)).outcome is Outcome.KEPT
    assert counts(database) == (4, 4, 1, 4)
    assert unknown == [1, 1, 1, 1]


def test_a_new_series_or_modality_is_noted_in_the_study(database: Database, receive: Receive) -> None:
    receive(make_ct_instance(1))
    receive(make_ct_instance(2))
    receive(make_ct_instance(1, series=2, Modality="PT"))
    receive(make_ct_instance(3))
    receive(make_ct_instance(4, Modality="OT"))
    assert counts(database) == (5, 5, 2, 4)
    assert rows(database, studies)[0].modalities == "CT\\OT\\PT"


def test_a_document_in_a_remembered_series_is_no_input(database: Database, receive: Receive) -> None:
    receive(make_ct_instance(1))
    receive(make_ct_instance(2, SOPClassUID="1.2.840.10008.5.1.4.1.1.88.34", PixelData=None))
    assert counts(database) == (2, 1, 1, 2)


def test_a_study_that_was_removed_meanwhile_begins_anew(database: Database, receive: Receive) -> None:
    receive(make_ct_instance(1))
    with database.write() as connection:
        for table in (json_pending, contributions, instances, series, studies):
            connection.execute(table.delete())
    assert receive(make_ct_instance(2)).outcome is Outcome.KEPT
    assert counts(database) == (1, 1, 1, 1)


def test_a_study_that_changed_meanwhile_is_looked_at_again(database: Database, receive: Receive) -> None:
    receive(make_ct_instance(1))
    receive(make_ct_instance(1, series=2))
    receive(make_ct_instance(2, series=2))
    with database.write() as connection:
        connection.execute(update(studies).values(modalities="CT\\MR"))
    receive(make_ct_instance(3, series=2))
    assert rows(database, studies)[0].modalities == "CT\\MR"
    assert counts(database)[:3] == (4, 4, 2)


def test_each_association_that_brings_of_a_study_is_noted(database: Database, receive: Receive) -> None:
    receive(make_ct_instance(1))
    receive(make_ct_instance(2), AGAIN)
    receive(make_ct_instance(3), AGAIN)
    with database.read() as connection:
        noted = connection.execute(select(func.count()).select_from(contributions)).scalar_one()
    assert noted == 2
