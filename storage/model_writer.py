"""Data sets in the DICOM JSON model written as bytes: what STOW-RS brings as metadata.

The bytes are Explicit VR Little Endian, as data sets of compressed transfer syntaxes are too. Bulk data stand
outside of the model and are read while the data set is written, so that they are never in memory as a whole.

Source: PS3.18 F.2 (DICOM JSON model), PS3.5 7.1.2 (Explicit VR), A.4 (encapsulated pixel data), 6.2 (VRs).
"""

from __future__ import annotations

import base64
import binascii
import re
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

from storage.errors import UnreadableInstance

PIXEL_DATA = "7FE00010"
_SPECIFIC_CHARACTER_SET = "00080005"
_TAG = re.compile(r"[0-9A-F]{8}")
#: VRs with a length of four bytes. Source: PS3.5 7.1.2.
_LONG = frozenset({"OB", "OD", "OF", "OL", "OV", "OW", "SQ", "SV", "UC", "UN", "UR", "UT", "UV"})
_BINARY = frozenset({"OB", "OD", "OF", "OL", "OV", "OW", "UN"})
_NUMBERS = {"US": "H", "SS": "h", "UL": "I", "SL": "i", "FL": "f", "FD": "d", "SV": "q", "UV": "Q"}
_TEXTS = frozenset({"AE", "AS", "CS", "DA", "DT", "LO", "LT", "SH", "ST", "TM", "UC", "UI", "UR", "UT"})
_GROUPS = ("Alphabetic", "Ideographic", "Phonetic")
#: Items within items at most; what the standard describes has a few.
_DEEPEST = 32
#: Bulk data inside of items, where the length of what holds it must be known first.
_MOST_IN_ITEMS = 64 << 20
_PIECE = 1 << 20
_UNDEFINED = 0xFFFFFFFF
_ITEM, _ITEM_END = b"\xfe\xff\x00\xe0", b"\xfe\xff\xdd\xe0\0\0\0\0"

DataSet = Mapping[str, Any]


@dataclass(frozen=True)
class Bulk:
    """Bytes of one attribute, or of one compressed frame."""

    size: int
    open: Callable[[], BinaryIO]


BulkOf = Callable[[str], Sequence[Bulk]]
"""Gives what a BulkDataURI refers to; several for the frames of compressed pixel data."""


def bulk_uris(dataset: DataSet) -> list[str]:
    """Give every BulkDataURI of a data set, in items too, in no more than one copy.

    Raises
    ------
    UnreadableInstance
        It is not in the DICOM JSON model.
    """
    return list(dict.fromkeys(_uris(dataset, 0)))


def write_model(dataset: DataSet, bulk_of: BulkOf, *, encapsulated: bool = False) -> Iterator[bytes]:
    """Write a data set, in pieces; text is written as ISO_IR 192, for the model is in UTF-8.

    `encapsulated`: pixel data are compressed frames, one fragment each.

    Raises
    ------
    UnreadableInstance
        It is not in the DICOM JSON model, or a value has not the form of its VR.
    """
    said = {**dataset, _SPECIFIC_CHARACTER_SET: {"vr": "CS", "Value": ["ISO_IR 192"]}}
    for tag in _tags(said):
        attribute = said[tag]
        uri = attribute.get("BulkDataURI")
        if tag == PIXEL_DATA and encapsulated:
            yield from _encapsulated(bulk_of(uri) if uri else ())
        elif uri:
            yield from _external(tag, _vr(attribute), bulk_of(uri))
        else:
            yield _element(tag, attribute, bulk_of, 0)


def first_text(dataset: DataSet, tag: str) -> str:
    """Give the first value of an attribute of text; empty where there is none."""
    attribute = dataset.get(tag)
    values = attribute.get("Value") if isinstance(attribute, Mapping) else None
    first = values[0] if isinstance(values, list) and values else ""
    return first.rstrip("\0 ") if isinstance(first, str) else ""


def items_of(dataset: DataSet, tag: str) -> list[DataSet]:
    """Give the items of a sequence; none where it is not there, or no sequence."""
    attribute = dataset.get(tag)
    values = attribute.get("Value") if isinstance(attribute, Mapping) else None
    return [each for each in values if isinstance(each, Mapping)] if isinstance(values, list) else []


def _uris(dataset: DataSet, depth: int) -> Iterator[str]:
    for tag in _tags(dataset, depth):
        attribute = dataset[tag]
        uri = attribute.get("BulkDataURI")
        if uri is not None:
            if not isinstance(uri, str) or not uri:
                raise UnreadableInstance("A BulkDataURI is none.")
            yield uri
        elif attribute.get("vr") == "SQ":
            for item in _values(attribute):
                yield from _uris(item or {}, depth + 1)


def _tags(dataset: Any, depth: int = 0) -> list[str]:
    """Give the tags to be written, in order; group lengths and the File Meta are not of the data set."""
    if not isinstance(dataset, Mapping) or depth > _DEEPEST:
        raise UnreadableInstance("This is no data set of the DICOM JSON model.")
    for tag, attribute in dataset.items():
        if not _TAG.fullmatch(tag) or not isinstance(attribute, Mapping):
            raise UnreadableInstance("An attribute is none of the DICOM JSON model.")
    return sorted(
        tag
        for tag in dataset
        if not tag.endswith("0000") and "0008" <= tag[:4] < "FFFE" and not (depth and tag == _SPECIFIC_CHARACTER_SET)
    )


