"""Deliveries on both databases: asked for once, tried until they end, never delivered in part."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from storage.blobs import LocalBlobs
from storage.database import Database
from storage.deliveries import Deliveries
from storage.errors import ForbiddenTransition, NotKept
from storage.findings_store import FindingsStore
from storage.jobs import Queue
from storage.peer_classes import PeerClass, PeerClasses
from storage.records import DeliveryRecord, DeliveryState, ItemState
from storage.results import ResultBook
from storage.turns import OpenTurn, TurnState
from tests.builders.work import at, put_findings, put_job, results_of, transitions_of, uid_of

FORM = "binary+comprehensive-3d"


@dataclass
class Node:
    """A study with a job; each run has results."""

    database: Database
    queue: Queue
    deliveries: Deliveries
    findings: FindingsStore
    job_id: str

    def publish(self, run_key: str, *destinations: str, task: str = "default", seconds: float = 0) -> list[str]:
        """Make a run's results and ask for their delivery."""
        record = put_findings(self.findings, uid_of(1), run_key, task=task)
        results = results_of(record)
        ResultBook(self.database).reserve(results)
        return self.deliveries.ask_for(
            self.job_id,
            run_key,
            FORM,
            uid_of(1),
            [(result.sop_instance_uid, result.kind) for result in results],
            destinations,
            not_before=at(seconds),
            at=at(seconds),
        )

    def accept_all(self, delivery: DeliveryRecord) -> None:
        """Answer as a destination that takes everything."""
        for item in delivery.items:
            self.deliveries.item_answered(
                delivery.delivery_id, item.sop_instance_uid, ItemState.ACCEPTED, 0x0000, "", at(2)
            )


@pytest.fixture
def node(database: Database, queue: Queue, blobs: LocalBlobs) -> Node:
    job_id = put_job(database, queue)
    return Node(database, queue, Deliveries(database, queue), FindingsStore(database, blobs), job_id)


def begin(node: Node, delivery_id: str, attempt: int = 1) -> DeliveryRecord:
    delivery = node.deliveries.begin(delivery_id, attempt, at(1))
    assert delivery is not None
    return delivery


def test_asking_makes_a_delivery_for_each_destination(node: Node) -> None:
    ids = node.publish("key1", "pacs", "archive")

    assert ids == [f"key1:{FORM}:pacs", f"key1:{FORM}:archive"]
    delivery = node.deliveries.delivery(ids[0])
    assert (delivery.state, delivery.attempts) == (DeliveryState.WAITING, 0)
    assert [item.kind for item in delivery.items] == ["seg", "sr"]
    assert set(node.queue.states(f"{delivery_id}:1" for delivery_id in ids).values()) == {TurnState.QUEUED}


def test_asking_again_changes_nothing(node: Node) -> None:
    (delivery_id,) = node.publish("key1", "pacs")
    node.accept_all(begin(node, delivery_id))
    node.deliveries.finish(delivery_id, DeliveryState.DELIVERED, "Accepted.", at(3))

    node.publish("key1", "pacs", seconds=10)

    assert node.deliveries.delivery(delivery_id).state is DeliveryState.DELIVERED
    assert transitions_of(node.database, delivery_id) == ["waiting", "sending", "delivered"]


def test_an_attempt_may_begin_again_after_a_crash(node: Node) -> None:
    (delivery_id,) = node.publish("key1", "pacs")

    first, again = begin(node, delivery_id), begin(node, delivery_id)

    assert first.state is again.state is DeliveryState.SENDING
    assert again.attempts == 1


def test_only_the_current_attempt_begins(node: Node) -> None:
    (delivery_id,) = node.publish("key1", "pacs")

    assert node.deliveries.begin(delivery_id, 2, at(1)) is None
    begin(node, delivery_id, 1)
    node.deliveries.retry(delivery_id, "Not reached.", at(2), at(7), 1)
    assert node.deliveries.begin(delivery_id, 1, at(3)) is None
    assert begin(node, delivery_id, 2).attempts == 2


def test_what_was_accepted_stays_accepted_over_attempts(node: Node) -> None:
    (delivery_id,) = node.publish("key1", "pacs")
    seg, sr = begin(node, delivery_id).items
    node.deliveries.item_answered(
        delivery_id, seg.sop_instance_uid, ItemState.ACCEPTED, 0xB000, "warning", at(2), "1.2.5"
    )
    node.deliveries.item_answered(delivery_id, sr.sop_instance_uid, ItemState.WAITING, 0xA700, "full", at(2))
    node.deliveries.item_answered(delivery_id, seg.sop_instance_uid, ItemState.WAITING, 0xA700, "full", at(3))

    seg, sr = node.deliveries.delivery(delivery_id).items
    assert (seg.state, seg.status, seg.accepted_at) == (ItemState.ACCEPTED, 0xB000, at(2))
    assert (seg.transfer_syntax_uid, sr.transfer_syntax_uid) == ("1.2.5", "")
    assert (sr.state, sr.status, sr.accepted_at) == (ItemState.WAITING, 0xA700, None)


