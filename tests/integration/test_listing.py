"""Result sets of other forms than the canonical one: not listed, and there under their UIDs.

Source: design, "Delivered".
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from inference.results.forms import CANONICAL
from storage.blobs import LocalBlobs
from storage.database import Database
from storage.findings_store import FindingsStore
from storage.index import Index
from storage.matching import Key, Level, Query, tag_path
from storage.records import Kept
from storage.results import ResultBook
from storage.visibility import CANONICAL_FORM
from tests.builders.ct import make_ct_instance, uid
from tests.builders.work import put_findings, results_of

Receive = Callable[..., Kept]
OURS, OTHERS = 8, 9


@pytest.fixture
def index(database: Database, blobs: LocalBlobs, receive: Receive) -> Index:
    """One study: an image, a report in the canonical form (series 8), the same in another (series 9)."""
    receive(make_ct_instance(1, study=1, series=1))
    record = put_findings(FindingsStore(database, blobs), uid(1), "key1")
    for series, form in ((OURS, CANONICAL_FORM), (OTHERS, "labelmap+comprehensive-3d")):
        named = results_of(record, form)[0]
        ResultBook(database).reserve(
            [replace(named, series_instance_uid=uid(1, series), sop_instance_uid=uid(1, series, 1))]
        )
        receive(make_ct_instance(1, study=1, series=series, Modality="SR"))
    return Index(database)


def keys(**values: str) -> Query:
    return Query(tuple(Key(tag_path(name), value) for name, value in values.items()), with_parents=True)


def found(index: Index, level: Level, tag: str, query: Query) -> list[str]:
    return [row[tag]["Value"][0] for row in index.search(level, query).rows]


def test_the_canonical_form_is_the_one_that_is_always_kept() -> None:
    assert str(CANONICAL) == CANONICAL_FORM


def test_series_and_instances_of_other_forms_are_not_listed(index: Index) -> None:
    whole = keys(StudyInstanceUID=uid(1))
    assert found(index, Level.SERIES, "0020000E", whole) == [uid(1, 1), uid(1, OURS)]
    assert found(index, Level.INSTANCE, "00080018", whole) == [uid(1, 1, 1), uid(1, OURS, 1)]


def test_the_study_counts_what_is_listed(index: Index) -> None:
    (row,) = index.search(Level.STUDY, keys(StudyInstanceUID=uid(1))).rows
    assert (row["00201206"]["Value"], row["00201208"]["Value"]) == ([2], [2])
    (patient,) = index.search_patients(keys(PatientID="TEST-1")).rows
    assert [patient[tag]["Value"] for tag in ("00201200", "00201202", "00201204")] == [[1], [2], [2]]


def test_other_forms_answer_to_their_uids(index: Index) -> None:
    assert found(index, Level.SERIES, "0020000E", keys(SeriesInstanceUID=uid(1, OTHERS))) == [uid(1, OTHERS)]
    assert found(index, Level.INSTANCE, "00080018", keys(SOPInstanceUID=uid(1, OTHERS, 1))) == [uid(1, OTHERS, 1)]
    below = Query(study_instance_uid=uid(1), series_instance_uid=uid(1, OTHERS))
    assert found(index, Level.INSTANCE, "00080018", below) == [uid(1, OTHERS, 1)]


def test_what_is_retrieved_by_study_is_what_is_listed(index: Index) -> None:
    def named(query: Query) -> list[str]:
        return [record.sop_instance_uid for record in index.instances_matching(query)]

    assert named(keys(StudyInstanceUID=uid(1))) == [uid(1, 1, 1), uid(1, OURS, 1)]
    assert named(keys(PatientID="TEST-1")) == [uid(1, 1, 1), uid(1, OURS, 1)]
    assert named(keys(StudyInstanceUID=uid(1), SeriesInstanceUID=uid(1, OTHERS))) == [uid(1, OTHERS, 1)]
