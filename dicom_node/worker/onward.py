"""The story of originals that go onward: each instance is on its own, so that one that is refused holds up no other."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from configs.errors import NodeError
from configs.peers import Peer
from dicom_node.scu.store import Outgoing
from dicom_node.worker.carriers import carry
from dicom_node.worker.items import note, outgoing
from dicom_node.worker.outcomes import Answer, Effect, answer_to_error, answer_to_status
from dicom_node.worker.parts import CourierParts
from storage.errors import NotKept
from storage.records import DeliveryItem, DeliveryRecord, InstanceState, ItemState

#: Instances that may fail one after the other before the attempt ends: the destination has no room, or is ill.
_MOST_IN_A_ROW = 3
_REASONS_SAID = 3


def send_onward(delivery: DeliveryRecord, peer: Peer, courier: CourierParts) -> Answer | None:
    """Send what is not accepted or refused yet, and keep each answer as it comes.

    Returns
    -------
    Answer | None
        What the attempt came to; None: nothing is left that could go.
    """
    waiting = [item for item in delivery.items if item.state is ItemState.WAITING]
    going = [each for item in waiting if (each := _still_here(item, delivery, courier)) is not None]
    attempt = _Attempt(delivery, courier)
    if going:
        attempt.send(peer, going)
    taken = attempt.taken + sum(item.state is ItemState.ACCEPTED for item in delivery.items)
    refused = attempt.refused + Counter(item.reason for item in delivery.items if item.state is ItemState.REFUSED)
    if attempt.passing is not None:
        return Answer(Effect.RETRY, f"{attempt.passing} ({taken} of {len(delivery.items)} originals are there)")
    if attempt.final is not None:
        return attempt.final
    if refused:
        return Answer(Effect.GIVE_UP, _said(delivery.destination, taken, refused))
    return Answer(Effect.ACCEPTED, f"{delivery.destination} accepted {_count(taken)}.") if taken else None


class _Enough(Exception):
    """One instance after the other fails: the rest waits for the next attempt."""


class _Attempt:
    """One attempt, and what it came to."""

    def __init__(self, delivery: DeliveryRecord, courier: CourierParts) -> None:
        self.taken = 0
        self.refused: Counter[str] = Counter()
        """Why, and how often."""
        self.passing: str | None = None
        """Why it is to be tried again."""
        self.final: Answer | None = None
        """Why it is not to be tried again, whatever the instance."""
        self._delivery = delivery
        self._courier = courier
        self._in_a_row = 0

    def send(self, peer: Peer, items: Sequence[Outgoing]) -> None:
        """Send until all went, or the destination takes no more for now."""
        uid, courier = self._delivery.study_instance_uid, self._courier
        try:
            carry(peer, uid, items, self._on_status, courier.dimse, self._on_refused, courier.transcoder)
        except _Enough:
            return
        except NodeError as error:
            answer = answer_to_error(error)
            if answer.effect is Effect.RETRY:
                self.passing = answer.meaning
            else:
                self.final = Answer(Effect.GIVE_UP, answer.meaning)

    def _on_status(self, item: Outgoing, status: int) -> None:
        self._note(item, answer_to_status(status), status)

    def _on_refused(self, item: Outgoing, error: NodeError) -> None:
        """An instance that cannot go: what is wrong with it is wrong with no other."""
        try:
            answer = answer_to_error(error)
        except NodeError:  # none of the destination's: it cannot be read or encoded
            answer = Answer(Effect.GIVE_UP, str(error).rstrip(". "))
        else:
            if answer.effect is not Effect.OTHER_FORM and not isinstance(error, NotKept):
                raise error
        self._note(item, answer, None)

    def _note(self, item: Outgoing, answer: Answer, status: int | None) -> None:
        note(self._delivery, item.sop_instance_uid, answer, status, self._courier, item.sent_as)
        if answer.effect is Effect.RETRY:
            self.passing = f"{self._delivery.destination} did not take an original: {answer.meaning}"
            self._in_a_row += 1
            if self._in_a_row >= _MOST_IN_A_ROW:
                raise _Enough
            return
        self._in_a_row = 0
        if answer.effect is Effect.ACCEPTED:
            self.taken += 1
        else:
            self.refused[answer.meaning] += 1


def _still_here(item: DeliveryItem, delivery: DeliveryRecord, courier: CourierParts) -> Outgoing | None:
    """Give an instance to send; None: it was deleted, or rejected meanwhile, and does not go."""
    try:
        counts = courier.index.instance(item.sop_instance_uid).state is InstanceState.FOLLOWS_STUDY
        if counts:
            return outgoing(item.sop_instance_uid, courier)
    except NotKept:
        pass
    why = "It is not kept, or counts no more."
    courier.deliveries.leave_out(delivery.delivery_id, item.sop_instance_uid, why, courier.now())
    return None


def _count(number: int) -> str:
    return "1 original" if number == 1 else f"{number} originals"


def _said(destination: str, taken: int, refused: Counter[str]) -> str:
    reasons = [f"{number} x {why}" for why, number in refused.most_common(_REASONS_SAID)]
    more = ["others"] if len(refused) > _REASONS_SAID else []
    return f"{destination} accepted {_count(taken)} and not {refused.total()}: {'; '.join([*reasons, *more])}"
