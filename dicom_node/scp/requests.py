"""What DIMSE-N requests have in common: their data sets are read whole, and refused with a Status that says why."""

from __future__ import annotations

import logging
import struct
from collections.abc import Callable, Iterator, Sequence
from io import BytesIO
from typing import Any
from uuid import uuid4

from pydicom import Dataset
from pydicom.errors import BytesLengthException
from pynetdicom.dimse_primitives import N_CREATE
from pynetdicom.dsutils import decode
from pynetdicom.events import Event

from configs.errors import NodeError
from dicom_node.scp.register import Register
from dicom_node.scp.status import INVALID_SOP_INSTANCE, PROCESSING_FAILURE
from dicom_node.scp.store import is_uid
from storage.announcements import Named
from storage.errors import DiskFull, IndexUnavailable

log = logging.getLogger(__name__)

#: Statuses of DIMSE-N. Source: PS3.7 Annex C.
INVALID_ATTRIBUTE_VALUE = 0x0106
DUPLICATE_SOP_INSTANCE = 0x0111
NO_SUCH_SOP_INSTANCE = 0x0112
NO_SUCH_EVENT_TYPE = 0x0113
INVALID_ARGUMENT_VALUE = 0x0115
NO_SUCH_SOP_CLASS = 0x0118
MISSING_ATTRIBUTE = 0x0120
MISSING_ATTRIBUTE_VALUE = 0x0121
NO_SUCH_ACTION = 0x0123
NOT_AUTHORIZED = 0x0124
UNRECOGNIZED_OPERATION = 0x0211
RESOURCE_LIMITATION = 0x0213

#: What pydicom raises where bytes are no data set.
BROKEN = (
    AttributeError,
    BytesLengthException,
    EOFError,
    KeyError,
    NotImplementedError,
    RecursionError,
    TypeError,
    ValueError,
    struct.error,
)
#: Error Comment is a long string. Source: PS3.7 Annex E (0000,0902), PS3.5 6.2 (LO).
_LONGEST_COMMENT = 64


class RequestRefused(NodeError):
    """A DIMSE-N request asks for what cannot be; its answer carries the Status."""

    def __init__(self, status: int, message: str, *, error_id: int | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.error_id = error_id

    def as_status(self) -> Dataset:
        """Give the command elements of the answer."""
        answer = Dataset()
        answer.Status = self.status
        answer.ErrorComment = str(self)[:_LONGEST_COMMENT]
        if self.error_id is not None:
            answer.ErrorID = self.error_id
        return answer


def answer(
    event: Event, register: Register, action: str, serve: Callable[[], Dataset | None]
) -> tuple[int | Dataset, Dataset | None]:
    """Serve one request and give what pynetdicom sends: Status and data set.

    Parameters
    ----------
    action
        Names the request in the log.
    serve
        Does what is asked; raises `RequestRefused` where that cannot be.
    """
    entry = register.of(event.assoc)
    facts = {"action": f"{action}_refused", **(entry.facts if entry is not None else {})}
    try:
        return 0x0000, serve()
    except RequestRefused as error:
        log.warning("request refused", extra={**facts, "why": str(error), "status": f"0x{error.status:04X}"})
        return error.as_status(), None
    except (IndexUnavailable, DiskFull) as error:
        log.warning("request refused: no room or no index", extra={**facts, "error": error.code})
        return RESOURCE_LIMITATION, None
    except Exception:
        log.exception("request failed: our fault", extra=facts)
        return PROCESSING_FAILURE, None


def named_or_made(request: N_CREATE) -> tuple[str, Dataset | None]:
    """Give the SOP Instance UID of what is created, and where we had to make it what tells the peer.

    Source: PS3.7 10.1.5.1.4 (Affected SOP Instance UID).
    """
    uid = request.AffectedSOPInstanceUID
    if uid is None:  # the peer leaves the name to us
        reply = Dataset()
        reply.AffectedSOPInstanceUID = f"2.25.{uuid4().int}"
        return str(reply.AffectedSOPInstanceUID), reply
    if not is_uid(uid):
        raise RequestRefused(INVALID_SOP_INSTANCE, "Affected SOP Instance UID is no UID.")
    return str(uid), None


def required(dataset: Dataset, keyword: str) -> Any:
    """Give the value of an attribute that must have one.

    Source: PS3.7 C.5.15 (missing attribute), C.5.16 (missing attribute value).
    """
    if keyword not in dataset:
        raise RequestRefused(MISSING_ATTRIBUTE, f"{keyword} is missing.")
    value = dataset[keyword].value
    if value is None or value == "" or (isinstance(value, Sequence) and not value):
        raise RequestRefused(MISSING_ATTRIBUTE_VALUE, f"{keyword} is empty.")
    return value


def named_instances(series: Dataset, keyword: str, *, but_not: str = "") -> Iterator[Named]:
    """Give the instances that one item of a series names; broken references are passed over.

    `but_not`: Instance Availability of those that are left out.
    """
    series_instance_uid = str(series.get("SeriesInstanceUID") or "")
    for item in series.get(keyword) or ():
        sop_instance_uid = str(item.get("ReferencedSOPInstanceUID") or "")
        if is_uid(sop_instance_uid) and not (but_not and item.get("InstanceAvailability") == but_not):
            sop_class_uid = str(item.get("ReferencedSOPClassUID") or "")
            yield Named(sop_class_uid[:64], series_instance_uid[:64], sop_instance_uid)


def read_attributes(encoded: BytesIO | None, event: Event, *, broken: int) -> Dataset:
    """Read a whole data set with all its sequences; `broken`: the Status where that fails."""
    if encoded is None:
        return Dataset()
    syntax = event.context.transfer_syntax
    try:
        dataset = decode(encoded, syntax.is_implicit_VR, syntax.is_little_endian, syntax.is_deflated)
        for _ in dataset.iterall():
            pass
    except BROKEN as error:
        raise RequestRefused(broken, "The data set cannot be read.") from error
    return dataset
