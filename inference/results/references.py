"""How results point at what they were made from."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import highdicom as hd
from highdicom.sr import (
    CodeContentItem,
    ContainerContentItem,
    ContentSequence,
    NumContentItem,
    RelationshipTypeValues,
    UIDRefContentItem,
)
from pydicom import Dataset

from inference.findings import Code
from inference.results import codes
from inference.results.elements import numbers, text_of

_ACQUISITION = RelationshipTypeValues.HAS_ACQ_CONTEXT
_CONTAINS = RelationshipTypeValues.CONTAINS

#: Descriptors of images in the library, by attribute: concept and unit of each of its values.
#: Source: PS3.16 TID 1602, TID 1604.
_DESCRIPTORS: dict[str, tuple[tuple[Code, Code], ...]] = {
    "Rows": ((Code("110910", "DCM", "Pixel Data Rows"), codes.PIXELS),),
    "Columns": ((Code("110911", "DCM", "Pixel Data Columns"), codes.PIXELS),),
    "PixelSpacing": (
        (Code("111066", "DCM", "Vertical Pixel Spacing"), codes.MILLIMETRE),
        (Code("111026", "DCM", "Horizontal Pixel Spacing"), codes.MILLIMETRE),
    ),
    "SliceThickness": ((Code("112225", "DCM", "Slice Thickness"), codes.MILLIMETRE),),
    "ImagePositionPatient": (
        (Code("110901", "DCM", "Image Position (Patient) X"), codes.MILLIMETRE),
        (Code("110902", "DCM", "Image Position (Patient) Y"), codes.MILLIMETRE),
        (Code("110903", "DCM", "Image Position (Patient) Z"), codes.MILLIMETRE),
    ),
    "ImageOrientationPatient": (
        (Code("110904", "DCM", "Image Orientation (Patient) Row X"), codes.COSINE),
        (Code("110905", "DCM", "Image Orientation (Patient) Row Y"), codes.COSINE),
        (Code("110906", "DCM", "Image Orientation (Patient) Row Z"), codes.COSINE),
        (Code("110907", "DCM", "Image Orientation (Patient) Column X"), codes.COSINE),
        (Code("110908", "DCM", "Image Orientation (Patient) Column Y"), codes.COSINE),
        (Code("110909", "DCM", "Image Orientation (Patient) Column Z"), codes.COSINE),
    ),
}


def stand_in(header: Dataset) -> Dataset:
    """Give what highdicom needs of a source and nothing that it might stumble over or alter.

    Patient and study attributes are empty here: they are put into the finished object verbatim.
    """
    made = Dataset()
    made.StudyInstanceUID = header.StudyInstanceUID
    made.SeriesInstanceUID = header.SeriesInstanceUID
    made.SOPInstanceUID = header.SOPInstanceUID
    made.SOPClassUID = header.SOPClassUID
    made.Modality = text_of(header, "Modality")
    for keyword in ("PatientID", "PatientName", "PatientBirthDate", "PatientSex"):
        setattr(made, keyword, "")
    for keyword in ("AccessionNumber", "StudyID", "StudyDate", "StudyTime", "ReferringPhysicianName"):
        setattr(made, keyword, "")
    return made


def instance_reference(header: Dataset) -> Dataset:
    """Item that names one instance by class and UID."""
    item = Dataset()
    item.ReferencedSOPClassUID = header.SOPClassUID
    item.ReferencedSOPInstanceUID = header.SOPInstanceUID
    return item


def referenced_series(headers: Sequence[Dataset]) -> Dataset:
    """Item of Referenced Series Sequence: one series with all given instances."""
    item = Dataset()
    item.SeriesInstanceUID = headers[0].SeriesInstanceUID
    item.ReferencedInstanceSequence = [instance_reference(header) for header in headers]
    return item


def evidence_items(headers: Iterable[Dataset]) -> list[Dataset]:
    """Items of Current Requested Procedure Evidence Sequence: studies, series, instances, each named once.

    Source: PS3.3 C.17.2.3 (SR Document General), table C.17-3 (Hierarchical SOP Instance Reference).
    """
    studies: dict[str, dict[str, dict[str, Dataset]]] = {}
    for header in headers:
        series = studies.setdefault(header.StudyInstanceUID, {}).setdefault(header.SeriesInstanceUID, {})
        series.setdefault(header.SOPInstanceUID, header)
    items = []
    for study_instance_uid, by_series in studies.items():
        item = Dataset()
        item.ReferencedSeriesSequence = []
        for series_instance_uid, by_instance in by_series.items():
            series_item = Dataset()
            series_item.ReferencedSOPSequence = [instance_reference(header) for header in by_instance.values()]
            series_item.SeriesInstanceUID = series_instance_uid
            item.ReferencedSeriesSequence.append(series_item)
        item.StudyInstanceUID = study_instance_uid
        items.append(item)
    return items


def image_library(headers: Sequence[Dataset]) -> Dataset:
    """Image Library of all used instances, one IMAGE each.

    What all images of a series have in common is said once, at the group. What differs (commonly the
    position) is left to the images themselves, so that a reader who scrolls is not drowned.

    Source: PS3.16 TID 1600-1604 (descriptors are optional, and common ones stand at the group).
    """
    library = _container(codes.IMAGE_LIBRARY)
    groups: dict[tuple[str, str], list[Dataset]] = {}
    for header in {str(header.SOPInstanceUID): header for header in headers}.values():
        key = (str(header.SeriesInstanceUID), text_of(header, "FrameOfReferenceUID"))
        groups.setdefault(key, []).append(header)
    return _with_content(library, [_group(members, frame) for (_, frame), members in groups.items()])


def _with_content(container: ContainerContentItem, content: Sequence[Dataset]) -> Dataset:
    """Give a container as a plain data set that holds these items."""
    made = Dataset()
    made.update(container)
    made.ContentSequence = list(content)
    return made


def _group(headers: Sequence[Dataset], frame_of_reference_uid: str) -> Dataset:
    group = _container(codes.IMAGE_LIBRARY_GROUP)
    content: ContentSequence = group.ContentSequence
    modality = codes.modality_code(text_of(headers[0], "Modality"))
    if modality is not None:
        content.append(CodeContentItem(codes.concept(codes.MODALITY), codes.concept(modality), _ACQUISITION))
    if frame_of_reference_uid and hd.UID(frame_of_reference_uid).is_valid:
        name = codes.concept(codes.FRAME_OF_REFERENCE_UID)
        content.append(UIDRefContentItem(name, frame_of_reference_uid, _ACQUISITION))
    content.extend(
        _number(name, unit, values[index])
        for keyword, rows in _DESCRIPTORS.items()
        if (values := _common(headers, keyword, len(rows))) is not None
        for index, (name, unit) in enumerate(rows)
    )
    source = codes.concept(codes.SOURCE)
    return _with_content(group, [*content, *(_image(header, source) for header in headers)])


def _image(header: Dataset, name: Dataset) -> Dataset:
    """One IMAGE item, written out: there are hundreds, and checking each anew takes longer than all else.

    Source: PS3.3 C.17.3 (SR Document Content), C.18.4 (Image Reference).
    """
    item = Dataset()
    item.ReferencedSOPSequence = [instance_reference(header)]
    item.RelationshipType = _CONTAINS.value
    item.ValueType = "IMAGE"
    item.ConceptNameCodeSequence = [name]
    return item


def _common(headers: Sequence[Dataset], keyword: str, count: int) -> tuple[float, ...] | None:
    """Values that all headers share; None: they do not, or do not say."""
    first = numbers(headers[0], keyword, count)
    return first if first and all(numbers(header, keyword, count) == first for header in headers[1:]) else None


def _number(name: Code, unit: Code, value: float) -> NumContentItem:
    item = NumContentItem(codes.concept(name), value, codes.concept(unit), relationship_type=_ACQUISITION)
    measured = item.MeasuredValueSequence[0]
    measured.NumericValue = f"{value:.10g}"
    del measured.FloatingPointValue  # the source's own value is decimal text
    return item


def _container(name: Code) -> ContainerContentItem:
    item = ContainerContentItem(codes.concept(name), relationship_type=_CONTAINS)
    item.ContentSequence = ContentSequence()
    return item
