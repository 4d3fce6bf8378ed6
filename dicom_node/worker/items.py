"""The instances of a delivery: ready to be sent, and what became of each."""

from __future__ import annotations

import logging
from functools import partial

from dicom_node.scu.store import Outgoing
from dicom_node.worker.outcomes import Answer, Effect
from dicom_node.worker.parts import CourierParts
from storage.records import DeliveryRecord, ItemState

log = logging.getLogger(__name__)

#: What an answer makes of an item: one that may still succeed goes on waiting.
_ITEM_STATE = {
    Effect.ACCEPTED: ItemState.ACCEPTED,
    Effect.RETRY: ItemState.WAITING,
    Effect.GIVE_UP: ItemState.REFUSED,
    Effect.OTHER_FORM: ItemState.REFUSED,
}


def outgoing(sop_instance_uid: str, courier: CourierParts) -> Outgoing:
    """Give a kept instance ready to be sent."""
    instance = courier.index.instance(sop_instance_uid)
    return Outgoing(
        sop_instance_uid=instance.sop_instance_uid,
        sop_class_uid=instance.sop_class_uid,
        transfer_syntax_uid=instance.transfer_syntax_uid,
        open=partial(courier.blobs.open, instance.path),
    )


def note(
    delivery: DeliveryRecord,
    sop_instance_uid: str,
    answer: Answer,
    status: int | None,
    courier: CourierParts,
    sent_as: str = "",
) -> None:
    """Keep what the destination said of one instance, and the transfer syntax that it went in."""
    state = _ITEM_STATE[answer.effect]
    courier.deliveries.item_answered(
        delivery.delivery_id, sop_instance_uid, state, status, answer.meaning, courier.now(), sent_as
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
