"""What a failure means on the wire, as a DIMSE Status."""

from __future__ import annotations

from configs.errors import NodeError
from dicom_node.errors import IdentifierMismatch
from storage import failures
from storage.errors import MalformedQuery, UnreadableInstance

SUCCESS = 0x0000
PROCESSING_FAILURE = failures.PROCESSING_FAILURE
OUT_OF_RESOURCES = failures.OUT_OF_RESOURCES
#: What a failure to keep an instance is called, shared with STOW-RS.
FAILURE_REASON = failures.FAILURE_REASON
#: The UID itself is none, or there is none. Source: PS3.7 C.5.11 (Invalid SOP Instance).
INVALID_SOP_INSTANCE = 0x0117
#: The context was not negotiated for this. Source: PS3.7 Annex C (SOP Class not supported).
SOP_CLASS_NOT_SUPPORTED = 0x0122
#: A request with this Message ID waits for its answer. Source: PS3.7 Annex C (Duplicate invocation).
DUPLICATE_INVOCATION = 0x0210
#: Source: PS3.7 Annex C (Unrecognized operation).
UNRECOGNIZED_OPERATION = 0x0211
#: The request lacks the data set that it needs. Source: PS3.7 Annex C (Mistyped argument).
MISTYPED_ARGUMENT = 0x0212

PENDING, PENDING_WITH_WARNING = 0xFF00, 0xFF01
CANCELLED = 0xFE00
SUB_OPERATIONS_FAILED = 0xB000
SOP_CLASS_NOT_SUPPORTED = 0x0122
OUT_OF_RESOURCES_FOR_MATCHES, OUT_OF_RESOURCES_FOR_SUB_OPERATIONS = 0xA701, 0xA702
MOVE_DESTINATION_UNKNOWN = 0xA801
IDENTIFIER_MISMATCH, UNABLE_TO_PROCESS = 0xA900, 0xC000

#: Why a query or a retrieval fails before it has begun. Source: PS3.4 C.4.1.1.4, C.4.2.1.5, C.4.3.1.4.
QUERY_FAILURE: dict[type[NodeError], int] = {
    IdentifierMismatch: IDENTIFIER_MISMATCH,
    MalformedQuery: UNABLE_TO_PROCESS,
    UnreadableInstance: UNABLE_TO_PROCESS,
}
FIND_STATUSES: dict[int, str] = {
    PENDING: "Pending: a match",
    PENDING_WITH_WARNING: "Pending: a match; some optional keys of the request are not supported",
    SUCCESS: "Success: these were all",
    CANCELLED: "Cancel: as asked for",
    OUT_OF_RESOURCES: "Refused: out of resources; the index does not answer, or there are more matches than are given",
    SOP_CLASS_NOT_SUPPORTED: "Refused: the request names another SOP Class than its presentation context",
    IDENTIFIER_MISMATCH: "Error: the level is none of the model, or a unique key of a level above is missing",
    UNABLE_TO_PROCESS: "Error: the identifier cannot be read, or a value is none of its attribute",
    PROCESSING_FAILURE: "Processing failure: an error of the node",
}
_RETRIEVED: dict[int, str] = {
    PENDING: "Pending: how many sub-operations remain, were completed, failed, had warnings",
    SUCCESS: "Success: all sub-operations were completed; also where nothing matches",
    SUB_OPERATIONS_FAILED: "Warning: some failed or had warnings; the identifier lists those that failed",
    CANCELLED: "Cancel: as asked for; the identifier lists those that failed",
    OUT_OF_RESOURCES_FOR_MATCHES: "Refused: the index does not answer, or more than 65535 instances match",
    OUT_OF_RESOURCES_FOR_SUB_OPERATIONS: "Refused: no sub-operation was completed; the identifier lists all",
    SOP_CLASS_NOT_SUPPORTED: "Refused: the request names another SOP Class than its presentation context",
    IDENTIFIER_MISMATCH: "Error: the level is none of the model, or a unique key is missing or a wildcard",
    UNABLE_TO_PROCESS: "Error: the identifier cannot be read, or a value is none of its attribute",
    PROCESSING_FAILURE: "Processing failure: an error of the node",
}
GET_STATUSES = _RETRIEVED
MOVE_STATUSES: dict[int, str] = {
    **_RETRIEVED,
    MOVE_DESTINATION_UNKNOWN: "Refused: no listed peer with host and port has this AE title",
}

#: In words, for the conformance statement. Source: PS3.4 B.2.3, PS3.7 Annex C.
STORE_STATUSES: dict[int, str] = {
    SUCCESS: "Success: the instance survives a power cut; a copy under a kept UID is kept beside it",
    OUT_OF_RESOURCES: "Refused: out of resources; the disk reserve is reached or the index does not answer",
    0xA900: "Error: the data set does not match the SOP Class or Instance of the request",
    0xC000: "Error: cannot understand; the bytes are no data set, are cut short, or lack a UID",
    INVALID_SOP_INSTANCE: "Invalid SOP Instance: its UID is missing or none",
    PROCESSING_FAILURE: "Processing failure: an error of the node",
    SOP_CLASS_NOT_SUPPORTED: "SOP Class not supported: the presentation context is not one for storage",
    DUPLICATE_INVOCATION: "Duplicate invocation: a request with this Message ID waits for its answer",
    MISTYPED_ARGUMENT: "Mistyped argument: the request comes without a data set",
}
ECHO_STATUSES: dict[int, str] = {
    SUCCESS: "Success",
    SOP_CLASS_NOT_SUPPORTED: "SOP Class not supported: the presentation context is not one for verification",
}


def query_status_for(error: NodeError, *, otherwise: int) -> int:
    """Give the Status of a query or retrieval that failed; `otherwise`: where the table does not name it."""
    return next((QUERY_FAILURE[kind] for kind in type(error).__mro__ if kind in QUERY_FAILURE), otherwise)


def status_for(error: NodeError) -> int:
    """Give the Status of a C-STORE that failed; what the table does not name is our own failure."""
    return failures.reason_for(error)
