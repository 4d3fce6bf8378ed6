"""The story of a delivery: one result set to one destination, with what it answered kept per instance."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from configs.errors import NodeError
from configs.peers import Deliver, Peer
from dicom_node.errors import ContextRefused
from dicom_node.scu.store import Outgoing
from dicom_node.worker.carriers import carry
from dicom_node.worker.forms import instead
from dicom_node.worker.items import note, outgoing
from dicom_node.worker.onward import send_onward
from dicom_node.worker.outcomes import (
    CLASS_REFUSED,
    Answer,
    Effect,
    answer_to_error,
    answer_to_status,
    next_attempt_at,
)
from dicom_node.worker.parts import CourierParts
from inference.errors import UnusableAnswer
from inference.results.forms import Form
from storage.errors import NotKept
from storage.records import DeliveryItem, DeliveryRecord, DeliveryState, ItemState
from storage.visibility import ORIGINALS, is_note

log = logging.getLogger(__name__)


def deliver(delivery_id: str, attempt: int, courier: CourierParts) -> None:
    """Bring one result set to its destination, or say when it is tried again, or why it never will be."""
    delivery = courier.deliveries.begin(delivery_id, attempt, courier.now())
    if delivery is None:
        return  # superseded or done meanwhile
    name = delivery.destination
    peer = courier.peers.get(name)
    if peer is None or peer.deliver is None:
        _end(delivery, DeliveryState.FAILED, _no_destination(name, known=peer is not None), courier)
        return
    if delivery.form == ORIGINALS:
        _originals(delivery, attempt, peer, courier)
        return
    outcome = _send(delivery, peer, courier)
    if outcome.effect is Effect.ACCEPTED:
        _end(delivery, DeliveryState.DELIVERED, _accepted(delivery, outcome.meaning), courier)
    elif outcome.effect is Effect.OTHER_FORM:
        _fall_back(delivery, attempt, outcome, peer.deliver, courier)
    else:
        _try_again_or_give_up(delivery, attempt, outcome, courier)


def _originals(delivery: DeliveryRecord, attempt: int, peer: Peer, courier: CourierParts) -> None:
    outcome = send_onward(delivery, peer, courier)
    if outcome is None:
        _end(delivery, DeliveryState.WITHDRAWN, "None of it is kept or counts any more.", courier)
    elif outcome.effect is Effect.ACCEPTED:
        _end(delivery, DeliveryState.DELIVERED, outcome.meaning, courier)
    else:
        _try_again_or_give_up(delivery, attempt, outcome, courier)


@dataclass(frozen=True)
class _Outcome(Answer):
    """What one attempt came to."""

    refused: DeliveryItem | None = None
    """The instance that the destination did not take; None: it came to none, or took all."""
    accepted: frozenset[str] = frozenset()
    """Of the set: SOP Instance UIDs that are there now."""


class _NotAccepted(Exception):
    """The destination did not take an instance: what comes after it, and names it, is not sent."""

    def __init__(self, answer: Answer, sop_instance_uid: str, *, of_class: bool) -> None:
        super().__init__(answer.meaning)
        self.answer = answer
        self.sop_instance_uid = sop_instance_uid
        self.of_class = of_class
        """Whether nothing of that SOP Class is taken."""


def _send(delivery: DeliveryRecord, peer: Peer, courier: CourierParts) -> _Outcome:
    """Send in order what is not accepted yet, keep each answer as it comes, and end with the first refusal."""
    items = {item.sop_instance_uid: item for item in delivery.items if item.state is not ItemState.REPLACED}
    there = {uid for uid, item in items.items() if item.state is ItemState.ACCEPTED}
    notes: list[str] = []
    classes: set[str] = set()

    def on_status(outgoing: Outgoing, status: int) -> None:
        answer, item = answer_to_status(status), items[outgoing.sop_instance_uid]
        note(delivery, outgoing.sop_instance_uid, answer, status, courier, outgoing.sent_as)
        kind = item.kind.upper()
        if answer.effect is not Effect.ACCEPTED:
            said = Answer(answer.effect, f"{delivery.destination} did not take the {kind}: {answer.meaning}")
            raise _NotAccepted(said, outgoing.sop_instance_uid, of_class=status in CLASS_REFUSED)
        there.add(outgoing.sop_instance_uid)
        classes.add(outgoing.sop_class_uid)
        notes.extend([f"{kind}: {answer.meaning}"] if answer.meaning else [])

    missing = [uid for uid in items if uid not in there]
    try:
        if missing:
            waiting = [outgoing(uid, courier) for uid in missing]
            carry(peer, delivery.study_instance_uid, waiting, on_status, courier.dimse)
    except _NotAccepted as refused:
        answer, refused_uid, of_class = refused.answer, refused.sop_instance_uid, refused.of_class
    except NodeError as error:
        answer, of_class = answer_to_error(error), isinstance(error, ContextRefused)
        refused_uid = error.facts.get("sop_instance_uid", missing[0]) if of_class else ""
        if refused_uid in items:
            note(delivery, refused_uid, answer, None, courier)
    else:
        answer, refused_uid, of_class = Answer(Effect.ACCEPTED, "; ".join(notes)), "", False
    courier.classes.learn(delivery.destination, classes, accepted=True, reason="", at=courier.now())
    if of_class:
        refused_class = courier.index.instance(refused_uid).sop_class_uid
        courier.classes.learn(
            delivery.destination, [refused_class], accepted=False, reason=answer.meaning, at=courier.now()
        )
    return _Outcome(answer.effect, answer.meaning, items.get(refused_uid), frozenset(there))


def _fall_back(
    delivery: DeliveryRecord, attempt: int, outcome: _Outcome, deliver: Deliver, courier: CourierParts
) -> None:
    """Have the next form of the destination's chain go in place of what it does not take."""
    name, refused = delivery.destination, outcome.refused
    known = courier.classes.refused_by(name)
    then = (
        instead(Form.of(delivery.form), refused.kind, deliver, known, rest_accepted=bool(outcome.accepted))
        if refused is not None and not is_note(delivery.form)
        else None
    )
    if then is None:
        said = f"{outcome.meaning}. It takes no other form of it either, or none is allowed."
        _end(delivery, DeliveryState.FAILED, f"{said} Trying again would not help.", courier)
        return
    try:
        items = courier.make_set(delivery.run_key, then.form)
    except (UnusableAnswer, NotKept) as error:
        said = f"{outcome.meaning}. No other form can be made: {error}"
        _end(delivery, DeliveryState.FAILED, said, courier)
        return
    reason = f"{name} does not accept {then.said}."
    courier.deliveries.replace(delivery.delivery_id, str(then.form), items, reason, courier.now(), attempt)
    log.warning(
        "another form goes instead",
        extra={
            "action": "delivery_form_replaced",
            "delivery_id": delivery.delivery_id,
            "form": str(then.form),
            "why": outcome.meaning,
        },
    )


