"""Whether destinations keep what they accepted: asked by storage commitment, C-FIND, QIDO-RS, or a look at the file.

`confirmed` means that the destination said so after it had accepted; what it accepted and does not have is sent again.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import uuid
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from functools import partial

from configs.errors import NodeError
from configs.peers import DeliverByDimse, DeliverByFolder, DeliverByStow, Peer
from dicom_node.commitment_report import COMMITMENT_PUSH_MODEL
from dicom_node.errors import AssociationRejected, ContextRefused, PeerRefused, PeerUnreachable
from dicom_node.scu import commitment, folder
from dicom_node.scu.association import Timeouts
from dicom_node.scu.find import STUDY_ROOT, find, identifier
from dicom_node.worker.carriers import service_of, timeouts_of
from dicom_node.worker.items import outgoing
from dicom_node.worker.outcomes import next_attempt_at
from dicom_node.worker.parts import CourierParts
from dicom_node.worker.turns import Turns
from dicomweb import stow_client
from dicomweb.errors import ServiceRefused, ServiceUnreachable
from storage.confirmations import Confirmation, Confirmations, Report, missing_of
from storage.errors import NotKept
from storage.records import DeliveryRecord, DeliveryState, InstanceRecord, ItemState

log = logging.getLogger(__name__)

#: Seconds between two looks at what is due.
EVERY_S = 0.5
#: Destinations that are asked at the same time: one that hangs holds up nobody else.
_AT_ONCE = 8
#: Seconds that the association of a request stays open for its report.
HOLD_S = 5.0
#: Seconds that a report may take where C-FIND can be asked instead; and where it cannot.
REPORT_WITHIN_S, REPORT_ALONE_WITHIN_S = 60.0, 900.0
#: Questions, with growing pauses, that an archive may answer without all: it may index slowly.
MOST_MISSES = 5
#: How often what is missing is sent again before a person is told.
MOST_SENT_AGAIN = 3
#: Seconds for one question, whatever comes.
_WHOLE_S = 120.0
#: Answers that are read of one series.
_MOST_FOUND = 100_000
#: So many instances of a series are looked for at once; fewer are asked for one by one, by name.
_MANY = 8

#: Failures of a question that may pass.
_LATER = (PeerUnreachable, AssociationRejected, PeerRefused, ServiceUnreachable, ServiceRefused)


class ConfirmationWatch:
    """Looks for deliveries that are to be confirmed, again and again."""

    def __init__(self, confirmations: Confirmations, courier: CourierParts) -> None:
        self._confirmations = confirmations
        self._courier = courier
        self._turns = Turns("confirmation_failed")
        self._in_hand: set[str] = set()
        self._lock = threading.Lock()

    def run(self, stop: threading.Event, *, every_s: float = EVERY_S) -> None:
        """Look until told to stop; what is in hand then is waited for, within the destinations' time."""
        with ThreadPoolExecutor(max_workers=_AT_ONCE, thread_name_prefix="confirm") as pool:
            while not stop.wait(every_s):
                self._turns.take("look", self._courier.now(), partial(self._look, pool))

    def _look(self, pool: ThreadPoolExecutor) -> bool:
        due = self._confirmations.due(self._courier.now())
        by_destination: dict[str, list[Confirmation]] = {}
        for each in due:
            by_destination.setdefault(each.destination, []).append(each)
        for destination, waiting in by_destination.items():
            with self._lock:
                if destination in self._in_hand:
                    continue
                self._in_hand.add(destination)
            pool.submit(self._ask, destination, waiting)
        return bool(due)

    def _ask(self, destination: str, waiting: Sequence[Confirmation]) -> None:
        try:
            for each in waiting:
                work = partial(self._one, each)
                self._turns.take(each.delivery_id, self._courier.now(), work)
        finally:
            with self._lock:
                self._in_hand.discard(destination)

    def _one(self, each: Confirmation) -> bool:
        confirm(each, self._confirmations, self._courier)
        return True


