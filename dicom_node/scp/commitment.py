"""Storage Commitment Push Model: take requests on, and report on the same association where it stays open."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import cast

from pydicom import Dataset
from pynetdicom import evt
from pynetdicom.dimse_primitives import N_ACTION, N_EVENT_REPORT
from pynetdicom.events import Event

from configs.peers import Peer
from dicom_node.commitment_report import COMMITMENT_PUSH_MODEL, COMMITMENT_PUSH_MODEL_INSTANCE, read_report
from dicom_node.scp.contexts import service_of
from dicom_node.scp.register import OpenAssociation
from dicom_node.scp.reporting import Reporting
from dicom_node.scp.requests import (
    INVALID_ARGUMENT_VALUE,
    NO_SUCH_ACTION,
    NO_SUCH_SOP_CLASS,
    NO_SUCH_SOP_INSTANCE,
    NOT_AUTHORIZED,
    RESOURCE_LIMITATION,
    RequestRefused,
    answer,
    read_attributes,
)
from dicom_node.scp.services import ScpParts
from dicom_node.scp.status import PROCESSING_FAILURE, SUCCESS
from dicom_node.scp.store import is_uid
from storage.commitments import Commitments, Reference
from storage.confirmations import Confirmations
from storage.intake import utc_now

log = logging.getLogger(__name__)

_REQUEST_STORAGE_COMMITMENT = 1
#: Instances that one request may name; a modality asks per study or per hundred.
MOST_REFERENCES = 50_000
#: Seconds that a peer's answer to a report on its own association is waited for beyond `answer_within_s`.
_MARGIN_S = 15.0

#: What N-ACTION may be answered with. Source: PS3.4 J.3.2.1, PS3.7 10.1.4.1.10.
N_ACTION_STATUSES: dict[int, str] = {
    SUCCESS: "Success: the request is recorded; a report follows",
    PROCESSING_FAILURE: "Processing failure: an error of the node",
    NO_SUCH_SOP_INSTANCE: "No such SOP Instance: not the well-known instance of the Push Model",
    INVALID_ARGUMENT_VALUE: "Invalid argument value: no Transaction UID, no references, or they cannot be read",
    NO_SUCH_SOP_CLASS: "No such SOP Class: another than that of the presentation context",
    NO_SUCH_ACTION: "No such action: another than Request Storage Commitment",
    NOT_AUTHORIZED: "Refused, not authorised: the peer may report to the node and not ask of it",
    RESOURCE_LIMITATION: "Resource limitation: no room, no index, or too many references; ask again",
}


@dataclass(frozen=True)
class CommitmentService:
    """Serves N-ACTION of the Push Model."""

    commitments: Commitments
    confirmations: Confirmations
    clock: Callable[[], datetime] = utc_now

    def __call__(self, parts: ScpParts) -> Sequence[evt.EventHandlerType]:
        """Give the handlers."""
        reporting = Reporting(self.commitments, parts, clock=self.clock)

        def on_action(event: Event) -> tuple[int | Dataset, Dataset | None]:
            return answer(event, parts.register, "commitment", lambda: self._take_on(event, parts, reporting))

        def on_report(event: Event) -> tuple[int | Dataset, None]:
            status, _ = answer(event, parts.register, "commitment_report", lambda: self._hear(event, parts))
            return status, None

        return [(evt.EVT_N_ACTION, on_action), (evt.EVT_N_EVENT_REPORT, on_report), *reporting.handlers()]

    def _hear(self, event: Event, parts: ScpParts) -> None:
        """Record a report of what we asked a destination for.

        Source: PS3.4 J.3.3.
        """
        request = cast(N_EVENT_REPORT, event.request)
        entry = parts.register.of(event.assoc)
        information = read_attributes(request.EventInformation, event, broken=INVALID_ARGUMENT_VALUE)
        transaction_uid, report = read_report(information)
        peer = entry.origin.peer if entry is not None else ""
        # One peer may be listed under several names: for where it calls from, and for where results go.
        titles = {peer, *(name for name, each in parts.peers.items() if _same(each, parts.peers.get(peer), entry))}
        if not any(self.confirmations.reported(transaction_uid, name, report, self.clock()) for name in titles):
            raise RequestRefused(INVALID_ARGUMENT_VALUE, "No commitment was asked for under this Transaction UID.")
        log.info(
            "report of commitment taken",
            extra={
                "action": "commitment_heard",
                **(entry.facts if entry is not None else {}),
                "transaction_uid": transaction_uid,
                "committed": len(report.committed),
                "failures": len(report.failed),
            },
        )

    def _take_on(self, event: Event, parts: ScpParts, reporting: Reporting) -> None:
        """Record one request; what it comes to is durable before it is answered.

        Source: PS3.4 J.3.2.
        """
        transaction_uid, references = read_request(event)
        entry = parts.register.of(event.assoc)
        if entry is None:  # the association ended while the request was waiting
            raise RequestRefused(PROCESSING_FAILURE, "The association has ended.")
        peer = parts.peers.get(entry.origin.peer)
        if peer is not None and "commit" not in peer.accept:
            raise RequestRefused(NOT_AUTHORIZED, "This peer may report commitment to the node, and not ask for it.")
        now = self.clock()
        hold_s = reporting.grace_s + parts.settings.answer_within_s + _MARGIN_S
        commitment = self.commitments.request(
            entry.origin, transaction_uid, references, at=now, report_at=now + timedelta(seconds=hold_s)
        )
        reporting.expect(event.assoc, int(event.context.context_id), commitment)
        log.info(
            "storage commitment asked for",
            extra={
                "action": "commitment_requested",
                **entry.facts,
                "transaction_uid": transaction_uid,
                "instances": len(commitment.items),
                "failures": sum(item.failure_reason is not None for item in commitment.items),
            },
        )


def _same(listed: Peer, caller: Peer | None, entry: OpenAssociation | None) -> bool:
    """Tell whether a listed peer is the AE that calls."""
    return entry is not None and caller is not None and listed.ae_title == entry.origin.calling_ae_title


def read_request(event: Event) -> tuple[str, list[Reference]]:
    """Read Transaction UID and references of an N-ACTION.

    Raises
    ------
    RequestRefused
        It is none that the Push Model knows.

    Source: PS3.4 Table J.3-1.
    """
    request = cast(N_ACTION, event.request)
    if event.context.abstract_syntax != COMMITMENT_PUSH_MODEL or request.RequestedSOPClassUID != COMMITMENT_PUSH_MODEL:
        raise RequestRefused(NO_SUCH_SOP_CLASS, "Actions are served of the Storage Commitment Push Model alone.")
    if request.RequestedSOPInstanceUID != COMMITMENT_PUSH_MODEL_INSTANCE:
        raise RequestRefused(NO_SUCH_SOP_INSTANCE, "The Push Model has one well-known instance; this is another.")
    if request.ActionTypeID != _REQUEST_STORAGE_COMMITMENT:
        raise RequestRefused(NO_SUCH_ACTION, "The Push Model knows action 1 alone.")
    information = read_attributes(request.ActionInformation, event, broken=INVALID_ARGUMENT_VALUE)
    transaction_uid = str(information.get("TransactionUID") or "")
    if not is_uid(transaction_uid):
        raise RequestRefused(INVALID_ARGUMENT_VALUE, "Transaction UID is missing or no UID.")
    items = information.get("ReferencedSOPSequence") or ()
    if not items:
        raise RequestRefused(INVALID_ARGUMENT_VALUE, "Referenced SOP Sequence names no instance.")
    if len(items) > MOST_REFERENCES:
        raise RequestRefused(RESOURCE_LIMITATION, f"More than {MOST_REFERENCES} references in one request.")
    return transaction_uid, [_reference(item) for item in items]


def _reference(item: Dataset) -> Reference:
    sop_class_uid = str(item.get("ReferencedSOPClassUID") or "")
    sop_instance_uid = str(item.get("ReferencedSOPInstanceUID") or "")
    if not is_uid(sop_class_uid) or not is_uid(sop_instance_uid):
        raise RequestRefused(INVALID_ARGUMENT_VALUE, "A reference has no SOP Class or Instance UID.")
    return Reference(sop_class_uid, sop_instance_uid, supported=service_of(sop_class_uid) == "store")
