"""Storage Commitment on associations of our own: ask for it, and report what we were asked for."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence

from pydicom import Dataset
from pydicom.sequence import Sequence as DicomSequence
from pynetdicom import build_context, build_role, evt
from pynetdicom.events import Event

from configs.peers import Peer
from dicom_node.commitment_report import (
    COMMITMENT_PUSH_MODEL,
    COMMITMENT_PUSH_MODEL_INSTANCE,
    event_information,
    event_type_of,
    read_report,
    was_taken,
)
from dicom_node.errors import PeerRefused, PeerUnreachable
from dicom_node.scu.association import DEFAULT_TIMEOUTS, Timeouts, associate, say
from storage.confirmations import Report
from storage.peer_records import CommitmentRecord

log = logging.getLogger(__name__)

_PROCESSING_FAILURE = 0x0110
#: Implicit first: it is the one that every peer takes. Source: PS3.5 10.1.
_SYNTAXES = ("1.2.840.10008.1.2", "1.2.840.10008.1.2.1")


#: Source: PS3.4 Table J.3-1 (Request Storage Commitment).
_REQUEST = 1


def request(
    peer: Peer,
    *,
    calling_ae_title: str,
    transaction_uid: str,
    references: Sequence[tuple[str, str]],
    on_report: Callable[[str, Report], None],
    hold_s: float,
    timeouts: Timeouts = DEFAULT_TIMEOUTS,
) -> None:
    """Ask a peer to be answerable for instances; its report comes on this association while it lasts, or on its own.

    Parameters
    ----------
    references
        SOP Class UID and SOP Instance UID of each.
    on_report
        Told the Transaction UID and what a report on this association says.
    hold_s
        Seconds that the association stays open for the report.

    Raises
    ------
    PeerUnreachable, AssociationRejected
        The peer cannot be asked.
    ContextRefused
        It does not offer the service.
    PeerRefused
        It does not take the request.

    Source: PS3.4 J.3.2, J.3.3.
    """
    reported = threading.Event()

    def on_event(event: Event) -> tuple[int, None]:
        try:
            on_report(*read_report(event.event_information))
        except Exception:
            log.exception("report of commitment not taken", extra={"action": "commitment_report_broken"})
            return _PROCESSING_FAILURE, None
        reported.set()
        return 0x0000, None

    with associate(
        peer,
        calling_ae_title=calling_ae_title,
        contexts=[build_context(COMMITMENT_PUSH_MODEL, list(_SYNTAXES))],
        timeouts=timeouts,
        handlers=[(evt.EVT_N_EVENT_REPORT, on_event)],
    ) as association:
        answer, _ = association.send_n_action(
            _action_information(transaction_uid, references),
            _REQUEST,
            COMMITMENT_PUSH_MODEL,
            COMMITMENT_PUSH_MODEL_INSTANCE,
        )
        if "Status" not in answer:
            raise PeerUnreachable(f"{say(peer)} went away before it answered the request for commitment.")
        status = int(answer.Status)
        if not was_taken(status):
            raise PeerRefused(f"{say(peer)} answered the request for commitment with 0x{status:04X}.", status=status)
        reported.wait(hold_s)


def _action_information(transaction_uid: str, references: Sequence[tuple[str, str]]) -> Dataset:
    """Source: PS3.4 Table J.3-1."""
    information = Dataset()
    information.TransactionUID = transaction_uid
    items = []
    for sop_class_uid, sop_instance_uid in references:
        item = Dataset()
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = sop_class_uid, sop_instance_uid
        items.append(item)
    information.ReferencedSOPSequence = DicomSequence(items)
    return information


def report(
    peer: Peer,
    *,
    calling_ae_title: str,
    commitments: Sequence[CommitmentRecord],
    on_status: Callable[[CommitmentRecord, int], None],
    timeouts: Timeouts = DEFAULT_TIMEOUTS,
) -> None:
    """Tell a peer what we committed to; it is SCU of the service on an association that we ask for.

    The role of SCP is negotiated for us. A peer that answers nothing about roles gets the report all the same:
    many take it so.

    Parameters
    ----------
    on_status
        Told the Status with which each report was answered, as it comes.

    Raises
    ------
    PeerUnreachable
        The peer cannot be reached, or went away; what it answered before was told.
    AssociationRejected, ContextRefused
        It does not want reports from us.

    Source: PS3.4 J.3.3, PS3.7 D.3.3.4 (role selection).
    """
    with associate(
        peer,
        calling_ae_title=calling_ae_title,
        contexts=[build_context(COMMITMENT_PUSH_MODEL, list(_SYNTAXES))],
        timeouts=timeouts,
        roles=[build_role(COMMITMENT_PUSH_MODEL, scp_role=True)],
    ) as association:
        for message_id, commitment in enumerate(commitments, start=1):
            gone = PeerUnreachable(f"{say(peer)} went away before it answered a report.")
            if not association.is_established:
                raise gone
            answer, _ = association.send_n_event_report(
                event_information(commitment),
                event_type_of(commitment),
                COMMITMENT_PUSH_MODEL,
                COMMITMENT_PUSH_MODEL_INSTANCE,
                msg_id=message_id,
            )
            if "Status" not in answer:
                raise gone
            on_status(commitment, int(answer.Status))
