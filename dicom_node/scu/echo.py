"""C-ECHO: ask a peer whether it is there."""

from __future__ import annotations

from pynetdicom import build_context

from configs.peers import Peer
from dicom_node.errors import PeerRefused, PeerUnreachable
from dicom_node.scp.contexts import UNCOMPRESSED, VERIFICATION
from dicom_node.scu.association import DEFAULT_TIMEOUTS, Timeouts, associate, say


def echo(peer: Peer, calling_ae_title: str, *, timeouts: Timeouts = DEFAULT_TIMEOUTS) -> None:
    """Verify that a peer answers; returning means that it does.

    Raises
    ------
    PeerUnreachable, AssociationRejected
        No association, or no answer.
    PeerRefused
        The peer has no verification service, or answered with another Status than Success.

    Source: PS3.4 Annex A, PS3.7 9.1.5.
    """
    contexts = [build_context(VERIFICATION, list(UNCOMPRESSED[:2]))]
    with associate(peer, calling_ae_title=calling_ae_title, contexts=contexts, timeouts=timeouts) as association:
        answer = association.send_c_echo()
        if "Status" not in answer:
            raise PeerUnreachable(f"{say(peer)} did not answer the C-ECHO.")
        if answer.Status != 0x0000:
            raise PeerRefused(f"{say(peer)} answered the C-ECHO with 0x{answer.Status:04X}.", status=answer.Status)
