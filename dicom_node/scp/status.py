"""What a failure means on the wire, as a DIMSE Status."""

from __future__ import annotations

from configs.errors import NodeError
from storage.errors import DiskFull, IndexUnavailable, SopClassMismatch, UnreadableInstance

SUCCESS = 0x0000
#: Our fault. Source: PS3.7 C.5.13 (Processing failure).
PROCESSING_FAILURE = 0x0110
#: The UID itself is none, or there is none. Source: PS3.7 C.5.11 (Invalid SOP Instance).
INVALID_SOP_INSTANCE = 0x0117
#: Source: PS3.4 B.2.3 (Refused: Out of Resources; the sender may try again).
OUT_OF_RESOURCES = 0xA700

#: What a failure to keep an instance is called. C-STORE Status and STOW-RS Failure Reason share the codes.
#: Source: PS3.4 B.2.3, PS3.18 I.2.2, PS3.7 Annex C.
FAILURE_REASON: dict[type[NodeError], int] = {
    DiskFull: OUT_OF_RESOURCES,
    IndexUnavailable: OUT_OF_RESOURCES,
    SopClassMismatch: 0xA900,  # Error: Data Set does not match SOP Class
    UnreadableInstance: 0xC000,  # Error: Cannot understand
}

#: In words, for the conformance statement. Source: PS3.4 B.2.3, PS3.7 Annex C.
STORE_STATUSES: dict[int, str] = {
    SUCCESS: "Success: the instance survives a power cut; a copy under a kept UID is kept beside it",
    OUT_OF_RESOURCES: "Refused: out of resources; the disk reserve is reached or the index does not answer",
    0xA900: "Error: the data set does not match the SOP Class or Instance of the request",
    0xC000: "Error: cannot understand; the bytes are no data set, are cut short, or lack a UID",
    INVALID_SOP_INSTANCE: "Invalid SOP Instance: its UID is missing or none",
    PROCESSING_FAILURE: "Processing failure: an error of the node",
}
ECHO_STATUSES: dict[int, str] = {SUCCESS: "Success"}


def status_for(error: NodeError) -> int:
    """Give the Status of a C-STORE that failed; what the table does not name is our own failure."""
    for kind in type(error).__mro__:
        if kind in FAILURE_REASON:
            return FAILURE_REASON[kind]
    return PROCESSING_FAILURE
