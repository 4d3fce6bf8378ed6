"""Originals go onward: the whole study as it is kept, once, to whom a rule names, and never back to who sent it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from pydicom import Dataset, dcmread
from sqlalchemy import delete

from configs.routes import Route
from dicom_node.demo.pacs import PacsStandIn
from dicom_node.worker.watch import CourierWatch
from storage import tables
from storage.blobs import LocalBlobs
from storage.confirmations import Confirmations
from storage.database import Database
from storage.decisions import decisions_of
from storage.errors import NotKept
from storage.ledger_report import Patience, account
from storage.records import DeliveryRecord, DeliveryState, ItemState, Origin, OriginKind, StudyState
from storage.reopening import decide_anew
from storage.retention import Allowed, Retention
from storage.visibility import ORIGINALS
from tests.builders import fakes
from tests.builders.ct import make_ct_instance
from tests.builders.studies import make_peer, make_route
from tests.integration.test_study_to_results import CT1, STUDY, Node, chest

PACS2 = Origin(OriginKind.DIMSE, peer="pacs2", calling_ae_title="PACS2", called_ae_title="DICOMNODE", host="127.0.0.1")
#: Whoever calls from this machine, under the title of the destination.
LOOPBACK = replace(PACS2, peer="loopback")
ONWARD = {"name": "onward", "engine": None, "originals_to": ["pacs2"]}


def sent_on(node: Node) -> list[DeliveryRecord]:
    return [each for each in node.deliveries.of_study(STUDY) if each.form == ORIGINALS]


def decide(node: Node) -> None:
    node.later(5)
    node.tick()


@contextlib.contextmanager
def a_node(database: Database, blobs: LocalBlobs, tmp_path: Path, *routes: Route) -> Iterator[Node]:
    made = Node(database, blobs, list(routes), tmp_path / "pacs2")
    try:
        with PacsStandIn(made.pacs_folder, "PACS2", announce=made.hear, answer=made.answer) as pacs:
            made.peers["ct1"] = make_peer()
            made.peers["pacs2"] = make_peer(
                ae_title="PACS2", host="127.0.0.1", port=pacs.port, deliver={"by": "dimse"}, **{"from": ["127.0.0.1"]}
            )
            yield made
    finally:
        made.close()


@pytest.fixture
def node(database: Database, queue: object, blobs: LocalBlobs, tmp_path: Path) -> Iterator[Node]:
    with a_node(database, blobs, tmp_path, make_route(**ONWARD)) as made:
        yield made


def names(received: list[Dataset]) -> list[str]:
    return [str(each.SOPInstanceUID) for each in received]


def test_the_whole_study_goes_on_as_it_is_kept_without_an_engine(node: Node) -> None:
    kept = node.send(chest(1, 5))
    decide(node)
    node.hand_over()
    (delivery,) = sent_on(node)
    assert (delivery.state, delivery.reason) == (DeliveryState.DELIVERED, "pacs2 accepted 5 originals.")
    assert names(node.received) == [each.sop_instance_uid for each in kept]
    first = node.received[0]
    assert first.file_meta.TransferSyntaxUID == "1.2.840.10008.1.2.1"
    with node.blobs.open(kept[0].path) as file:
        assert first == dcmread(file)
    study = node.index.study(STUDY)
    assert (study.state, study.reason) == (
        StudyState.UNMATCHED,
        'Rule "onward" has the originals sent on to pacs2. No rule that matches asks for an engine.',
    )


def test_originals_and_results_each_go_where_their_rules_say(
    database: Database, queue: object, blobs: LocalBlobs, tmp_path: Path
) -> None:
    lungs = make_route({"Modality": "CT"}, deliver_to=["pacs2"], originals_to=["pacs2"])
    with a_node(database, blobs, tmp_path, lungs) as node:
        node.send(chest(1, 12))
        decide(node)
        node.work()
        node.hand_over()
        assert node.index.study(STUDY).state is StudyState.ANSWERED
        assert sorted({str(each.Modality) for each in node.received}) == ["CT", "SEG", "SR"]
        assert len(node.received) == 14
        said = account(database, blobs, node.at, queue=node.queue, patience=Patience(gathering_at_most_s=1800))
        assert [each for each in said.unexplained if each.subject != "delivery"] == []


@pytest.mark.parametrize("origin", [PACS2, LOOPBACK], ids=["as a peer", "under its title alone"])
def test_what_a_peer_sent_never_goes_back_to_it(node: Node, origin: Origin) -> None:
    node.send(chest(1, 3), origin)
    decide(node)
    assert node.index.study(STUDY).state is StudyState.UNMATCHED
    assert sent_on(node) == []


def test_of_a_study_from_two_senders_each_gets_what_the_other_sent(node: Node) -> None:
    node.send(chest(1, 3), CT1)
    node.send(chest(4, 5), PACS2)
    decide(node)
    node.hand_over()
    assert names(node.received) == names(chest(1, 3))


def test_what_comes_late_goes_on_alone_and_nothing_goes_twice(node: Node) -> None:
    node.send(chest(1, 3))
    decide(node)
    node.hand_over()
    node.send(chest(1, 3))  # again, byte for byte
    node.send(chest(4, 4))
    decide(node)
    node.hand_over()
    assert [len(each.items) for each in sent_on(node)] == [3, 1]
    assert names(node.received) == names(chest(1, 4))


def test_what_fails_for_now_is_tried_again_and_the_rest_goes_on_meanwhile(node: Node) -> None:
    node.send(chest(1, 4))
    decide(node)
    node.answers = [0x0000, 0x0110, 0x0000, 0x0000]
    node.hand_over()
    (delivery,) = sent_on(node)
    assert delivery.state is DeliveryState.WAITING
    assert "pacs2 did not take an original: 0x0110 processing failure (3 of 4 originals are there)" in delivery.reason
    node.hand_over()
    (delivery,) = sent_on(node)
    assert (delivery.state, delivery.attempts) == (DeliveryState.DELIVERED, 2)
    assert sorted(names(node.received)) == sorted(names(chest(1, 4)))  # each once


def test_a_destination_without_room_is_left_alone_after_three(node: Node) -> None:
    node.send(chest(1, 9))
    decide(node)
    node.answers = [0xA700] * 3
    node.hand_over()
    (delivery,) = sent_on(node)
    assert (delivery.state, node.received) == (DeliveryState.WAITING, [])
    node.hand_over()
    assert len(node.received) == 9


def test_what_is_refused_for_good_is_a_dead_letter_that_says_how_many(node: Node) -> None:
    node.send(chest(1, 4))
    decide(node)
    node.answers = [0x0000, 0xA900]
    node.hand_over()
    (delivery,) = sent_on(node)
    assert delivery.state is DeliveryState.FAILED
    said = "pacs2 accepted 3 originals and not 1: 1 x 0xA900 the data set does not match its SOP Class."
    assert delivery.reason.startswith(said)
    assert [item.state for item in delivery.items].count(ItemState.REFUSED) == 1
    node.deliveries.ask_again(delivery.delivery_id, "one click", node.at)
    node.hand_over()
    (delivery,) = sent_on(node)
    assert delivery.state is DeliveryState.DELIVERED
    assert sorted(names(node.received)) == sorted(names(chest(1, 4)))


def test_a_class_that_is_not_taken_stays_and_the_others_go(node: Node) -> None:
    node.send([*chest(1, 2), make_ct_instance(9, Modality="MR", SOPClassUID="1.2.840.10008.5.1.4.1.1.4")])
    decide(node)
    with fakes.answering(lambda _: 0x0000, without=["1.2.840.10008.5.1.4.1.1.4"]) as pacs:
        node.peers["pacs2"] = node.peers["pacs2"].model_copy(update={"port": pacs.port})
        node.hand_over()
    (delivery,) = sent_on(node)
    assert delivery.state is DeliveryState.FAILED
    assert "accepted 2 originals and not 1: 1 x " in delivery.reason
    assert "MR Image Storage" in delivery.reason
    assert sorted(pacs.received) == sorted(names(chest(1, 2)))


def test_nothing_of_a_study_of_two_patients_goes_on(node: Node) -> None:
    node.send([*chest(1, 2), *chest(3, 4, PatientID="OTHER")])
    decide(node)
    assert node.index.study(STUDY).state is StudyState.QUARANTINED
    assert sent_on(node) == []


def test_an_instance_that_is_gone_is_left_out(node: Node, database: Database) -> None:
    kept = node.send(chest(1, 2))
    decide(node)
    with database.write() as connection:
        for each in kept[:1]:
            connection.execute(
                delete(tables.json_pending).where(tables.json_pending.c.sop_instance_uid == each.sop_instance_uid)
            )
            connection.execute(
                delete(tables.instances).where(tables.instances.c.sop_instance_uid == each.sop_instance_uid)
            )
    node.hand_over()
    (delivery,) = sent_on(node)
    assert (delivery.state, delivery.reason) == (DeliveryState.DELIVERED, "pacs2 accepted 1 original.")
    assert [item.state for item in delivery.items] == [ItemState.REPLACED, ItemState.ACCEPTED]


def test_sources_stay_until_the_destination_has_confirmed_the_originals(
    node: Node, database: Database, blobs: LocalBlobs
) -> None:
    node.peers["ct1"] = node.peers["ct1"].model_copy(update={"archive": True})
    node.send(chest(1, 2))
    decide(node)
    allowed = Allowed(archives=["ct1"])
    retention = Retention(database, blobs)
    assert retention.remove(STUDY, allowed, results=False, at=node.at) == 0
    node.hand_over()
    (delivery,) = sent_on(node)
    assert retention.remove(STUDY, allowed, results=False, at=node.at) == 0
    Confirmations(database).end(delivery.delivery_id, "there", node.at, to=DeliveryState.CONFIRMED)
    assert retention.remove(STUDY, allowed, results=False, at=node.at) > 0


def test_rules_that_changed_are_tried_anew_on_a_study_that_none_matched(node: Node, database: Database) -> None:
    node.courier = replace(node.courier, routes=[])
    node.watch = CourierWatch(node.courier)
    node.send(chest(1, 2))
    decide(node)
    assert node.index.study(STUDY).reason == "No rule matched: routes.yaml has no rule."
    node.courier = replace(node.courier, routes=[make_route(**ONWARD)])
    node.watch = CourierWatch(node.courier)
    decide_anew(database, STUDY, "asked for", node.at)
    decide(node)
    assert node.index.study(STUDY).reason.startswith('Rule "onward" has the originals sent on to pacs2.')
    assert len(decisions_of(database, STUDY)) == 2
    decide_anew(database, STUDY, "asked for", node.at)
    decide(node)
    assert [len(each.items) for each in sent_on(node)] == [2]  # done again, nothing goes twice
    with pytest.raises(NotKept):
        decide_anew(database, "1.2.3", "asked for", node.at)


def test_a_rule_that_asks_for_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="needs engine, or originals_to"):
        make_route(engine=None)
