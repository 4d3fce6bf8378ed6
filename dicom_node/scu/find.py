"""C-FIND: ask a peer what it has."""

from __future__ import annotations

from typing import Any

from pydicom import Dataset
from pynetdicom import build_context

from configs.peers import Peer
from dicom_node.errors import PeerRefused, PeerUnreachable
from dicom_node.scu.association import DEFAULT_TIMEOUTS, Timeouts, associate, say

#: Source: PS3.4 C.6.2.1 (Study Root), C.6.1.1 (Patient Root), K.6.1.1 (Modality Worklist).
STUDY_ROOT = "1.2.840.10008.5.1.4.1.2.2.1"
PATIENT_ROOT = "1.2.840.10008.5.1.4.1.2.1.1"
WORKLIST = "1.2.840.10008.5.1.4.31"

#: Source: PS3.5 10.1. Implicit is the one that every peer takes.
SYNTAXES = ("1.2.840.10008.1.2.1", "1.2.840.10008.1.2")
#: Source: PS3.4 C.4.1.1.4 (Pending; Pending, some optional keys are not supported).
_PENDING = (0xFF00, 0xFF01)
_CANCELLED = 0xFE00


def find(
    peer: Peer,
    *,
    calling_ae_title: str,
    identifier: Dataset,
    model: str = STUDY_ROOT,
    most: int = 1000,
    timeouts: Timeouts = DEFAULT_TIMEOUTS,
) -> list[Dataset]:
    """Give what a peer answers, at most `most` matches: what comes beyond is not waited for.

    Raises
    ------
    PeerUnreachable, AssociationRejected, ContextRefused
        The peer cannot be asked, or went away.
    PeerRefused
        It answered with a failure.

    Source: PS3.4 C.4.1, PS3.7 9.1.2.
    """
    contexts = [build_context(model, list(SYNTAXES))]
    found: list[Dataset] = []
    with associate(peer, calling_ae_title=calling_ae_title, contexts=contexts, timeouts=timeouts) as association:
        for answer, matching in association.send_c_find(identifier, model):
            status = status_of(answer)
            if status is None:
                raise PeerUnreachable(f"{say(peer)} went away before it answered the C-FIND.")
            if status in _PENDING:
                if matching is None:
                    raise PeerRefused(f"{say(peer)} answered the C-FIND with what cannot be read.", status=status)
                found.append(matching)
                if len(found) >= most:
                    association.abort()  # a peer may go on for hours after a C-CANCEL
                    break
            elif status not in (0x0000, _CANCELLED):
                raise PeerRefused(f"{say(peer)} answered the C-FIND with 0x{status:04X}.", status=status)
    return found


def status_of(answer: Dataset) -> int | None:
    """Read the Status of an answer; None: there was none."""
    return int(answer.Status) if "Status" in answer else None


def identifier(level: str | None, **keys: Any) -> Dataset:
    """Make an identifier: what to match, and with an empty value what to return."""
    made = Dataset()
    if level is not None:
        made.QueryRetrieveLevel = level
    for keyword, value in keys.items():
        setattr(made, keyword, value)
    return made
