"""Kept instances as what engines and builders read."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from pydicom import Dataset
from pydicom.errors import InvalidDicomError

from dicom_node.routing.facts import UNREADABLE
from inference.volume import SourceInstance, read_headers
from storage.blobs import BlobStore
from storage.errors import UnreadableInstance
from storage.records import InstanceRecord

#: What reading the header of a kept instance may raise where its bytes are no sound DICOM.
UNREADABLE_HEADER = (*UNREADABLE, InvalidDicomError, EOFError)


def source_of(blobs: BlobStore, instance: InstanceRecord) -> SourceInstance:
    """Give one kept instance, to be read when it is needed."""
    return SourceInstance(
        sop_instance_uid=instance.sop_instance_uid,
        sop_class_uid=instance.sop_class_uid,
        sha256=instance.sha256,
        open=partial(blobs.open, instance.path),
    )


def sources_of(blobs: BlobStore, instances: Sequence[InstanceRecord]) -> tuple[SourceInstance, ...]:
    """Give kept instances in their order, to be read when they are needed."""
    return tuple(source_of(blobs, instance) for instance in instances)


def headers_of(blobs: BlobStore, instances: Sequence[InstanceRecord]) -> tuple[Dataset, ...]:
    """Read the headers of kept instances, without pixel data, in their order.

    Raises
    ------
    UnreadableInstance
        The bytes of one of them are no DICOM any more, or never were what they seemed.
    """
    try:
        return read_headers(sources_of(blobs, instances))
    except UNREADABLE_HEADER as error:
        raise UnreadableInstance("the header of a kept instance cannot be read") from error


def by_series(instances: Sequence[InstanceRecord]) -> dict[str, list[InstanceRecord]]:
    """Group instances by Series Instance UID; both orders stay."""
    grouped: dict[str, list[InstanceRecord]] = {}
    for instance in instances:
        grouped.setdefault(instance.series_instance_uid, []).append(instance)
    return grouped
