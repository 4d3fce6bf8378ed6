"""What a failure to keep an instance is called: C-STORE Status and STOW-RS Failure Reason share the codes.

Source: PS3.4 B.2.3, PS3.18 I.2.2, PS3.7 Annex C.
"""

from __future__ import annotations

from configs.errors import NodeError
from storage.errors import DiskFull, IndexUnavailable, SopClassMismatch, UnreadableInstance, UnsupportedSyntax

#: Our fault. Source: PS3.7 C.5.13 (Processing failure).
PROCESSING_FAILURE = 0x0110
#: The sender may try again. Source: PS3.4 B.2.3 (Refused: Out of Resources).
OUT_OF_RESOURCES = 0xA700

FAILURE_REASON: dict[type[NodeError], int] = {
    DiskFull: OUT_OF_RESOURCES,
    IndexUnavailable: OUT_OF_RESOURCES,
    SopClassMismatch: 0xA900,  # Error: Data Set does not match SOP Class
    UnreadableInstance: 0xC000,  # Error: Cannot understand
    UnsupportedSyntax: 0xC122,  # Referenced Transfer Syntax not supported (STOW-RS alone: DIMSE negotiates)
}


def reason_for(error: NodeError) -> int:
    """Give the code of a failure; what the table does not name is our own."""
    return next((FAILURE_REASON[kind] for kind in type(error).__mro__ if kind in FAILURE_REASON), PROCESSING_FAILURE)