def _accepted(delivery: DeliveryRecord, notes: str) -> str:
    """Say what the destination took, and in place of what."""
    sent = [item for item in delivery.items if item.state is not ItemState.REPLACED]
    said = [f"{delivery.destination} accepted {_kinds(sent)}."]
    said += [f"{notes}."] if notes else []
    replaced = {item.kind for item in delivery.items} - {item.kind for item in sent}
    said += [f"It does not accept {' or '.join(kind.upper() for kind in sorted(replaced))}."] if replaced else []
    return " ".join(said)


def _try_again_or_give_up(delivery: DeliveryRecord, attempt: int, answer: Answer, courier: CourierParts) -> None:
    now = courier.now()
    if answer.effect is Effect.GIVE_UP:
        _end(delivery, DeliveryState.FAILED, f"{answer.meaning}. Trying again would not help.", courier)
        return
    then = next_attempt_at(delivery.delivery_id, attempt, now, courier.delivery)
    if then is None:
        _end(delivery, DeliveryState.FAILED, f"{answer.meaning}. Given up after {attempt} attempts.", courier)
        return
    pause_s = (then - now).total_seconds()
    reason = f"{answer.meaning}. Attempt {attempt}; the next one in {pause_s:.0f} s."
    courier.deliveries.retry(delivery.delivery_id, reason, now, then, attempt)
    log.warning(
        "delivery is tried again later",
        extra={"action": "delivery_retry", "delivery_id": delivery.delivery_id, "attempt": attempt, "why": reason},
    )


def _end(delivery: DeliveryRecord, state: DeliveryState, reason: str, courier: CourierParts) -> None:
    courier.deliveries.finish(delivery.delivery_id, state, reason, courier.now())
    log.log(
        logging.INFO if state is DeliveryState.DELIVERED else logging.ERROR,
        "delivery ended",
        extra={
            "action": "delivery_ended",
            "delivery_id": delivery.delivery_id,
            "state": state.value,
            "why": reason,
        },
    )


def _no_destination(name: str, *, known: bool) -> str:
    what = "has no deliver" if known else "is not in peers.yaml"
    remove = f"dicom-node peers remove {name} && " if known else ""
    return f'Peer "{name}" {what}. Add it: {remove}dicom-node peers add {name} --ae AE_TITLE --host HOST --port PORT'


def _kinds(items: Sequence[DeliveryItem]) -> str:
    return " and ".join(dict.fromkeys(item.kind.upper() for item in items))