def test_a_retry_waits_in_the_queue_for_its_time_and_is_asked_for_once(node: Node) -> None:
    (delivery_id,) = node.publish("key1", "pacs")
    begin(node, delivery_id)

    node.deliveries.retry(delivery_id, "Not reached.", at(2), at(3600), 1)
    node.deliveries.retry(delivery_id, "Not reached.", at(2), at(7200), 1)

    delivery = node.deliveries.delivery(delivery_id)
    assert (delivery.state, delivery.reason, delivery.next_attempt_at) == (
        DeliveryState.WAITING,
        "Not reached.",
        at(3600),
    )
    assert node.deliveries.open_turns() == [OpenTurn(f"{delivery_id}:2", delivery_id)]
    assert node.queue.states([f"{delivery_id}:2"]) == {f"{delivery_id}:2": TurnState.QUEUED}


@pytest.mark.parametrize("answers", [(), (ItemState.REFUSED,), (ItemState.ACCEPTED, ItemState.REFUSED)])
def test_what_was_not_accepted_is_not_called_delivered(node: Node, answers: tuple[ItemState, ...]) -> None:
    (delivery_id,) = node.publish("key1", "pacs")
    delivery = begin(node, delivery_id)
    for item, state in zip(delivery.items, answers, strict=False):
        node.deliveries.item_answered(delivery_id, item.sop_instance_uid, state, 0, "", at(2))

    with pytest.raises(ForbiddenTransition):
        node.deliveries.finish(delivery_id, DeliveryState.DELIVERED, "", at(3))

    assert node.deliveries.delivery(delivery_id).state is DeliveryState.SENDING


def test_a_later_revision_supersedes_what_has_not_gone_out(node: Node) -> None:
    waiting, failed, sending, delivered = node.publish("key1", "pacs", "archive", "viewer", "cloud")
    begin(node, failed)
    node.deliveries.finish(failed, DeliveryState.FAILED, "Refused.", at(2))
    begin(node, sending)
    node.accept_all(begin(node, delivered))
    node.deliveries.finish(delivered, DeliveryState.DELIVERED, "", at(3))

    node.publish("key2", "pacs", seconds=10)

    states = {delivery.delivery_id: delivery.state for delivery in node.deliveries.of_study(uid_of(1))}
    assert [states[one] for one in (waiting, failed, sending, delivered)] == [
        DeliveryState.SUPERSEDED,
        DeliveryState.SUPERSEDED,
        DeliveryState.SENDING,
        DeliveryState.DELIVERED,
    ]


def test_a_later_revision_that_goes_nowhere_supersedes_too(node: Node) -> None:
    (delivery_id,) = node.publish("key1", "pacs")

    node.publish("key2", seconds=10)

    assert node.deliveries.delivery(delivery_id).state is DeliveryState.SUPERSEDED
    assert node.deliveries.begin(delivery_id, 1, at(11)) is None


def test_another_task_supersedes_nothing(node: Node) -> None:
    (delivery_id,) = node.publish("key1", "pacs")

    node.publish("key2", "pacs", task="other", seconds=10)

    assert node.deliveries.delivery(delivery_id).state is DeliveryState.WAITING


def test_an_earlier_revision_that_comes_late_is_superseded_at_once(node: Node) -> None:
    put_findings(node.findings, uid_of(1), "key1")
    node.publish("key2", "pacs")

    (late,) = node.publish("key1", "pacs", seconds=5)

    assert node.deliveries.delivery(late).state is DeliveryState.SUPERSEDED
    assert node.queue.states([f"{late}:1"]) == {f"{late}:1": TurnState.UNKNOWN}


def test_an_attempt_that_fails_after_a_later_revision_came_is_not_repeated(node: Node) -> None:
    (delivery_id,) = node.publish("key1", "pacs")
    begin(node, delivery_id)
    node.publish("key2", "pacs", seconds=10)

    node.deliveries.retry(delivery_id, "Not reached.", at(11), at(20), 1)

    assert node.deliveries.delivery(delivery_id).state is DeliveryState.SUPERSEDED


