"""Instance Availability Notification: somebody says which instances of a study there are."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import cast

from pydicom import Dataset
from pynetdicom.dimse_primitives import N_CREATE
from pynetdicom.events import Event

from dicom_node.scp.requests import (
    DUPLICATE_SOP_INSTANCE,
    INVALID_ATTRIBUTE_VALUE,
    MISSING_ATTRIBUTE,
    MISSING_ATTRIBUTE_VALUE,
    NO_SUCH_SOP_CLASS,
    RESOURCE_LIMITATION,
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
from storage.errors import AlreadyAnnounced
from storage.peer_records import AnnouncementKind, AnnouncementState
from storage.records import Origin

#: Instance Availability Notification SOP Class. Source: PS3.4 R.3.
SOP_CLASS = "1.2.840.10008.5.1.4.33"

#: Instance Availability (0008,0056) of what nobody can have: not expected here. Source: PS3.3 C.4.23.1.1.
_UNAVAILABLE = "UNAVAILABLE"

#: What N-CREATE may be answered with. Source: PS3.4 R.3.2.1.3, PS3.7 10.1.5.1.6.
STATUSES: dict[int, str] = {
    SUCCESS: "Success",
    INVALID_ATTRIBUTE_VALUE: "Invalid attribute value: Study Instance UID is none, or the data set is broken",
    PROCESSING_FAILURE: "Processing failure: an error of the node",
    DUPLICATE_SOP_INSTANCE: "Duplicate SOP Instance: there is a notice of this UID",
    INVALID_SOP_INSTANCE: "Invalid SOP Instance: its UID is none",
    NO_SUCH_SOP_CLASS: "No such SOP Class: another than that of the presentation context",
    MISSING_ATTRIBUTE: "Missing attribute: Study Instance UID or Referenced Series Sequence is missing",
    MISSING_ATTRIBUTE_VALUE: "Missing attribute value: one of them is empty",
    RESOURCE_LIMITATION: "Resource limitation: no room or no index; send it again",
}


def create(book: Announcements, event: Event, origin: Origin, at: datetime) -> Dataset | None:
    """Record a notice.

    Source: PS3.4 R.3.2.1.
    """
    request = cast(N_CREATE, event.request)
    uid, reply = named_or_made(request)
    attributes = read_attributes(request.AttributeList, event, broken=INVALID_ATTRIBUTE_VALUE)
    study_instance_uid = str(required(attributes, "StudyInstanceUID"))
    if not is_uid(study_instance_uid):
        raise RequestRefused(INVALID_ATTRIBUTE_VALUE, "Study Instance UID is no UID.")
    required(attributes, "ReferencedSeriesSequence")
    said = Said(
        AnnouncementState.COMPLETED,
        frozenset({study_instance_uid}),
        tuple(_available(attributes)),
        to_json(attributes, lambda _: ""),
    )
    try:
        book.create(AnnouncementKind.AVAILABILITY, uid, origin, said, at)
    except AlreadyAnnounced as error:
        raise RequestRefused(DUPLICATE_SOP_INSTANCE, "There is a notice of this UID.") from error
    return reply


def _available(attributes: Dataset) -> Iterator[Named]:
    for series in attributes.ReferencedSeriesSequence:
        yield from named_instances(series, "ReferencedSOPSequence", but_not=_UNAVAILABLE)