def confirm(waiting: Confirmation, confirmations: Confirmations, courier: CourierParts) -> None:
    """Ask a destination once for one delivery, or read what it reported, and record what follows."""
    delivery = courier.deliveries.delivery(waiting.delivery_id)
    peer = courier.peers.get(waiting.destination)
    if delivery.state is not DeliveryState.DELIVERED:
        if delivery.state not in (DeliveryState.WAITING, DeliveryState.SENDING):
            confirmations.end(waiting.delivery_id, f"The delivery is {delivery.state}.", courier.now())
        else:  # it is sent again; its end begins anew
            then = courier.now() + timedelta(seconds=REPORT_WITHIN_S)
            confirmations.put_off(waiting.delivery_id, "sent again", then, attempts=0, misses=0)
        return
    if peer is None or peer.deliver is None:
        confirmations.end(waiting.delivery_id, "The destination is not listed any more.", courier.now())
        return
    items = [item for item in delivery.items if item.state is ItemState.ACCEPTED]
    instances = _kept([item.sop_instance_uid for item in items], courier)
    if not instances:
        confirmations.end(waiting.delivery_id, "Not confirmed: nothing of it is kept any more.", courier.now())
        return
    asking = _Asking(waiting, delivery, peer, instances, confirmations, courier)
    try:
        asking.ask()
    except _LATER as error:
        asking.later(str(error), attempts=waiting.attempts + 1, misses=waiting.misses)


def _kept(sop_instance_uids: Sequence[str], courier: CourierParts) -> list[InstanceRecord]:
    """Give the instances that are still here: an original may have been deleted since."""
    kept = []
    for uid in sop_instance_uids:
        with contextlib.suppress(NotKept):
            kept.append(courier.index.instance(uid))
    return kept


