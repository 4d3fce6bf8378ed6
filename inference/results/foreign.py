"""Reports and segmentations of other makers, read as findings: what they say, not whether it is right.

Of reports the Imaging Measurement Report (TID 1500) is read; what an item lacks is left out, never invented.

Source: PS3.16 TID 1500, 1410, 1411, 1501, 300; PS3.3 C.17.3, C.18.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Literal, cast, get_args

import numpy as np
from pydicom import Dataset

from inference.errors import UnusableAnswer
from inference.findings import (
    Code,
    Findings,
    ImageLocation,
    Measurement,
    MeasurementGroup,
    NotComputed,
    Qualitative,
    Segment,
    SpaceLocation,
)
from inference.results import codes
from inference.results.charset import quietly
from inference.results.elements import code_of, first_of, items_of, text_of
from inference.results.read import ReadSegment, SegmentFrame, segments_of
from inference.results.words import cleaned

#: Bounds of a tree that is read: far beyond any report.
DEEPEST, MOST_ITEMS = 30, 50_000
#: Voxels of all masks of one object together.
MOST_MASK_VOXELS = 1 << 31

#: Concepts by code value, of SNOMED CT and of its retired SRT spelling.
_FINDING, _SITE, _LATERALITY = {"121071"}, {"363698007", "G-C0E3"}, {"272741003", "G-C171"}
_METHOD, _DERIVATION = {"370129005", "G-C036"}, {"121401"}
_CATEGORY = {"276214006", codes.FINDING_CATEGORY.value}
_SEGMENT = {codes.REFERENCED_SEGMENT.value, codes.REFERENCED_SEGMENTATION_FRAME.value}
_ALGORITHM = {"111000", "111001", "111002", "111003", "122405"}
_UNKNOWN = Code("unknown", codes.OUR_SCHEME, "unknown")
_Flat = Literal["POINT", "MULTIPOINT", "POLYLINE", "CIRCLE", "ELLIPSE"]
_Spatial = Literal["POINT", "MULTIPOINT", "POLYLINE", "POLYGON", "ELLIPSE", "ELLIPSOID"]
_FLAT_GRAPHICS, _SPATIAL_GRAPHICS = get_args(_Flat), get_args(_Spatial)


def read_report(sr: Dataset) -> Findings:
    """Read an Imaging Measurement Report of whatever maker.

    Raises
    ------
    UnusableAnswer
        It is no such report, or its tree is deeper or larger than any that is read.
    """
    with quietly():
        if _concept(sr) != codes.REPORT.value:
            raise UnusableAnswer("this is no Imaging Measurement Report (TID 1500)")
        _check_size(sr)
        holders = [each for each in items_of(sr, "ContentSequence") if _concept(each) == "126010"]
        found = [each for holder in holders for each in items_of(holder, "ContentSequence")]
        groups = [each for each in found if _concept(each) == codes.MEASUREMENT_GROUP.value]
        narrative = [cleaned(text) for group in groups for text in _texts(group)]
        return Findings(
            summary=_summary(sr), groups=tuple(map(_group, groups)), narrative=tuple(filter(None, narrative))
        )


def read_segmentation(seg: Dataset) -> Findings:
    """Read a segmentation of whatever maker; masks are over the planes that it has, in its own order.

    Raises
    ------
    UnusableAnswer
        It is none that is read as masks, damaged, or too large.
    """
    with quietly():
        read = segments_of(seg)
        planes = {_plane(frame): None for segment in read for frame in segment.frames}
        index = {plane: number for number, plane in enumerate(planes)}
        rows, columns = int(seg.Rows), int(seg.Columns)
        if len(read) * len(index) * rows * columns > MOST_MASK_VOXELS:
            raise UnusableAnswer("the masks of the segmentation are too large to be read together")
        segments = tuple(_segment(one, index, (len(index), rows, columns)) for one in read)
        return Findings(summary=_summary(seg), segments=segments)


def _summary(dataset: Dataset) -> str:
    """Say whose object it is, and what it says of its own standing."""
    maker = " ".join(filter(None, (text_of(dataset, "Manufacturer"), text_of(dataset, "ManufacturerModelName"))))
    standing = [text_of(dataset, key).lower() for key in ("CompletionFlag", "VerificationFlag", "PreliminaryFlag")]
    said = f" ({', '.join(filter(None, standing))})" if any(standing) else ""
    return cleaned(f"Made by {maker or 'an unnamed maker'}{said}; read as it is, not checked by this node.")


def _check_size(sr: Dataset) -> None:
    count, level = 0, items_of(sr, "ContentSequence")
    for _ in range(DEEPEST):
        count += len(level)
        if count > MOST_ITEMS:
            raise UnusableAnswer(f"the report has more than {MOST_ITEMS} items")
        level = [child for item in level for child in items_of(item, "ContentSequence")]
        if not level:
            return
    raise UnusableAnswer(f"the report is nested deeper than {DEEPEST} levels")


def _group(group: Dataset) -> MeasurementGroup:
    items = items_of(group, "ContentSequence")
    sites = [item for item in items if _concept(item) in _SITE]
    site = next(filter(None, map(_value, sites)), None)
    sides = [_value(child) for item in sites for child in _children(item, _LATERALITY)]
    sides += [_value(item) for item in items if _concept(item) in _LATERALITY]
    numbers = [item for item in items if text_of(item, "ValueType") == "NUM"]
    finding = next(filter(None, (_value(item) for item in items if _concept(item) in _FINDING)), None)
    return MeasurementGroup(
        tracking_id=_tracking(items),
        finding=finding or codes.CLINICAL_FINDING,
        site=site or _UNKNOWN,
        laterality=next(filter(None, sides), None),
        segments=tuple(_referenced_segments(items)),
        measurements=tuple(filter(None, map(_measurement, numbers))),
        not_computed=tuple(filter(None, map(_not_computed, numbers))),
        qualitative=tuple(_qualitative(items)),
        location=next(_locations([*items, *(c for n in numbers for c in items_of(n, "ContentSequence"))]), None),
    )


def _tracking(items: Sequence[Dataset]) -> str:
    for concept, keyword in ((codes.TRACKING_IDENTIFIER, "TextValue"), (codes.TRACKING_UID, "UID")):
        for item in items:
            if _concept(item) == concept.value and text_of(item, keyword):
                return cleaned(text_of(item, keyword))
    return ""


def _referenced_segments(items: Sequence[Dataset]) -> Iterator[str]:
    for item in items:
        if _concept(item) in _SEGMENT:
            for reference in items_of(item, "ReferencedSOPSequence"):
                number = text_of(reference, "ReferencedSegmentNumber")
                yield f"segment {number or '?'} of {text_of(reference, 'ReferencedSOPInstanceUID')}"


def _measurement(item: Dataset) -> Measurement | None:
    """Give a number with its unit; None: it has none, or no finite one."""
    name, measured = _name(item), first_of(item, "MeasuredValueSequence")
    unit = next(filter(None, map(code_of, items_of(measured, "MeasurementUnitsCodeSequence"))), None)
    value = _float(text_of(measured, "FloatingPointValue") or text_of(measured, "NumericValue"))
    if name is None or unit is None or value is None:
        return None
    method, derivation = (
        next(filter(None, map(_value, _children(item, concepts))), None) for concepts in (_METHOD, _DERIVATION)
    )
    return Measurement(name, value, unit, method, derivation)


def _not_computed(item: Dataset) -> NotComputed | None:
    name = _name(item)
    if name is None or _measurement(item) is not None:
        return None
    reasons = [code_of(code) for code in items_of(item, "NumericValueQualifierCodeSequence")]
    reason = next((code.meaning for code in reasons if code is not None), "no readable value")
    return NotComputed(name, _UNKNOWN, cleaned(reason))


def _qualitative(items: Sequence[Dataset]) -> Iterator[Qualitative]:
    skipped = _FINDING | _SITE | _LATERALITY | _CATEGORY | _ALGORITHM | _METHOD
    for item in items:
        name, value = _name(item), _value(item)
        if name is not None and value is not None and _concept(item) not in skipped:
            yield Qualitative(name, value)


def _texts(group: Dataset) -> Iterator[str]:
    skipped = _ALGORITHM | {codes.TRACKING_IDENTIFIER.value}
    for item in items_of(group, "ContentSequence"):
        if text_of(item, "ValueType") == "TEXT" and _concept(item) not in skipped:
            yield text_of(item, "TextValue")


def _locations(items: Sequence[Dataset]) -> Iterator[ImageLocation | SpaceLocation]:
    """Marks that can be read; others are passed over."""
    for item in items:
        kind, graphic = text_of(item, "ValueType"), text_of(item, "GraphicType")
        size = {"SCOORD": 2, "SCOORD3D": 3}.get(kind, 0)
        values = [_float(value) for value in _list(item.get("GraphicData"))] if size else []
        if not values or len(values) % size or any(value is None for value in values):
            continue
        points = np.array(values, dtype=float).reshape(-1, size).tolist()
        if kind == "SCOORD" and graphic in _FLAT_GRAPHICS:
            image = first_of(next(iter(items_of(item, "ContentSequence")), Dataset()), "ReferencedSOPSequence")
            frame = _float(text_of(image, "ReferencedFrameNumber"))
            uid = text_of(image, "ReferencedSOPInstanceUID")
            if uid:
                yield ImageLocation(
                    cast(_Flat, graphic),
                    tuple((x, y) for x, y in points),
                    uid,
                    int(frame) if frame is not None else None,
                )
        elif kind == "SCOORD3D" and graphic in _SPATIAL_GRAPHICS:
            frame_of_reference = text_of(item, "ReferencedFrameOfReferenceUID")
            yield SpaceLocation(cast(_Spatial, graphic), tuple((x, y, z) for x, y, z in points), frame_of_reference)


def _segment(read: ReadSegment, index: dict[object, int], shape: tuple[int, int, int]) -> Segment:
    mask = np.zeros(shape, dtype=np.bool_)
    for frame in read.frames:
        mask[index[_plane(frame)]] |= frame.mask
    return Segment(
        label=cleaned(read.label) or f"segment {read.number}",
        category=read.category or _UNKNOWN,
        type=read.type or _UNKNOWN,
        laterality=read.laterality,
        mask=mask,
        tracking_id=read.tracking_uid,
        colour=read.colour,
    )


def _plane(frame: SegmentFrame) -> object:
    """What tells the planes of a segmentation apart."""
    return frame.source_sop_instance_uid, frame.source_frame_number, frame.position


def _concept(item: Dataset) -> str:
    return text_of(first_of(item, "ConceptNameCodeSequence"), "CodeValue")


def _name(item: Dataset) -> Code | None:
    return code_of(first_of(item, "ConceptNameCodeSequence"))


def _value(item: Dataset) -> Code | None:
    return code_of(first_of(item, "ConceptCodeSequence"))


def _children(item: Dataset, concepts: set[str]) -> list[Dataset]:
    return [child for child in items_of(item, "ContentSequence") if _concept(child) in concepts]


def _list(value: object) -> list[object]:
    return list(value) if hasattr(value, "__iter__") and not isinstance(value, str | bytes) else []


def _float(value: object) -> float | None:
    try:
        found = float(cast(str, value))
    except (TypeError, ValueError):
        return None
    return found if math.isfinite(found) else None
