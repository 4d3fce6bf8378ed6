"""How results point at what they were made from."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import highdicom as hd
from highdicom.sr import (
    CodeContentItem,
    ContainerContentItem,
    ContentItem,
    ContentSequence,
    ImageContentItem,
    NumContentItem,
    RelationshipTypeValues,
    UIDRefContentItem,
)
from pydicom import Dataset

from inference.findings import Code
from inference.results import codes
from inference.results.charset import quietly

_ACQUISITION = RelationshipTypeValues.HAS_ACQ_CONTEXT
_CONTAINS = RelationshipTypeValues.CONTAINS

#: Descriptors of images in the library: attribute, index in its value, concept, unit.
#: Source: PS3.16 TID 1602, TID 1604.
_DESCRIPTORS: tuple[tuple[str, int, Code, Code], ...] = (
    ("Rows", 0, Code("110910", "DCM", "Pixel Data Rows"), codes.PIXELS),
    ("Columns", 0, Code("110911", "DCM", "Pixel Data Columns"), codes.PIXELS),
    ("PixelSpacing", 1, Code("111026", "DCM", "Horizontal Pixel Spacing"), codes.MILLIMETRE),
    ("PixelSpacing", 0, Code("111066", "DCM", "Vertical Pixel Spacing"), codes.MILLIMETRE),
    ("SliceThickness", 0, Code("112225", "DCM", "Slice Thickness"), codes.MILLIMETRE),
    ("ImagePositionPatient", 0, Code("110901", "DCM", "Image Position (Patient) X"), codes.MILLIMETRE),
    ("ImagePositionPatient", 1, Code("110902", "DCM", "Image Position (Patient) Y"), codes.MILLIMETRE),
    ("ImagePositionPatient", 2, Code("110903", "DCM", "Image Position (Patient) Z"), codes.MILLIMETRE),
    ("ImageOrientationPatient", 0, Code("110904", "DCM", "Image Orientation (Patient) Row X"), codes.COSINE),
    ("ImageOrientationPatient", 1, Code("110905", "DCM", "Image Orientation (Patient) Row Y"), codes.COSINE),
    ("ImageOrientationPatient", 2, Code("110906", "DCM", "Image Orientation (Patient) Row Z"), codes.COSINE),
    ("ImageOrientationPatient", 3, Code("110907", "DCM", "Image Orientation (Patient) Column X"), codes.COSINE),
    ("ImageOrientationPatient", 4, Code("110908", "DCM", "Image Orientation (Patient) Column Y"), codes.COSINE),
    ("ImageOrientationPatient", 5, Code("110909", "DCM", "Image Orientation (Patient) Column Z"), codes.COSINE),
)
#: How many values an attribute must have to be taken.
_LENGTH = {"PixelSpacing": 2, "ImagePositionPatient": 3, "ImageOrientationPatient": 6}


def numbers(header: Dataset, keyword: str, count: int) -> tuple[float, ...] | None:
    """Give the values of a numeric attribute; None unless there are `count` finite ones."""
    with quietly():
        try:
            value: Any = header.get(keyword)
            values = (value,) if isinstance(value, int | float) else tuple(value or ())
            found = tuple(float(item) for item in values)
        except (TypeError, ValueError, OverflowError):
            return None
    return found if len(found) == count and all(map(math.isfinite, found)) else None


def text_of(header: Dataset, keyword: str) -> str:
    """Give an attribute as stripped text; empty where it is absent or unreadable."""
    with quietly():
        try:
            value = header.get(keyword)
        except (TypeError, ValueError):
            return ""
    return "" if value is None else str(value).strip()


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


def image_library(headers: Sequence[Dataset]) -> ContainerContentItem:
    """Image Library of all used instances, one IMAGE each.

    What all images of a series have in common is said once, at the group; an image says only what is its
    own (commonly one coordinate of its position), so that a reader who scrolls is not drowned.

    Source: PS3.16 TID 1600-1604.
    """
    library = _container(codes.IMAGE_LIBRARY)
    groups: dict[tuple[str, str], list[Dataset]] = {}
    for header in {str(header.SOPInstanceUID): header for header in headers}.values():
        key = (str(header.SeriesInstanceUID), text_of(header, "FrameOfReferenceUID"))
        groups.setdefault(key, []).append(header)
    library.ContentSequence = [_group(members, frame) for (_, frame), members in groups.items()]
    return library


def _group(headers: Sequence[Dataset], frame_of_reference_uid: str) -> ContainerContentItem:
    group = _container(codes.IMAGE_LIBRARY_GROUP)
    content: list[ContentItem] = []
    modality = codes.modality_code(text_of(headers[0], "Modality"))
    if modality is not None:
        content.append(CodeContentItem(codes.concept(codes.MODALITY), codes.concept(modality), _ACQUISITION))
    if frame_of_reference_uid and hd.UID(frame_of_reference_uid).is_valid:
        name = codes.concept(codes.FRAME_OF_REFERENCE_UID)
        content.append(UIDRefContentItem(name, frame_of_reference_uid, _ACQUISITION))
    described = [_descriptors(header) for header in headers]
    common = {index: value for index, value in described[0].items() if all(d.get(index) == value for d in described)}
    content.extend(_number(index, value) for index, value in common.items())
    for header, own in zip(headers, described, strict=True):
        image = ImageContentItem(
            codes.concept(codes.SOURCE), header.SOPClassUID, header.SOPInstanceUID, relationship_type=_CONTAINS
        )
        children = [_number(index, value) for index, value in own.items() if index not in common]
        if children:
            image.ContentSequence = children
        content.append(image)
    group.ContentSequence = content
    return group


def _descriptors(header: Dataset) -> dict[int, float]:
    """Values by row of the descriptor table; what the header does not say is left out."""
    found: dict[int, float] = {}
    for index, (keyword, position, _, _) in enumerate(_DESCRIPTORS):
        values = numbers(header, keyword, _LENGTH.get(keyword, 1))
        if values is not None:
            found[index] = values[position]
    return found


def _number(index: int, value: float) -> NumContentItem:
    _, _, name, unit = _DESCRIPTORS[index]
    exact = int(value) if unit is codes.PIXELS else value
    item = NumContentItem(codes.concept(name), exact, codes.concept(unit), relationship_type=_ACQUISITION)
    if "FloatingPointValue" in item.MeasuredValueSequence[0]:
        del item.MeasuredValueSequence[0].FloatingPointValue  # the source's own value is decimal text
    return item


def _container(name: Code) -> ContainerContentItem:
    item = ContainerContentItem(codes.concept(name), relationship_type=_CONTAINS)
    item.ContentSequence = ContentSequence()
    return item