def _element(tag: str, attribute: DataSet, bulk_of: BulkOf, depth: int) -> bytes:
    vr = _vr(attribute)
    try:
        value = _value(vr, attribute, bulk_of, depth)
    except (struct.error, OverflowError, TypeError, ValueError, AttributeError) as error:
        raise UnreadableInstance(f"The value of ({tag[:4]},{tag[4:]}) has not the form of {vr}.") from error
    if len(value) % 2:
        value += b"\0" if vr == "UI" or vr in _BINARY else b" "
    return _head(tag, vr, len(value)) + value


def _vr(attribute: DataSet) -> str:
    vr = attribute.get("vr")
    if vr not in _LONG and vr not in _NUMBERS and vr not in _TEXTS and vr not in ("AT", "DS", "IS", "PN"):
        raise UnreadableInstance("An attribute has no VR.")
    return str(vr)


def _head(tag: str, vr: str, length: int) -> bytes:
    group, element = int(tag[:4], 16), int(tag[4:], 16)
    if vr in _LONG:
        if _UNDEFINED != length >= _UNDEFINED - 1:
            raise UnreadableInstance(f"The value of ({tag[:4]},{tag[4:]}) is longer than DICOM can write.")
        return struct.pack("<HH2sHI", group, element, vr.encode(), 0, length)
    if length > 0xFFFE:
        raise UnreadableInstance(f"The value of ({tag[:4]},{tag[4:]}) is longer than {vr} may be.")
    return struct.pack("<HH2sH", group, element, vr.encode(), length)


def _value(vr: str, attribute: DataSet, bulk_of: BulkOf, depth: int) -> bytes:
    if "BulkDataURI" in attribute:
        return _read_whole(bulk_of(attribute["BulkDataURI"]))
    if "InlineBinary" in attribute:
        try:
            return base64.b64decode(attribute["InlineBinary"] or "", validate=True)
        except binascii.Error as error:
            raise ValueError from error
    values = _values(attribute)
    if vr == "SQ":
        return b"".join(_item(item or {}, bulk_of, depth + 1) for item in values)
    if vr in _BINARY and values:
        raise ValueError
    if vr in _NUMBERS:
        return struct.pack(f"<{len(values)}{_NUMBERS[vr]}", *(_number(vr, value) for value in values))
    if vr == "AT":
        return b"".join(struct.pack("<HH", int(value[:4], 16), int(value[4:], 16)) for value in values)
    texts = (_person(value) if vr == "PN" else _text(vr, value) for value in values)
    return "\\".join(texts).encode("utf-8")


def _values(attribute: DataSet) -> list[Any]:
    values = attribute.get("Value")
    if values is None:
        return []
    if not isinstance(values, list):
        raise UnreadableInstance("The values of an attribute are no list.")
    return values


def _item(item: Any, bulk_of: BulkOf, depth: int) -> bytes:
    content = b"".join(_element(tag, item[tag], bulk_of, depth) for tag in _tags(item, depth))
    return _ITEM + struct.pack("<I", len(content)) + content


def _number(vr: str, value: Any) -> int | float:
    if isinstance(value, bool):
        raise TypeError
    # Not a number and infinity are written as text. Source: PS3.18 F.2.3, note.
    return float(value) if vr in ("FL", "FD") else int(value)


def _text(vr: str, value: Any) -> str:
    if value is None:
        return ""
    if vr in ("DS", "IS") and isinstance(value, int | float) and not isinstance(value, bool):
        return _decimal(value)
    if not isinstance(value, str):
        raise TypeError
    return value


def _decimal(value: float) -> str:
    """Write a number in the sixteen characters that DS has. Source: PS3.5 6.2."""
    text = repr(value)
    digits = 16
    while len(text) > 16 and digits > 1:
        digits -= 1
        text = f"{value:.{digits}g}"
    return text


def _person(value: Any) -> str:
    if value is None or isinstance(value, str):
        return value or ""
    groups = [str(value.get(group) or "") for group in _GROUPS]
    return "=".join(groups).rstrip("=")


def _read_whole(bulk: Sequence[Bulk]) -> bytes:
    if sum(each.size for each in bulk) > _MOST_IN_ITEMS:
        raise UnreadableInstance("Bulk data inside of an item are larger than they may be.")
    return b"".join(piece for each in bulk for piece in _pieces(each))


def _pieces(bulk: Bulk) -> Iterator[bytes]:
    with bulk.open() as file:
        left = bulk.size
        while left and (piece := file.read(min(_PIECE, left))):
            left -= len(piece)
            yield piece


def _external(tag: str, vr: str, bulk: Sequence[Bulk]) -> Iterator[bytes]:
    if len(bulk) != 1 or vr == "SQ":
        raise UnreadableInstance(f"The value of ({tag[:4]},{tag[4:]}) does not stand in one part.")
    padding = bulk[0].size % 2
    yield _head(tag, vr, bulk[0].size + padding)
    yield from _pieces(bulk[0])
    if padding:
        yield b"\0" if vr in _BINARY else b" "


def _encapsulated(frames: Sequence[Bulk]) -> Iterator[bytes]:
    """Each frame as one fragment, after a Basic Offset Table without entries. Source: PS3.5 A.4."""
    if not frames:
        raise UnreadableInstance("There are no frames for the compressed pixel data.")
    yield _head(PIXEL_DATA, "OB", _UNDEFINED) + _ITEM + bytes(4)
    for frame in frames:
        padding = frame.size % 2
        yield _ITEM + struct.pack("<I", frame.size + padding)
        yield from _pieces(frame)
        if padding:
            yield b"\0"
    yield _ITEM_END
