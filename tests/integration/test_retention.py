"""Retention: what was kept long enough goes, and nothing that is protected ever does."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace

import pytest
from sqlalchemy import select, update

from configs.settings import RetentionRule, RetentionSettings
from dicom_node.worker.disk import Room
from dicom_node.worker.retain import MOST_STUDIES, Retainer
from storage import tables
from storage.audit import Audit, AuditAction
from storage.blobs import LocalBlobs
from storage.commitments import Commitments, Reference
from storage.database import Database
from storage.errors import ForbiddenTransition
from storage.jobs import Queue
from storage.ledger_report import account
from storage.records import DeliveryState, InstanceRole, OriginKind, ResultState, StudyState
from storage.retention import Retention
from storage.retractions import note_change
from tests.builders.ct import make_ct_instance, uid
from tests.builders.real_node import CT1, STUDY, RealNode, slices
from tests.builders.studies import make_peer

ROOMY = Room(total=100, free=90)


@pytest.fixture
def node(database: Database, queue: Queue, blobs: LocalBlobs) -> RealNode:
    made = RealNode(database, blobs, queue)
    made.peers["ct1"] = make_peer(archive=True)
    return made


def answered(node: RealNode) -> str:
    """Have the study answered, and its results confirmed."""
    node.send(slices())
    run_key = node.analyse("pacs")
    node.deliver()
    confirm(node)
    return run_key


def confirm(node: RealNode) -> None:
    for delivery in node.deliveries.of_study(STUDY):
        if delivery.state is DeliveryState.DELIVERED:
            node.deliveries.finish(delivery.delivery_id, DeliveryState.CONFIRMED, "found again", node.later())


def look(node: RealNode, *, results: bool = False, room: Room = ROOMY, **rules: RetentionRule) -> int:
    settings = RetentionSettings(**rules)
    retention = Retention(node.database, node.blobs)
    return Retainer(retention, settings, node.peers, lambda: room, node.now).look(results=results)


def sources(node: RealNode) -> int:
    return sum(one.role is not InstanceRole.RESULT for one in node.index.instances_of(STUDY))


def test_sources_of_an_archive_go_after_fourteen_days_and_results_stay(node: RealNode) -> None:
    run_key = answered(node)
    paths = [one.path for one in node.index.inputs_of(STUDY)]
    node.later(13 * 86400)
    assert (look(node), sources(node)) == (0, 12)
    node.later(2 * 86400)
    assert (look(node), sources(node)) == (1, 0)
    assert not any(node.blobs.exists(path) for path in paths)
    study = node.index.study(STUDY)
    assert (study.state, study.number_of_inputs, study.number_of_instances) == (StudyState.ANSWERED, 0, 2)
    assert {each.state for each in node.results.of_run(run_key)} == {ResultState.KEPT}
    assert account(node.database, node.blobs, node.later(), queue=node.queue).unexplained == ()
    (event,) = [each for each in Audit(node.database).events() if each.action is AuditAction.DELETE]
    assert (event.actor, event.detail) == ("retention", "12 sources expired")


def test_the_oldest_go_when_the_disk_fills_and_only_then(node: RealNode) -> None:
    answered(node)
    assert look(node) == 0
    assert look(node, room=Room(total=100, free=21)) == 0
    assert look(node, room=Room(total=100, free=19)) == 1


def test_sources_go_where_they_have_more_than_they_may(node: RealNode) -> None:
    answered(node)
    assert look(node, sources=RetentionRule(at_gb=1)) == 0
    assert look(node, sources=RetentionRule(at_gb=0.00001)) == 1


def test_results_go_only_where_a_site_says_so_and_a_destination_has_them(node: RealNode) -> None:
    run_key = answered(node)
    node.later(10**8)
    assert look(node, results=True) == 0
    settings = RetentionSettings(results=RetentionRule(after_days=30))
    retainer = Retainer(Retention(node.database, node.blobs), settings, node.peers, lambda: ROOMY, node.now)
    assert retainer.look(results=True) == 1
    assert {each.state for each in node.results.of_run(run_key)} == {ResultState.EXPIRED}
    assert account(node.database, node.blobs, node.later(), queue=node.queue).unexplained == ()


def test_what_nobody_archives_stays(node: RealNode) -> None:
    node.peers["ct1"] = make_peer()
    answered(node)
    node.later(10**8)
    assert (look(node), sources(node)) == (0, 12)


def test_a_rest_that_comes_after_the_sources_went_is_not_analysed_alone(node: RealNode) -> None:
    answered(node)
    node.later(10**8)
    look(node)
    node.send(slices(13)[12:])
    assert node.index.expired_inputs_of(STUDY) == 12
    node.send(slices())
    assert node.index.expired_inputs_of(STUDY) == 0


def test_a_study_without_its_sources_is_not_run_again(node: RealNode) -> None:
    answered(node)
    node.later(10**8)
    look(node)
    (job,) = node.jobs.jobs_of(STUDY)
    with pytest.raises(ForbiddenTransition, match="send it again"):
        node.jobs.rerun(node.queue, job.job_id, node.later())


def test_results_whose_sources_went_are_not_taken_back(node: RealNode) -> None:
    answered(node)
    node.later(10**8)
    look(node)
    assert len(node.index.digests_of(STUDY)) == 12


PROTECTIONS: dict[str, Callable[[RealNode], object]] = {
    "unconfirmed": lambda node: node.deliveries.ask_for(
        node.jobs.jobs_of(STUDY)[0].job_id,
        node.results.of_study(STUDY)[0].run_key,
        "f",
        STUDY,
        [(node.results.of_study(STUDY)[0].sop_instance_uid, "seg")],
        ["archive"],
        not_before=node.at,
        at=node.at,
    ),
    "committed": lambda node: Commitments(node.database, node.blobs).request(
        CT1,
        "1.2.3",
        [Reference(one.sop_class_uid, one.sop_instance_uid) for one in node.index.instances_of(STUDY)],
        at=node.at,
        report_at=node.at,
    ),
    "corrected": lambda node: node.send(slices(1, PatientID="TEST-2")),
    "late": lambda node: node.send(slices(13)[12:]),
    "changed": lambda node: changed(node),  # noqa: PLW0108 (defined below)
    "rerun": lambda node: node.jobs.rerun(node.queue, node.jobs.jobs_of(STUDY)[0].job_id, node.at),
    "failed": lambda node: put_state(node, "failed"),
    "quarantined": lambda node: put_state(node, "quarantined"),
    "of nobody": lambda node: node.send(
        [make_ct_instance(1, series=2)], replace(CT1, kind=OriginKind.STOW, peer="somebody")
    ),
}


def changed(node: RealNode) -> None:
    with node.database.write() as connection:
        note_change(connection, STUDY, "113001", "Motion.", by="ct1", at=node.at)


def put_state(node: RealNode, state: str) -> None:
    with node.database.write() as connection:
        connection.execute(update(tables.studies).values(state=state))


@pytest.mark.parametrize("protection", PROTECTIONS)
def test_nothing_goes_while_something_protects_it(node: RealNode, protection: str) -> None:
    answered(node)
    PROTECTIONS[protection](node)
    before = {one.sop_instance_uid for one in node.index.instances_of(STUDY)}
    node.later(10**8)
    everything = RetentionSettings(
        sources=RetentionRule(after_days=1, at_percent=1, at_gb=0.000001),
        results=RetentionRule(after_days=1, at_percent=1, at_gb=0.000001),
    )
    retention = Retention(node.database, node.blobs)
    retainer = Retainer(retention, everything, node.peers, lambda: Room(100, 0), node.now)
    for results in (False, True):
        retainer.look(results=results)
    after = {one.sop_instance_uid for one in node.index.instances_of(STUDY)}
    # What came from somebody who archives nothing holds back the sources of its study; results are confirmed.
    assert after == before or (protection == "of nobody" and sources(node) == 13)


def test_a_commitment_that_a_site_lets_lapse_protects_no_more(node: RealNode) -> None:
    answered(node)
    PROTECTIONS["committed"](node)
    node.later(40 * 86400)
    assert look(node) == 0
    settings = RetentionSettings(release_committed_after_days=30)
    retainer = Retainer(Retention(node.database, node.blobs), settings, node.peers, lambda: ROOMY, node.now)
    assert retainer.look(results=False) == 1


@pytest.mark.parametrize("seed", range(4))
def test_of_many_studies_in_any_state_only_those_go_that_may(
    database: Database, queue: Queue, blobs: LocalBlobs, seed: int
) -> None:
    chance, node = random.Random(seed), RealNode(database, blobs, queue)
    node.peers["ct1"] = make_peer(archive=True)
    peers, states = ("ct1", "ct1", "ct1", "stranger"), [*StudyState, StudyState.ANSWERED, StudyState.UNMATCHED]
    protected, references = set[str](), []
    numbers = range(1, 61)
    for number in numbers:
        peer, state = chance.choice(peers), chance.choice(states)
        (kept,) = node.send([make_ct_instance(1, study=number)], replace(CT1, peer=peer))
        with database.write() as connection:
            this = tables.studies.c.study_instance_uid == uid(number)
            connection.execute(update(tables.studies).where(this).values(state=state.value))
        is_over = state in (StudyState.ANSWERED, StudyState.DECLINED, StudyState.UNMATCHED, StudyState.DOCUMENTS)
        if chance.random() < 0.2:
            references.append(Reference("1.2.840.10008.5.1.4.1.1.2", kept.sop_instance_uid))
            is_over = False
        if not is_over or peer == "stranger":
            protected.add(kept.sop_instance_uid)
    Commitments(database, blobs).request(CT1, "1.2.3", references, at=node.at, report_at=node.at)
    node.later(10**8)
    passes = [look(node, room=Room(100, 0)) for _ in range(8)]
    with database.read() as connection:
        left = set(connection.execute(select(tables.instances.c.sop_instance_uid)).scalars())
    assert left == protected
    assert 0 < max(passes) <= MOST_STUDIES
    assert sum(passes) == len(numbers) - len(protected)
