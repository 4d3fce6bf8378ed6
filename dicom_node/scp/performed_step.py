"""Modality Performed Procedure Step: a modality says that it acquires, and what it has acquired."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any, cast

from pydicom import Dataset
from pynetdicom.dimse_primitives import N_CREATE, N_SET
from pynetdicom.events import Event

from dicom_node.scp.requests import (
    DUPLICATE_SOP_INSTANCE,
    INVALID_ATTRIBUTE_VALUE,
    MISSING_ATTRIBUTE,
    MISSING_ATTRIBUTE_VALUE,
    NO_SUCH_SOP_CLASS,
    NO_SUCH_SOP_INSTANCE,
    RESOURCE_LIMITATION,
    UNRECOGNIZED_OPERATION,
    RequestRefused,
    named_instances,
    named_or_made,
    read_attributes,
    required,
)
from dicom_node.scp.status import INVALID_SOP_INSTANCE, PROCESSING_FAILURE, SUCCESS
from dicom_node.scp.store import is_uid
from storage.announcements import Announcements, Named, Said
from storage.dicom_json import to_json
from storage.errors import AlreadyAnnounced, NotKept, StepEnded
from storage.peer_records import AnnouncementKind, AnnouncementState
from storage.records import Origin

#: Modality Performed Procedure Step SOP Class. Source: PS3.4 F.7.
SOP_CLASS = "1.2.840.10008.3.1.2.3.3"

#: Performed Procedure Step Status. Source: PS3.3 C.4.14 (0040,0252).
_STATES = {
    "IN PROGRESS": AnnouncementState.IN_PROGRESS,
    "COMPLETED": AnnouncementState.COMPLETED,
    "DISCONTINUED": AnnouncementState.DISCONTINUED,
}
#: Error ID beside 0x0110: the step may no longer be updated. Source: PS3.4 F.7.2.2.3.
MAY_NO_LONGER_BE_UPDATED = 0xA710

#: What N-CREATE and N-SET may be answered with. Source: PS3.4 F.7.2.1.3 and F.7.2.2.3, PS3.7 10.1.5 and 10.1.3.
STATUSES: dict[int, str] = {
    SUCCESS: "Success",
    INVALID_ATTRIBUTE_VALUE: "Invalid attribute value: a status that the step cannot have, or the data set is broken",
    PROCESSING_FAILURE: (
        "Processing failure: with Error ID 0xA710 the step has ended and may no longer be updated; else an error of"
        " the node"
    ),
    DUPLICATE_SOP_INSTANCE: "Duplicate SOP Instance: there is a step of this UID",
    NO_SUCH_SOP_INSTANCE: "No such SOP Instance: N-SET of a step that was not created",
    INVALID_SOP_INSTANCE: "Invalid SOP Instance: its UID is none",
    NO_SUCH_SOP_CLASS: "No such SOP Class: another than that of the presentation context",
    MISSING_ATTRIBUTE: "Missing attribute: status, scheduled step or Study Instance UID is missing",
    MISSING_ATTRIBUTE_VALUE: "Missing attribute value: one of them is empty",
    UNRECOGNIZED_OPERATION: "Unrecognized operation: N-GET, which is of the Retrieve SOP Class",
    RESOURCE_LIMITATION: "Resource limitation: no room or no index; send it again",
}


def create(book: Announcements, event: Event, origin: Origin, at: datetime) -> Dataset | None:
    """Record that a step began.

    Source: PS3.4 F.7.2.1.
    """
    request = cast(N_CREATE, event.request)
    uid, reply = named_or_made(request)
    attributes = read_attributes(request.AttributeList, event, broken=INVALID_ATTRIBUTE_VALUE)
    said = _said(attributes)
    if said.state is not AnnouncementState.IN_PROGRESS:
        raise RequestRefused(INVALID_ATTRIBUTE_VALUE, "A step is created IN PROGRESS.")
    try:
        book.create(AnnouncementKind.PROCEDURE_STEP, uid, origin, said, at)
    except AlreadyAnnounced as error:
        raise RequestRefused(DUPLICATE_SOP_INSTANCE, "There is a procedure step of this UID.") from error
    return reply


def change(book: Announcements, event: Event, _: Origin, at: datetime) -> None:
    """Record what a step has come to; a completed or discontinued one never changes again.

    Source: PS3.4 F.7.2.2.
    """
    request = cast(N_SET, event.request)
    uid = str(request.RequestedSOPInstanceUID)
    modified = read_attributes(request.ModificationList, event, broken=INVALID_ATTRIBUTE_VALUE)
    try:
        attributes = Dataset.from_json(book.attributes_of(AnnouncementKind.PROCEDURE_STEP, uid))
        attributes.update(modified)
        book.change(uid, _said(attributes), at)
    except NotKept as error:
        raise RequestRefused(NO_SUCH_SOP_INSTANCE, "There is no procedure step of this UID.") from error
    except StepEnded as error:
        why = "Performed Procedure Step Object may no longer be updated"
        raise RequestRefused(PROCESSING_FAILURE, why, error_id=MAY_NO_LONGER_BE_UPDATED) from error


def _said(attributes: Dataset) -> Said:
    state = _STATES.get(str(required(attributes, "PerformedProcedureStepStatus")).strip().upper())
    if state is None:
        raise RequestRefused(INVALID_ATTRIBUTE_VALUE, "A step is IN PROGRESS, COMPLETED or DISCONTINUED.")
    scheduled = required(attributes, "ScheduledStepAttributesSequence")
    studies = frozenset(str(required(item, "StudyInstanceUID")) for item in scheduled)
    if not all(is_uid(uid) for uid in studies):
        raise RequestRefused(INVALID_ATTRIBUTE_VALUE, "Study Instance UID is no UID.")
    return Said(state, studies, tuple(_performed(attributes)), _json(attributes))


def _performed(attributes: Dataset) -> Iterator[Named]:
    for series in attributes.get("PerformedSeriesSequence") or ():
        for keyword in ("ReferencedImageSequence", "ReferencedNonImageCompositeSOPInstanceSequence"):
            yield from named_instances(series, keyword)


def _json(attributes: Dataset) -> dict[str, Any]:
    return to_json(attributes, lambda _: "")
