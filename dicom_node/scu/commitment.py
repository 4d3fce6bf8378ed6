"""N-EVENT-REPORT of Storage Commitment on an association of our own."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from pynetdicom import build_context, build_role

from configs.peers import Peer
from dicom_node.commitment_report import (
    COMMITMENT_PUSH_MODEL,
    COMMITMENT_PUSH_MODEL_INSTANCE,
    event_information,
    event_type_of,
)
from dicom_node.errors import PeerUnreachable
from dicom_node.scu.association import DEFAULT_TIMEOUTS, Timeouts, associate, say
from storage.peer_records import CommitmentRecord

#: Implicit first: it is the one that every peer takes. Source: PS3.5 10.1.
_SYNTAXES = ("1.2.840.10008.1.2", "1.2.840.10008.1.2.1")


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
