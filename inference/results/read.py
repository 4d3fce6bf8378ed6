"""Segmentations read as masks, ours and other makers'."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom import Dataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from inference.errors import UnusableAnswer
from inference.findings import Code, Mask
from inference.results.elements import first_of, items_of, numbers
from inference.results.frames import FrameFacts, frame_facts

#: Voxels of one object that are read at most (4,096 frames of 1,024 x 1,024).
MOST_VOXELS = 1 << 32

_NATIVE = frozenset({ExplicitVRLittleEndian, ImplicitVRLittleEndian})


@dataclass(frozen=True, eq=False)
class SegmentFrame:
    """One plane of one segment."""

    source_sop_instance_uid: str
    """Image that it was drawn on; empty: the object does not say."""
    source_frame_number: int
    """Frame of that image, from 1; 1 for single-frame images."""
    position: tuple[float, ...] | None
    """Image Position (Patient), mm; None: without a frame of reference."""
    mask: Mask
    """(rows, columns)."""


@dataclass(frozen=True, eq=False)
class ReadSegment:
    """One segment as an object holds it."""

    number: int
    label: str
    category: Code | None
    type: Code | None
    laterality: Code | None
    tracking_uid: str
    colour: tuple[int, int, int]
    """sRGB 0-255; yellow where the object recommends none."""
    frames: tuple[SegmentFrame, ...]

    def stacked(self, sop_instance_uids: Sequence[str], frame_numbers: Sequence[int | None] = ()) -> Mask:
        """Give the mask as one array in the order of these source images; planes without a frame are empty.

        Parameters
        ----------
        frame_numbers
            Frame of each in its image, from 1; empty or None: images of one frame.

        Raises
        ------
        UnusableAnswer
            A frame was drawn on an image that is not among them.
        """
        if not self.frames:
            raise UnusableAnswer(f"segment {self.number} has no frame")
        numbered = frame_numbers or [None] * len(sop_instance_uids)
        named = [(uid, number or 1) for uid, number in zip(sop_instance_uids, numbered, strict=True)]
        index = {name: position for position, name in enumerate(named)}
        mask = np.zeros((len(sop_instance_uids), *self.frames[0].mask.shape), dtype=np.bool_)
        for frame in self.frames:
            name = (frame.source_sop_instance_uid, frame.source_frame_number)
            if name not in index:
                raise UnusableAnswer("a frame of the segmentation names no image of this series")
            mask[index[name]] |= frame.mask
        return mask


def segments_of(seg: Dataset) -> tuple[ReadSegment, ...]:
    """Read a BINARY or LABELMAP segmentation; background is no segment.

    Raises
    ------
    UnusableAnswer
        It is no segmentation, of a type without masks, or its pixel data do not fit its attributes.
    """
    kind = str(seg.get("SegmentationType", ""))
    if kind not in ("BINARY", "LABELMAP"):
        raise UnusableAnswer(f"segmentations of type {kind or 'unknown'} are not read as masks")
    frames: dict[int, list[SegmentFrame]] = {}
    try:
        for number, frame in _frames(seg, kind):
            frames.setdefault(number, []).append(frame)
        return tuple(
            _segment(item, tuple(frames.get(int(item.SegmentNumber), ())))
            for item in seg.SegmentSequence
            if int(item.SegmentNumber) > 0
        )
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise UnusableAnswer("the segmentation cannot be read: its attributes are incomplete") from error


def _frames(seg: Dataset, kind: str) -> Iterator[tuple[int, SegmentFrame]]:
    shared = first_of(seg, "SharedFunctionalGroupsSequence")
    common = numbers(first_of(shared, "PlanePositionSequence"), "ImagePositionPatient", 3)
    alone = first_of(shared, "SegmentIdentificationSequence").get("ReferencedSegmentNumber")
    for facts, plane in zip(frame_facts(seg), planes_in(seg), strict=True):
        source, number = source_of(facts)
        position = facts.position or common
        if kind == "LABELMAP":
            for value in _values_in(plane):
                yield value, SegmentFrame(source, number, position, plane == value)
        else:
            segment = int(alone if facts.segment_number is None else facts.segment_number)
            mask = plane.view(np.bool_) if plane.dtype == np.uint8 else plane > 0
            yield segment, SegmentFrame(source, number, position, mask)


def planes_in(seg: Dataset) -> npt.NDArray[Any]:
    """Give all frames, (frames, rows, columns).

    Source: PS3.5 8.1.1 (single-bit pixels are packed without gaps, lowest bit first).
    """
    count, rows, columns = int(seg.get("NumberOfFrames", 1)), int(seg.Rows), int(seg.Columns)
    if count * rows * columns > MOST_VOXELS:
        raise UnusableAnswer("the segmentation is too large to be read")
    syntax = seg.file_meta.TransferSyntaxUID if getattr(seg, "file_meta", None) else ExplicitVRLittleEndian
    if int(seg.BitsAllocated) == 1 and syntax in _NATIVE:
        packed = np.frombuffer(seg.PixelData, dtype=np.uint8)
        if packed.size < (count * rows * columns + 7) // 8:
            raise UnusableAnswer("the segmentation has fewer pixels than frames")
        bits = np.unpackbits(packed, count=count * rows * columns, bitorder="little")
        return bits.reshape(count, rows, columns)
    return np.asarray(seg.pixel_array).reshape(count, rows, columns)


def _values_in(plane: npt.NDArray[Any]) -> list[int]:
    """Values of a label map but its background, by looking up rather than by sorting."""
    seen = np.zeros(np.iinfo(plane.dtype).max + 1, dtype=np.bool_)
    seen[plane] = True
    return [int(value) for value in np.flatnonzero(seen) if value]


def source_of(facts: FrameFacts) -> tuple[str, int]:
    """Give the image that a frame was drawn on: SOP Instance UID and frame number."""
    for derivation in facts.derivations:
        for source in derivation.sources:
            return source.sop_instance_uid, source.frame_number or 1
    return "", 1


def _segment(item: Dataset, frames: tuple[SegmentFrame, ...]) -> ReadSegment:
    types = item.get("SegmentedPropertyTypeCodeSequence") or [Dataset()]
    return ReadSegment(
        number=int(item.SegmentNumber),
        label=str(item.get("SegmentLabel", "")),
        category=_code(item, "SegmentedPropertyCategoryCodeSequence"),
        type=_code(item, "SegmentedPropertyTypeCodeSequence"),
        laterality=_code(types[0], "SegmentedPropertyTypeModifierCodeSequence"),
        tracking_uid=str(item.get("TrackingUID", "")),
        colour=_colour(item.get("RecommendedDisplayCIELabValue")),
        frames=frames,
    )


def _code(item: Dataset, keyword: str) -> Code | None:
    for code in items_of(item, keyword):
        value = code.get("CodeValue") or code.get("LongCodeValue") or code.get("URNCodeValue") or ""
        return Code(str(value), str(code.get("CodingSchemeDesignator", "")), str(code.get("CodeMeaning", "")))
    return None


def _colour(cielab: Sequence[int] | None) -> tuple[int, int, int]:
    """Give an encoded CIELab colour (PS3.3 C.10.7.1.1) as sRGB.

    With the white point D65 that the common writers and viewers use (dcmqi, dcmjs, highdicom), although
    profile connection space values mean D50.

    Source: IEC 61966-2-1.
    """
    if cielab is None or len(cielab) != 3:
        return (255, 255, 0)
    lightness = cielab[0] * 100.0 / 65535.0
    a, b = (value * 255.0 / 65535.0 - 128.0 for value in cielab[1:])
    middle = (lightness + 16.0) / 116.0
    x = _from_lab(middle + a / 500.0) * 0.950456
    y = _from_lab(middle)
    z = _from_lab(middle - b / 200.0) * 1.088754
    red = 3.2406 * x - 1.5372 * y - 0.4986 * z
    green = -0.9689 * x + 1.8758 * y + 0.0415 * z
    blue = 0.0557 * x - 0.2040 * y + 1.0570 * z
    return _to_byte(red), _to_byte(green), _to_byte(blue)


def _from_lab(value: float) -> float:
    return float(value**3) if value > 6.0 / 29.0 else 3.0 * (6.0 / 29.0) ** 2 * (value - 4.0 / 29.0)


def _to_byte(linear: float) -> int:
    curved = 12.92 * linear if linear <= 0.0031308 else 1.055 * max(linear, 0.0) ** (1 / 2.4) - 0.055
    return max(0, min(255, round(curved * 255.0)))
