"""C-MOVE and C-GET: have a peer send what it has."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

from pydicom import Dataset
from pynetdicom import StoragePresentationContexts, build_context, build_role, evt
from pynetdicom.association import Association
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.events import Event
from pynetdicom.presentation import PresentationContext

from configs.peers import Peer
from dicom_node.errors import PeerRefused, PeerUnreachable
from dicom_node.scu.association import Timeouts, associate, say
from dicom_node.scu.find import SYNTAXES, status_of

#: Source: PS3.4 C.6.2.1 (Study Root).
STUDY_ROOT_MOVE = "1.2.840.10008.5.1.4.1.2.2.2"
STUDY_ROOT_GET = "1.2.840.10008.5.1.4.1.2.2.3"
_PENDING = (0xFF00, 0xFF01)
#: Syntaxes in which instances may come by C-GET: uncompressed, JPEG Lossless, JPEG-LS, JPEG 2000, RLE.
_TAKEN = (
    *SYNTAXES,
    *("1.2.840.10008.1.2.4.70", "1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.5"),
)
_MOST_CONTEXTS = 127
TIMEOUTS = Timeouts(connect_s=10.0, associate_s=15.0, answer_s=120.0)


@dataclass(frozen=True)
class Received:
    """One instance that came by C-GET."""

    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    data_set: bytes
    """As encoded, without File Meta."""


def move(
    peer: Peer, *, calling_ae_title: str, identifier: Dataset, within_s: float, timeouts: Timeouts = TIMEOUTS
) -> None:
    """Have a peer send to us, at our own AE title; returning means that it says it sent all of it.

    Raises
    ------
    PeerUnreachable, AssociationRejected, ContextRefused
        The peer cannot be asked, went away, or took too long.
    PeerRefused
        It failed with something; what it sent before is here.

    Source: PS3.4 C.4.2, PS3.7 9.1.4.
    """
    contexts = [build_context(STUDY_ROOT_MOVE, list(SYNTAXES))]
    with associate(peer, calling_ae_title=calling_ae_title, contexts=contexts, timeouts=timeouts) as association:
        answers = association.send_c_move(identifier, calling_ae_title, STUDY_ROOT_MOVE)
        _followed(peer, "C-MOVE", answers, time.monotonic() + within_s)


def get(
    peer: Peer,
    *,
    calling_ae_title: str,
    identifier: Dataset,
    keep: Callable[[Received], int],
    within_s: float,
    timeouts: Timeouts = TIMEOUTS,
) -> None:
    """Have a peer send images on the association of the request.

    `keep`: takes each instance and gives the Status to answer.

    Raises
    ------
    PeerUnreachable, AssociationRejected, ContextRefused
        The peer cannot be asked, went away, or took too long.
    PeerRefused
        It failed with something; what it sent before was given to `keep`.

    Source: PS3.4 C.4.3, PS3.7 9.1.3, D.3.3.4 (role selection).
    """
    classes = image_classes()
    with associate(
        peer,
        calling_ae_title=calling_ae_title,
        contexts=[build_context(STUDY_ROOT_GET, list(SYNTAXES)), *_contexts(classes)],
        timeouts=timeouts,
        roles=[build_role(uid, scp_role=True) for uid in classes],
    ) as association:
        _take(association, keep)
        answers = association.send_c_get(identifier, STUDY_ROOT_GET)
        _followed(peer, "C-GET", answers, time.monotonic() + within_s)


def image_classes() -> list[str]:
    """Give the SOP Classes of images that C-GET asks for, as many as one association has contexts for."""
    named = [str(context.abstract_syntax) for context in StoragePresentationContexts if _is_image(context)]
    return named[:_MOST_CONTEXTS]


def _is_image(context: PresentationContext) -> bool:
    return context.abstract_syntax is not None and "Image Storage" in context.abstract_syntax.name


def _contexts(classes: list[str]) -> list[PresentationContext]:
    return [build_context(uid, list(_TAKEN)) for uid in classes]


def _take(association: Association, keep: Callable[[Received], int]) -> None:
    def on_store(event: Event) -> int:
        request = cast(C_STORE, event.request)
        return keep(
            Received(
                str(request.AffectedSOPClassUID or ""),
                str(request.AffectedSOPInstanceUID or ""),
                str(event.context.transfer_syntax),
                event.encoded_dataset(include_meta=False),
            )
        )

    association.bind(evt.EVT_C_STORE, on_store)


def _followed(peer: Peer, service: str, answers: object, deadline: float) -> None:
    """Read answers up to the final one."""
    for answer, _ in answers:  # type: ignore[attr-defined]
        status = status_of(answer)
        if status is None:
            raise PeerUnreachable(f"{say(peer)} went away before it answered the {service}.")
        if status == 0x0000:
            return
        if status not in _PENDING:
            failed = answer.get("NumberOfFailedSuboperations")
            how = f", {failed} instances failed" if failed else ""
            raise PeerRefused(f"{say(peer)} answered the {service} with 0x{status:04X}{how}.", status=status)
        if time.monotonic() > deadline:
            raise PeerUnreachable(f"{say(peer)} takes too long over the {service}.")
    raise PeerUnreachable(f"{say(peer)} ended the {service} without an answer.")