def test_a_failed_delivery_sends_only_the_rest_when_asked_again(node: Node) -> None:
    (delivery_id,) = node.publish("key1", "pacs")
    seg, sr = begin(node, delivery_id).items
    node.deliveries.item_answered(delivery_id, seg.sop_instance_uid, ItemState.ACCEPTED, 0, "", at(2))
    node.deliveries.item_answered(delivery_id, sr.sop_instance_uid, ItemState.REFUSED, 0xA900, "", at(2))
    node.deliveries.finish(delivery_id, DeliveryState.FAILED, "Refused.", at(3))

    delivery = node.deliveries.ask_again(delivery_id, "Asked for again.", at(4))

    assert delivery.reason == "Asked for again."
    assert [item.state for item in delivery.items] == [ItemState.ACCEPTED, ItemState.WAITING]
    assert begin(node, delivery_id, 2).state is DeliveryState.SENDING
    with pytest.raises(ForbiddenTransition, match="sending already"):
        node.deliveries.ask_again(delivery_id, "Asked for again.", at(5))


def test_a_turn_that_is_over_fails_its_delivery_unless_another_took_over(node: Node) -> None:
    (delivery_id,) = node.publish("key1", "pacs")
    (first,) = node.deliveries.open_turns()
    begin(node, delivery_id)
    node.deliveries.retry(delivery_id, "Not reached.", at(2), at(3), 1)
    (second,) = node.deliveries.open_turns()

    assert not node.deliveries.give_up(first, "over", at(4))
    assert node.deliveries.give_up(second, "over", at(4))
    assert node.deliveries.delivery(delivery_id).state is DeliveryState.FAILED
    assert node.deliveries.open_turns() == []


def test_deliveries_are_listed_by_state(node: Node) -> None:
    first, second = node.publish("key1", "pacs", "archive")
    begin(node, second)

    sending = node.deliveries.by_state([DeliveryState.SENDING])

    assert [delivery.delivery_id for delivery in sending] == [second]
    assert {delivery.delivery_id for delivery in node.deliveries.by_state()} == {first, second}


def test_an_unknown_delivery_is_said_to_be_none(node: Node) -> None:
    with pytest.raises(NotKept):
        node.deliveries.begin("none", 1, at(1))


def test_a_set_that_is_not_taken_is_replaced_once_and_what_was_accepted_stays(node: Node) -> None:
    (delivery_id,) = node.publish("key1", "pacs")
    seg, sr = begin(node, delivery_id).items
    node.deliveries.item_answered(delivery_id, seg.sop_instance_uid, ItemState.ACCEPTED, 0, "", at(2))
    node.deliveries.item_answered(delivery_id, sr.sop_instance_uid, ItemState.REFUSED, 0x0122, "no such class", at(2))

    for _ in range(2):  # said again after a crash
        node.deliveries.replace(delivery_id, "none+enhanced", [("2.25.9", "sr")], "Enhanced SR instead.", at(3), 1)

    delivery = node.deliveries.delivery(delivery_id)
    assert (delivery.state, delivery.form, delivery.reason) == (
        DeliveryState.WAITING,
        "none+enhanced",
        "Enhanced SR instead.",
    )
    assert [(item.sop_instance_uid, item.state) for item in delivery.items] == [
        (seg.sop_instance_uid, ItemState.ACCEPTED),
        (sr.sop_instance_uid, ItemState.REPLACED),
        ("2.25.9", ItemState.WAITING),
    ]
    assert delivery.items[1].status == 0x0122
    assert node.queue.states([f"{delivery_id}:2"]) == {f"{delivery_id}:2": TurnState.QUEUED}
    begin(node, delivery_id, 2)
    node.deliveries.item_answered(delivery_id, "2.25.9", ItemState.ACCEPTED, 0, "", at(4))
    node.deliveries.finish(delivery_id, DeliveryState.DELIVERED, "Accepted.", at(4))
    again = node.deliveries.ask_again(delivery_id, "Missing there.", at(5))
    assert [item.state for item in again.items] == [ItemState.WAITING, ItemState.REPLACED, ItemState.WAITING]


def test_what_a_destination_answered_is_remembered_until_it_is_forgotten(database: Database) -> None:
    classes = PeerClasses(database)
    classes.learn("pacs", ["1.2", "1.3"], accepted=False, reason="no context", at=at(1))
    classes.learn("pacs", ["1.3"], accepted=True, reason="", at=at(2))
    classes.learn("pacs", ["1.2"], accepted=False, reason="again", at=at(3))
    classes.learn("archive", ["1.3"], accepted=False, reason="", at=at(3))

    assert classes.of("pacs") == [
        PeerClass("pacs", "1.2", accepted=False, reason="no context", at=at(1)),
        PeerClass("pacs", "1.3", accepted=True, reason="", at=at(2)),
    ]
    assert classes.refused_by("pacs") == {"1.2"}
    assert classes.forget("pacs") == 2
    assert classes.refused_by("pacs") == frozenset()
    assert classes.refused_by("archive") == {"1.3"}
