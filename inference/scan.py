"""What a volume must know of an image, read from the first bytes of its file: twenty times as fast as a full parse.

What is unusual (big endian, deflated, undefined lengths that do not end, headers of megabytes) is left to the full
parser: None says so.

Source: PS3.5 7.1 (element structure), 7.5 (sequences), PS3.10 7.1 (File Meta).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import BinaryIO

from pydicom import Dataset
from pydicom.datadict import tag_for_keyword
from pydicom.dataelem import RawDataElement
from pydicom.tag import Tag
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, ImplicitVRLittleEndian

#: All that decides whether slices make a volume, and what their pixels mean.
_KEYWORDS = (
    *("ImageType", "SOPClassUID", "Modality", "ConvolutionKernel", "SliceThickness", "SpacingBetweenSlices"),
    *("SeriesInstanceUID", "ImageOrientationPatient", "FrameOfReferenceUID", "SamplesPerPixel"),
    *("PhotometricInterpretation", "PlanarConfiguration", "NumberOfFrames", "Rows", "Columns", "PixelSpacing"),
    *("BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "PixelPaddingValue"),
    *("PixelPaddingRangeLimit", "RescaleIntercept", "RescaleSlope", "RescaleType"),
)
_WANTED = frozenset(tag for keyword in _KEYWORDS if (tag := tag_for_keyword(keyword)) is not None)
_POSITION = 0x00200032
_PIXELS = frozenset({0x7FE00008, 0x7FE00009, 0x7FE00010})
_UNDEFINED = 0xFFFFFFFF
#: VRs whose length has four bytes. Source: PS3.5 Table 7.1-1.
_LONG = frozenset({b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"})
_ITEM, _ITEM_ENDS, _SEQUENCE_ENDS = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
#: Beginning of a file that is read at first, and where that was not enough.
QUICK_LOOK = 16 << 10
_BEGINNINGS = (QUICK_LOOK, 2 << 20)
_TAG = struct.Struct("<HH")
_SHORT_LENGTH = struct.Struct("<H")
_LENGTH = struct.Struct("<I")
_DEEPEST = 32


@dataclass(frozen=True)
class Scanned:
    """What one file said."""

    transfer_syntax_uid: str
    said: tuple[tuple[int, bytes, bytes], ...]
    """Tag, VR (empty: by the dictionary), value: the same for most slices of a series, so that it serves as a key."""
    position: bytes
    """Image Position (Patient)."""
    pixels_at: int
    """Where the value of Pixel Data begins in the file."""
    pixels_length: int
    """Its length; 0xFFFFFFFF: in fragments."""

    def dataset(self) -> Dataset:
        """Give it as a data set with these attributes alone."""
        made = Dataset()
        implicit = self.transfer_syntax_uid == ImplicitVRLittleEndian
        for tag, vr, value in self.said:
            raw = RawDataElement(Tag(tag), vr.decode("ascii") or None, len(value), value, 0, implicit, True)
            made[Tag(tag)] = raw
        return made


class _Unusual(Exception):
    """Left to the full parser."""


def scan(file: BinaryIO) -> Scanned | None:
    """Read what a volume must know; None: the full parser must look."""
    for most in _BEGINNINGS:
        file.seek(0)
        beginning = file.read(most)
        try:
            return _scan(beginning)
        except (_Unusual, UnicodeDecodeError):
            return None
        except (IndexError, struct.error):
            if len(beginning) < most:
                return None
    return None


def _scan(beginning: bytes) -> Scanned:
    syntax, at = _meta(beginning)
    if syntax in (DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian):
        raise _Unusual
    explicit = syntax != ImplicitVRLittleEndian
    said: list[tuple[int, bytes, bytes]] = []
    position = b""
    while True:
        tag, vr, length, value_at = _element(beginning, at, explicit)
        if tag in _PIXELS:
            if tag != 0x7FE00010:
                raise _Unusual
            return Scanned(syntax, tuple(said), position, value_at, length)
        if length == _UNDEFINED:
            at = _skip(beginning, value_at, explicit and vr != b"UN", 0)
            continue
        at = value_at + length
        if tag == _POSITION or tag in _WANTED:
            if at > len(beginning):
                raise IndexError
            value = beginning[value_at:at]
            if tag == _POSITION:
                position = value
            else:
                said.append((tag, vr, value))


def _meta(beginning: bytes) -> tuple[str, int]:
    """Transfer syntax, and where the data set begins."""
    if beginning[128:132] != b"DICM" or beginning[132:138] != b"\x02\0\0\0UL":
        raise _Unusual
    end = 144 + _LENGTH.unpack_from(beginning, 140)[0]
    at, syntax = 144, ""
    while at < end:
        tag, _, length, value_at = _element(beginning, at, True)
        at = value_at + length
        if tag == 0x00020010:
            syntax = beginning[value_at:at].decode("ascii").rstrip("\0 ")
    if not syntax or at != end:
        raise _Unusual
    return syntax, end


def _element(beginning: bytes, at: int, explicit: bool) -> tuple[int, bytes, int, int]:
    """Tag, VR, length and place of the value of the element at a place."""
    group, element = _TAG.unpack_from(beginning, at)
    tag = group << 16 | element
    if not explicit or group == 0xFFFE:
        return tag, b"", _LENGTH.unpack_from(beginning, at + 4)[0], at + 8
    vr = beginning[at + 4 : at + 6]
    if vr in _LONG:
        return tag, vr, _LENGTH.unpack_from(beginning, at + 8)[0], at + 12
    if not vr.isalpha() or not vr.isupper():
        raise _Unusual
    return tag, vr, _SHORT_LENGTH.unpack_from(beginning, at + 6)[0], at + 8


def _skip(beginning: bytes, at: int, explicit: bool, depth: int) -> int:
    """Give where a sequence of undefined length ends."""
    if depth > _DEEPEST:
        raise _Unusual
    while True:
        tag, _, length, at = _element(beginning, at, False)
        if tag == _SEQUENCE_ENDS:
            return at
        if tag != _ITEM:
            raise _Unusual
        at = at + length if length != _UNDEFINED else _skip_item(beginning, at, explicit, depth)


def _skip_item(beginning: bytes, at: int, explicit: bool, depth: int) -> int:
    while True:
        tag, vr, length, value_at = _element(beginning, at, explicit)
        if tag == _ITEM_ENDS:
            return value_at
        if length == _UNDEFINED:
            at = _skip(beginning, value_at, explicit and vr != b"UN", depth + 1)
        else:
            at = value_at + length
