"""The story of a delivery: one result set to one destination, with what it answered kept per instance."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import partial

from configs.errors import NodeError
from configs.peers import Peer
from dicom_node.errors import ContextRefused
from dicom_node.scu.association import Timeouts
from dicom_node.scu.store import Outgoing, send
from dicom_node.worker.outcomes import Answer, Effect, answer_to_error, answer_to_status, next_attempt_at
from dicom_node.worker.parts import CourierParts
from storage.records import DeliveryItem, DeliveryRecord, DeliveryState, ItemState

log = logging.getLogger(__name__)

#: What an answer makes of an item: one that may still succeed goes on waiting.
_ITEM_STATE = {
    Effect.ACCEPTED: ItemState.ACCEPTED,
    Effect.RETRY: ItemState.WAITING,
    Effect.GIVE_UP: ItemState.REFUSED,
}


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
    answer = _send(delivery, delivery.items, peer, courier)
    if answer.effect is Effect.ACCEPTED:
        note = f" {answer.meaning}." if answer.meaning else ""
        _end(delivery, DeliveryState.DELIVERED, f"{name} accepted {_kinds(delivery.items)}.{note}", courier)
        return
    _try_again_or_give_up(delivery, attempt, answer, courier)


class _NotAccepted(Exception):
    """The destination did not take an instance: what comes after it, and names it, is not sent."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer.meaning)
        self.answer = answer


def _send(delivery: DeliveryRecord, items: Sequence[DeliveryItem], peer: Peer, courier: CourierParts) -> Answer:
    """Send in order what is not accepted yet, keep each answer as it comes, and end with the first refusal."""
    kinds = {item.sop_instance_uid: item.kind.upper() for item in items}
    notes: list[str] = []

    def on_status(outgoing: Outgoing, status: int) -> None:
        answer, kind = answer_to_status(status), kinds[outgoing.sop_instance_uid]
        _note(delivery, outgoing.sop_instance_uid, answer, status, courier)
        if answer.effect is not Effect.ACCEPTED:
            raise _NotAccepted(
                Answer(answer.effect, f"{delivery.destination} did not take the {kind}: {answer.meaning}")
            )
        notes.extend([f"{kind}: {answer.meaning}"] if answer.meaning else [])

    try:
        missing = [_outgoing(item, courier) for item in items if item.state is not ItemState.ACCEPTED]
        if missing:
            send(
                peer,
                calling_ae_title=peer.answer_as or courier.dimse.ae_title,
                items=missing,
                on_status=on_status,
                timeouts=Timeouts(associate_s=courier.dimse.answer_within_s, answer_s=courier.dimse.answer_within_s),
            )
    except _NotAccepted as refused:
        return refused.answer
    except NodeError as error:
        answer = answer_to_error(error)
        refused_uid = error.facts.get("sop_instance_uid") if isinstance(error, ContextRefused) else None
        if refused_uid in kinds:
            _note(delivery, refused_uid, answer, None, courier)
        return answer
    return Answer(Effect.ACCEPTED, "; ".join(notes))


def _note(
    delivery: DeliveryRecord, sop_instance_uid: str, answer: Answer, status: int | None, courier: CourierParts
) -> None:
    """Keep what the destination said of one instance."""
    courier.deliveries.item_answered(
        delivery.delivery_id, sop_instance_uid, _ITEM_STATE[answer.effect], status, answer.meaning, courier.now()
    )
    log.info(
        "instance answered",
        extra={
            "action": "delivery_answered",
            "delivery_id": delivery.delivery_id,
            "sop_instance_uid": sop_instance_uid,
            "status": "none" if status is None else f"0x{status:04X}",
        },
    )


def _outgoing(item: DeliveryItem, courier: CourierParts) -> Outgoing:
    instance = courier.index.instance(item.sop_instance_uid)
    return Outgoing(
        sop_instance_uid=instance.sop_instance_uid,
        sop_class_uid=instance.sop_class_uid,
        transfer_syntax_uid=instance.transfer_syntax_uid,
        open=partial(courier.blobs.open, instance.path),
    )


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
