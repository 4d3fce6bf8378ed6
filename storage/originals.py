"""Originals on their way onward: what of a study a destination gets as it is kept, asked for with its decision."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, Row, exists, insert, not_, or_, select

from storage import ledger, tables
from storage.deliveries import lane_of, originals_id_of
from storage.records import DeliveryState, InstanceRole, InstanceState, ItemState, Onward
from storage.visibility import ORIGINALS

if TYPE_CHECKING:
    from storage.jobs import Queue

#: What an item of such a delivery is.
ORIGINAL = "original"


def ask_onward(
    connection: Connection, queue: Queue, study_instance_uid: str, decision_number: int, onward: Onward, at: datetime
) -> int:
    """Ask, inside the transaction of a decision, for what a destination is to get of a study; give how many instances.

    Inputs and documents as they are kept and count here. Left out are those that came from the destination itself,
    and those that it was to get already with the same bytes: a study decided on again sends what is new.
    """
    rows = _instances(connection, study_instance_uid, onward)
    if not rows:
        return 0
    delivery_id = originals_id_of(study_instance_uid, decision_number, onward.destination)
    connection.execute(
        insert(tables.deliveries).values(
            delivery_id=delivery_id,
            form=ORIGINALS,
            study_instance_uid=study_instance_uid,
            destination=onward.destination,
            state=DeliveryState.WAITING.value,
            next_attempt_at=at,
            created_at=at,
        )
    )
    ledger.begin(connection, delivery_id, DeliveryState.WAITING, reason=f'Rule "{onward.route}" asks for it.', at=at)
    items = [
        {
            "delivery_id": delivery_id,
            "position": position,
            "sop_instance_uid": row.sop_instance_uid,
            "kind": ORIGINAL,
            "state": ItemState.WAITING.value,
            "sha256": row.sha256,
        }
        for position, row in enumerate(rows)
    ]
    connection.execute(insert(tables.delivery_items), items)
    queue.enqueue_delivery(connection, delivery_id, 1, lane_of(delivery_id, onward.destination))
    return len(rows)


def _instances(connection: Connection, study_instance_uid: str, onward: Onward) -> list[Row[Any]]:
    instances, items, deliveries = tables.instances.c, tables.delivery_items.c, tables.deliveries.c
    asked = exists(
        select(1).where(
            items.sop_instance_uid == instances.sop_instance_uid,
            items.sha256 == instances.sha256,
            deliveries.delivery_id == items.delivery_id,
            deliveries.form == ORIGINALS,
            deliveries.destination == onward.destination,
        )
    )
    from_it = [instances.peer == onward.destination]
    if onward.ae_title:
        from_it.append(instances.calling_ae_title == onward.ae_title)
    wanted = (
        select(instances.sop_instance_uid, instances.sha256)
        .where(
            instances.study_instance_uid == study_instance_uid,
            instances.role != InstanceRole.RESULT,
            instances.state == InstanceState.FOLLOWS_STUDY,
            not_(or_(*from_it)),
            not_(asked),
        )
        .order_by(instances.series_instance_uid, instances.instance_number, instances.sop_instance_uid)
    )
    return list[Row[Any]](connection.execute(wanted))
