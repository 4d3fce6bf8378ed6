"""What is kept is found by its names, in order, and only by whom it concerns."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from pydicom import Dataset
from pydicom.uid import ComprehensiveSRStorage
from sqlalchemy import insert

from storage.database import Database
from storage.errors import NotKept
from storage.index import Index
from storage.peer_tables import associations
from storage.records import Kept, Origin, OriginKind, StudyFilter, StudyState
from tests.builders.ct import make_ct_instance, make_ct_series, uid

Receive = Callable[..., Kept]


@pytest.fixture
def index(database: Database) -> Index:
    return Index(database)


def sent_by(peer: str, association_id: str | None = None) -> Origin:
    return Origin(OriginKind.DIMSE, peer=peer, calling_ae_title=peer.upper(), association_id=association_id)


def make_report(number: int = 1, *, study: int = 1) -> Dataset:
    report = make_ct_instance(number, study=study, series=9, Modality="SR", SOPClassUID=ComprehensiveSRStorage)
    del report.PixelData
    return report


def test_a_study_counts_what_is_kept_of_it(index: Index, receive: Receive) -> None:
    for instance in [*make_ct_series(2), make_report()]:
        receive(instance)
    study = index.study(uid(1))
    assert (study.number_of_series, study.number_of_instances, study.number_of_inputs) == (2, 3, 2)
    assert study.modalities == ("CT", "SR")
    assert study.state is StudyState.GATHERING


def test_an_unknown_study_is_not_kept(index: Index) -> None:
    with pytest.raises(NotKept):
        index.study("1.2.3")
    with pytest.raises(NotKept):
        index.instance("1.2.3")
    assert index.instances_of("1.2.3") == []


def test_studies_come_latest_arrival_first(index: Index, receive: Receive) -> None:
    for number in (1, 2, 3):
        receive(make_ct_instance(study=number))
    assert [study.study_instance_uid for study in index.studies(limit=2)] == [uid(3), uid(2)]
    assert [study.study_instance_uid for study in index.studies(offset=2)] == [uid(1)]
    assert len(index.gathering()) == 3
    assert index.studies(states=[StudyState.ANSWERED]) == []


def test_studies_are_found_by_accession_number(index: Index, receive: Receive) -> None:
    receive(make_ct_instance(study=1))
    receive(make_ct_instance(study=2))
    assert [study.study_instance_uid for study in index.studies_by_accession("ACC2")] == [uid(2)]


def test_instances_come_by_series_number_then_instance_number(index: Index, receive: Receive) -> None:
    for series, number in ((2, 1), (1, 10), (1, 2), (1, 1)):
        receive(make_ct_instance(number, series=series))
    receive(make_ct_instance(5, series=3, SeriesNumber=None, InstanceNumber=None))
    found = [(each.series_instance_uid, each.instance_number) for each in index.instances_of(uid(1))]
    assert found == [(uid(1, 1), 1), (uid(1, 1), 2), (uid(1, 1), 10), (uid(1, 2), 1), (uid(1, 3), None)]
    assert [each.series_number for each in index.series_of(uid(1))] == [1, 2, None]
    assert len(index.instances_of(uid(1), uid(1, 1))) == 3


def test_inputs_leave_out_documents(index: Index, receive: Receive) -> None:
    receive(make_ct_instance())
    receive(make_report())
    assert [each.sop_instance_uid for each in index.inputs_of(uid(1))] == [uid(1, 1, 1)]


def test_two_patients_in_a_study_are_told_apart_and_spelling_is_not(index: Index, receive: Receive) -> None:
    receive(make_ct_instance(1))
    receive(make_ct_instance(2, PatientName="TEST^QUIET^^"))
    assert len(index.patients_of(uid(1))) == 1
    receive(make_ct_instance(3, PatientID="TEST-2"))
    assert [patient[0] for patient in index.patients_of(uid(1))] == ["TEST-1", "TEST-2"]


def test_a_filter_hides_studies_of_other_senders(index: Index, receive: Receive) -> None:
    receive(make_ct_instance(study=1), sent_by("ct1"))
    receive(make_report(study=2), sent_by("ct2"))
    only_second = StudyFilter(frozenset({"ct2"}))
    assert [study.study_instance_uid for study in index.studies(visible=only_second)] == [uid(2)]
    assert index.instances_of(uid(1), visible=only_second) == []
    assert index.series_of(uid(1), only_second) == []
    assert index.counts(only_second).instances == 1
    with pytest.raises(NotKept):
        index.instance(uid(1, 1, 1), only_second)


def test_a_sender_is_active_while_its_association_has_traffic(
    index: Index, receive: Receive, database: Database
) -> None:
    for number, name in enumerate(("a1", "a2", "a3"), start=1):
        receive(make_ct_instance(number), sent_by(f"peer{number}", name))
    now = datetime.now(UTC)
    for name, traffic_s, closed in (("a1", 1, False), ("a2", 60, False), ("a3", 1, True)):
        at = now - timedelta(seconds=traffic_s)
        values = {"association_id": name, "receiver": "r", "opened_at": at, "last_traffic_at": at}
        with database.write() as connection:
            connection.execute(insert(associations).values(**values, closed_at=at if closed else None))
    senders = {each.peer: each.active for each in index.senders_of(uid(1), now=now, idle_after_s=2.0)}
    assert senders == {"peer1": True, "peer2": False, "peer3": False}


def test_one_peer_with_several_associations_is_one_sender(index: Index, receive: Receive) -> None:
    receive(make_ct_instance(1), sent_by("ct1", "a1"))
    receive(make_ct_instance(2), sent_by("ct1", "a2"))
    (sender,) = index.senders_of(uid(1), now=datetime.now(UTC), idle_after_s=2.0)
    assert (sender.peer, sender.active) == ("ct1", False)


def test_counts_tell_how_much_is_kept(index: Index, receive: Receive) -> None:
    assert index.counts().studies == 0
    for instance in make_ct_series(3):
        receive(instance)
    totals = index.counts()
    assert (totals.studies, totals.series, totals.instances) == (1, 1, 3)
    assert totals.bytes > 3 * 512
    assert totals.studies_by_state == {StudyState.GATHERING: 1}
