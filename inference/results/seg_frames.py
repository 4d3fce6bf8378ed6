"""Frames of a segmentation, written as bytes: a data set for each frame costs a millisecond, its bytes none.

Source: PS3.5 7.1.2 (Explicit VR), 7.5 (items), 8.1.1 (single-bit pixels); PS3.3 C.7.6.16, C.8.20.3.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from pydicom.dataelem import RawDataElement
from pydicom.tag import Tag

from inference.findings import Code, Mask
from inference.results import codes
from inference.results.source_planes import SourcePlane

PER_FRAME_GROUPS = 0x52009230
_DERIVATION, _FRAME_CONTENT, _PLANE_POSITION, _IDENTIFICATION = 0x00089124, 0x00209111, 0x00209113, 0x0062000A


@dataclass(frozen=True)
class Frame:
    """One plane of one segment; of a label map, of all segments."""

    plane_index: int
    """Into the source planes."""
    dimensions: tuple[int, ...]
    """Dimension Index Values."""
    segment_number: int | None
    """None: it stands in the shared groups, or the frame has all segments."""
    label: str = ""
    """Frame Label; empty: none."""


def per_frame_groups(frames: Iterable[Frame], planes: Sequence[SourcePlane]) -> RawDataElement:
    """Give Per-frame Functional Groups Sequence, encoded in Explicit VR Little Endian."""
    derived: dict[int, bytes] = {}
    placed: dict[int, bytes] = {}
    items = []
    for frame in frames:
        index = frame.plane_index
        if index not in derived:
            derived[index] = _sequence(_DERIVATION, _derivation(planes[index]))
            placed[index] = _place(planes[index])
        parts = [derived[index], _sequence(_FRAME_CONTENT, _content(frame)), placed[index]]
        if frame.segment_number is not None:
            number = _element(0x0062000B, b"US", struct.pack("<H", frame.segment_number))
            parts.append(_sequence(_IDENTIFICATION, number))
        items.append(_item(b"".join(parts)))
    value = b"".join(items)
    return RawDataElement(Tag(PER_FRAME_GROUPS), "SQ", len(value), value, 0, False, True)


def _place(plane: SourcePlane) -> bytes:
    if plane.position_text is None:
        return b""
    return _sequence(_PLANE_POSITION, _text(0x00200032, b"DS", "\\".join(plane.position_text)))


def _content(frame: Frame) -> bytes:
    values = struct.pack(f"<{len(frame.dimensions)}I", *frame.dimensions)
    label = _text(0x00209453, b"LO", frame.label) if frame.label else b""
    return _element(0x00209157, b"UL", values) + label


def packed(masks: Iterable[Mask]) -> bytes:
    """Pack frames one bit a pixel, lowest bit first, without gaps, to an even length."""
    whole, rest = [], np.zeros(0, dtype=np.bool_)
    for mask in masks:
        bits = mask.ravel() if not rest.size else np.concatenate([rest, mask.ravel()])
        full = bits.size - bits.size % 8
        whole.append(np.packbits(bits[:full], bitorder="little").tobytes())
        rest = bits[full:]
    if rest.size:
        whole.append(np.packbits(rest, bitorder="little").tobytes())
    content = b"".join(whole)
    return content + bytes(len(content) % 2)


def _derivation(plane: SourcePlane) -> bytes:
    """One source image and why it is named (CID 7202, CID 7203)."""
    header = plane.header
    source = _uid(0x00081150, str(header.SOPClassUID)) + _uid(0x00081155, str(header.SOPInstanceUID))
    if plane.frame_number is not None:
        source += _text(0x00081160, b"IS", str(plane.frame_number))
    source += _text(0x0028135A, b"CS", "YES")
    source += _sequence(0x0040A170, _code(codes.SOURCE_IMAGE))
    return _sequence(0x00082112, source) + _sequence(0x00089215, _code(codes.SEGMENTATION_DERIVATION))


def _code(code: Code) -> bytes:
    parts = ((0x00080100, b"SH", code.value), (0x00080102, b"SH", code.scheme), (0x00080104, b"LO", code.meaning))
    return b"".join(_text(tag, vr, value) for tag, vr, value in parts)


def _sequence(tag: int, item: bytes) -> bytes:
    value = _item(item)
    return struct.pack("<HH2sHI", tag >> 16, tag & 0xFFFF, b"SQ", 0, len(value)) + value


def _item(content: bytes) -> bytes:
    return struct.pack("<HHI", 0xFFFE, 0xE000, len(content)) + content


def _uid(tag: int, value: str) -> bytes:
    content = value.encode("ascii")
    return _element(tag, b"UI", content + b"\0" * (len(content) % 2))


def _text(tag: int, vr: bytes, value: str) -> bytes:
    content = value.encode("ascii")
    return _element(tag, vr, content + b" " * (len(content) % 2))


def _element(tag: int, vr: bytes, value: bytes) -> bytes:
    return struct.pack("<HH2sH", tag >> 16, tag & 0xFFFF, vr, len(value)) + value