class _Asking:
    """One question for one delivery."""

    def __init__(
        self,
        waiting: Confirmation,
        delivery: DeliveryRecord,
        peer: Peer,
        instances: Sequence[InstanceRecord],
        confirmations: Confirmations,
        courier: CourierParts,
    ) -> None:
        self._waiting = waiting
        self._delivery = delivery
        self._peer = peer
        self._instances = instances
        self._confirmations = confirmations
        self._courier = courier

    def ask(self) -> None:
        """Ask in the way that the destination offers, the surest first."""
        match self._peer.deliver:
            case DeliverByFolder() as deliver:
                self._settle(self._not_in(deliver), "its files hold the same bytes", sure=False)
            case DeliverByStow() as deliver if deliver.confirm != "none":
                self._settle(self._not_served(deliver), "it finds them by QIDO-RS", sure=False)
            case DeliverByDimse() as deliver if deliver.confirm != "none":
                self._by_dimse(deliver)
            case _:
                self._end("Not confirmed: `confirm: none` is set for this destination.")

    def _by_dimse(self, deliver: DeliverByDimse) -> None:
        uids = [each.sop_instance_uid for each in self._instances]
        if self._waiting.report is not None:
            self._settle(missing_of(self._waiting.report, uids), "it committed itself to keep them", sure=True)
            return
        refused = self._courier.classes.refused_by(self._delivery.destination)
        overdue = bool(self._waiting.transaction_uid)
        if deliver.confirm != "find" and not overdue and COMMITMENT_PUSH_MODEL not in refused:
            try:
                self._request_commitment(deliver)
            except ContextRefused as error:
                self._learn(COMMITMENT_PUSH_MODEL, error)
            else:
                return
        if deliver.confirm == "commitment":
            if COMMITMENT_PUSH_MODEL in self._courier.classes.refused_by(self._delivery.destination):
                self._end("Not confirmed: the destination offers no storage commitment.")
            else:
                raise PeerUnreachable("No report of storage commitment came in time.")
            return
        try:
            missing = self._not_found()
        except ContextRefused as error:
            self._learn(STUDY_ROOT, error)
            self._end("Not confirmed: the destination offers neither storage commitment nor C-FIND.")
            return
        self._settle(missing, "it finds them by C-FIND", sure=False)

    def _request_commitment(self, deliver: DeliverByDimse) -> None:
        transaction_uid = f"2.25.{uuid.uuid4().int}"
        within_s = REPORT_ALONE_WITHIN_S if deliver.confirm == "commitment" else REPORT_WITHIN_S
        then = self._courier.now() + timedelta(seconds=within_s)
        self._confirmations.asked(self._waiting.delivery_id, transaction_uid, then)

        def on_report(told_uid: str, report: Report) -> None:
            self._confirmations.reported(told_uid, self._delivery.destination, report, self._courier.now())

        commitment.request(
            self._peer,
            calling_ae_title=self._calling,
            transaction_uid=transaction_uid,
            references=[(each.sop_class_uid, each.sop_instance_uid) for each in self._instances],
            on_report=on_report,
            hold_s=HOLD_S,
            timeouts=self._timeouts,
        )
        self._courier.classes.learn(
            self._delivery.destination, [COMMITMENT_PUSH_MODEL], accepted=True, reason="", at=self._courier.now()
        )

    def _not_found(self) -> list[str]:
        by_series: dict[str, list[InstanceRecord]] = {}
        for each in self._instances:
            by_series.setdefault(each.series_instance_uid, []).append(each)
        unseen = list(self._instances)
        for series in (group for group in by_series.values() if len(group) >= _MANY):
            seen = self._found(series[0], "")
            unseen = [each for each in unseen if each.sop_instance_uid not in seen]
        # Some archives answer with the first so many alone: what is not among them is asked for by name.
        return [
            each.sop_instance_uid
            for each in unseen
            if each.sop_instance_uid not in self._found(each, each.sop_instance_uid)
        ]

    def _found(self, of_series: InstanceRecord, sop_instance_uid: str) -> set[str]:
        """Give what the archive has of a series; `sop_instance_uid`: this one alone."""
        wanted = identifier(
            "IMAGE",
            StudyInstanceUID=of_series.study_instance_uid,
            SeriesInstanceUID=of_series.series_instance_uid,
            SOPInstanceUID=sop_instance_uid,
        )
        most = 2 if sop_instance_uid else _MOST_FOUND
        found = find(self._peer, calling_ae_title=self._calling, identifier=wanted, most=most, timeouts=self._timeouts)
        return {str(one.get("SOPInstanceUID", "")) for one in found}

    def _not_served(self, deliver: DeliverByStow) -> list[str]:
        service = service_of(deliver, self._peer.tls)
        within_s = self._courier.dimse.answer_within_s
        return [
            each.sop_instance_uid
            for each in self._instances
            if not stow_client.has(
                service, each.study_instance_uid, each.series_instance_uid, each.sop_instance_uid, within_s=within_s
            )
        ]

    def _not_in(self, deliver: DeliverByFolder) -> list[str]:
        went = {item.sop_instance_uid: item.transfer_syntax_uid for item in self._delivery.items}
        study = self._delivery.study_instance_uid
        sent = [
            replace(outgoing(each.sop_instance_uid, self._courier), sent_as=went.get(each.sop_instance_uid, ""))
            for each in self._instances
        ]
        return [item.sop_instance_uid for item in sent if not folder.holds(deliver.path, study, item)]

    def _settle(self, missing: Sequence[str], how: str, *, sure: bool) -> None:
        """Record what was found; `sure`: what is missing is not merely slow to appear."""
        name, now = self._delivery.destination, self._courier.now()
        if not missing:
            self._end(f"{self._delivery.reason} Confirmed: {how}.", to=DeliveryState.CONFIRMED)
            return
        lost = f"{name} accepted {len(self._instances)} objects and does not have {len(missing)} of them"
        if not sure and self._waiting.misses + 1 < MOST_MISSES:
            self.later(lost, attempts=self._waiting.attempts, misses=self._waiting.misses + 1)
            return
        if self._waiting.sent_again >= MOST_SENT_AGAIN:
            said = f"{lost}, also after they were sent again {self._waiting.sent_again} times."
            self._end(said, to=DeliveryState.FAILED)
            return
        self._confirmations.sent_again(self._waiting.delivery_id, self._waiting.sent_again + 1, lost)
        self._courier.deliveries.ask_again(self._waiting.delivery_id, f"{lost}: sent again.", now)
        log.error(
            "accepted and not there: sent again",
            extra={"action": "delivery_lost", "delivery_id": self._waiting.delivery_id, "why": lost},
        )

    def later(self, reason: str, *, attempts: int, misses: int) -> None:
        """Ask again after a pause, or no more: then what is delivered stays so, unconfirmed."""
        now = self._courier.now()
        then = next_attempt_at(self._waiting.delivery_id, attempts + misses, now, self._courier.delivery)
        if then is None:
            self._end(f"Not confirmed: {reason}")
            return
        self._confirmations.put_off(self._waiting.delivery_id, reason, then, attempts=attempts, misses=misses)

    def _end(self, reason: str, *, to: DeliveryState | None = None) -> None:
        self._confirmations.end(self._waiting.delivery_id, reason, self._courier.now(), to=to)
        log.log(
            logging.INFO if to is DeliveryState.CONFIRMED else logging.WARNING,
            "confirmation ended",
            extra={
                "action": "confirmation_ended",
                "delivery_id": self._waiting.delivery_id,
                "state": (to or DeliveryState.DELIVERED).value,
                "why": reason,
            },
        )

    def _learn(self, sop_class_uid: str, error: NodeError) -> None:
        self._courier.classes.learn(
            self._delivery.destination, [sop_class_uid], accepted=False, reason=str(error), at=self._courier.now()
        )

    @property
    def _calling(self) -> str:
        return self._peer.answer_as or self._courier.dimse.ae_title

    @property
    def _timeouts(self) -> Timeouts:
        return replace(timeouts_of(self._courier.dimse), whole_s=_WHOLE_S)
