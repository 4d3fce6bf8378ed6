"""What each frame of a segmentation says of itself, read quickly: thousands of frames are common.

Frames that stand encoded in Explicit VR Little Endian, as in what this node writes and in most files, are
read from their bytes; everything else through the data set.

Source: PS3.5 7.1.2, 7.5; PS3.3 C.7.6.16.2.6 (derivation), C.7.6.16.2.3 (plane position), C.8.20.3.1.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pydicom import Dataset
from pydicom.dataelem import RawDataElement

from inference.findings import Code
from inference.results.elements import code_of, first_of, items_of, numbers
from inference.results.seg_frames import PER_FRAME_GROUPS

_HEADER = struct.Struct("<HH2sH")
_LONG = struct.Struct("<I")
_ITEM = struct.Struct("<HHI")
#: VRs with a length of four bytes (PS3.5 7.1.2).
_FOUR_BYTES = frozenset(b"OB OD OF OL OV OW SQ SV UC UN UR UT UV".split())
_UNDEFINED = 0xFFFFFFFF

_DERIVATION, _SOURCE, _DERIVATION_CODE, _PURPOSE = 0x00089124, 0x00082112, 0x00089215, 0x0040A170
_CLASS, _INSTANCE, _FRAME_NUMBER = 0x00081150, 0x00081155, 0x00081160
_CONTENT, _DIMENSIONS, _PLANE, _POSITION = 0x00209111, 0x00209157, 0x00209113, 0x00200032
_IDENTIFICATION, _NUMBER = 0x0062000A, 0x0062000B
_CODE_VALUE, _CODE_SCHEME, _CODE_MEANING = 0x00080100, 0x00080102, 0x00080104


@dataclass(frozen=True)
class SourceFrame:
    """An image that a frame was drawn on."""

    sop_class_uid: str
    sop_instance_uid: str
    frame_number: int | None
    """None: it names no frame."""


@dataclass(frozen=True)
class Derivation:
    """How a frame came to be, and from what."""

    codes: tuple[Code | None, ...]
    """Derivation codes; None: an item that is no whole code."""
    sources: tuple[SourceFrame, ...]
    purposes: tuple[Code | None, ...]


@dataclass(frozen=True)
class FrameFacts:
    """What one frame says."""

    derivations: tuple[Derivation, ...]
    position: tuple[float, ...] | None
    """Image Position (Patient), mm."""
    segment_number: int | None
    """None: the shared groups say it, or the frame has all segments."""
    dimensions: tuple[int, ...]


class _NotPlain(Exception):
    """The bytes are encoded in a way that is left to the data set."""


def frame_facts(seg: Dataset) -> list[FrameFacts]:
    """Read all frames of a segmentation, in their order."""
    if PER_FRAME_GROUPS not in seg:
        return []
    raw: Any = seg.get_item(PER_FRAME_GROUPS)  # not always a DataElement, whatever pydicom declares
    if isinstance(raw, RawDataElement) and raw.value and raw.is_little_endian and not raw.is_implicit_VR:
        try:
            return [_of_bytes(memoryview(item)) for item in _items(memoryview(raw.value))]
        except (_NotPlain, struct.error, ValueError, UnicodeDecodeError):
            pass  # odd, not necessarily wrong: the slower reader decides
    return [_of_dataset(item) for item in items_of(seg, "PerFrameFunctionalGroupsSequence")]


def _of_bytes(item: memoryview) -> FrameFacts:
    groups = _elements(item)
    position = _nested(groups, _PLANE, _POSITION)
    number = _nested(groups, _IDENTIFICATION, _NUMBER)
    dimensions = _nested(groups, _CONTENT, _DIMENSIONS)
    return FrameFacts(
        derivations=tuple(_derivation(_elements(each)) for each in _items(groups.get(_DERIVATION))),
        position=tuple(float(part) for part in _text(position).split("\\")) if position else None,
        segment_number=struct.unpack("<H", number)[0] if number else None,
        dimensions=struct.unpack(f"<{len(dimensions) // 4}I", dimensions) if dimensions else (),
    )


def _derivation(elements: dict[int, memoryview]) -> Derivation:
    sources = [_elements(each) for each in _items(elements.get(_SOURCE))]
    return Derivation(
        codes=tuple(_code(_elements(each)) for each in _items(elements.get(_DERIVATION_CODE))),
        sources=tuple(_source(each) for each in sources),
        purposes=tuple(_code(_elements(each)) for source in sources for each in _items(source.get(_PURPOSE))),
    )


def _source(elements: dict[int, memoryview]) -> SourceFrame:
    number = _text(elements.get(_FRAME_NUMBER)).split("\\")[0]
    return SourceFrame(_text(elements.get(_CLASS)), _text(elements.get(_INSTANCE)), int(number) if number else None)


def _code(elements: dict[int, memoryview]) -> Code | None:
    value, scheme, meaning = (_text(elements.get(tag)) for tag in (_CODE_VALUE, _CODE_SCHEME, _CODE_MEANING))
    return Code(value, scheme, meaning) if value and scheme and 0 < len(meaning) <= 64 else None


def _nested(groups: dict[int, memoryview], sequence: int, tag: int) -> memoryview | None:
    for item in _items(groups.get(sequence)):
        return _elements(item).get(tag)
    return None


def _items(value: memoryview | None) -> Iterator[memoryview]:
    """Items of a sequence whose lengths are all said."""
    position, end = 0, len(value) if value is not None else 0
    while value is not None and position < end:
        group, element, length = _ITEM.unpack_from(value, position)
        if (group, element) != (0xFFFE, 0xE000) or length == _UNDEFINED or position + 8 + length > end:
            raise _NotPlain
        yield value[position + 8 : position + 8 + length]
        position += 8 + length


def _elements(item: memoryview) -> dict[int, memoryview]:
    """Values of the elements of one item, by tag."""
    found: dict[int, memoryview] = {}
    position, end = 0, len(item)
    while position < end:
        group, element, vr, length = _HEADER.unpack_from(item, position)
        position += 8
        if vr in _FOUR_BYTES:
            (length,) = _LONG.unpack_from(item, position)
            position += 4
        if not vr.isalpha() or length == _UNDEFINED or position + length > end:
            raise _NotPlain
        found[group << 16 | element] = item[position : position + length]
        position += length
    return found


def _text(value: memoryview | None) -> str:
    return "" if value is None else str(value, "ascii").rstrip(" \0")


def _of_dataset(item: Dataset) -> FrameFacts:
    position = numbers(first_of(item, "PlanePositionSequence"), "ImagePositionPatient", 3)
    number = first_of(item, "SegmentIdentificationSequence").get("ReferencedSegmentNumber")
    content = first_of(item, "FrameContentSequence").get("DimensionIndexValues")
    dimensions = (content,) if isinstance(content, int) else tuple(content or ())
    return FrameFacts(
        derivations=tuple(_derivation_of(each) for each in items_of(item, "DerivationImageSequence")),
        position=position,
        segment_number=number if isinstance(number, int) else None,
        dimensions=tuple(int(value) for value in dimensions),
    )


def _derivation_of(item: Dataset) -> Derivation:
    sources = items_of(item, "SourceImageSequence")
    return Derivation(
        codes=tuple(code_of(each) for each in items_of(item, "DerivationCodeSequence")),
        sources=tuple(_source_of(each) for each in sources),
        purposes=tuple(code_of(c) for source in sources for c in items_of(source, "PurposeOfReferenceCodeSequence")),
    )


def _source_of(item: Dataset) -> SourceFrame:
    number = item.get("ReferencedFrameNumber")
    first = number[0] if isinstance(number, list) or hasattr(number, "_list") else number
    return SourceFrame(
        str(item.get("ReferencedSOPClassUID", "")),
        str(item.get("ReferencedSOPInstanceUID", "")),
        int(first) if first is not None else None,
    )
