"""A Part 10 file taken apart around its pixel data; the pixels themselves stay in the file.

Source: PS3.10 7.1 (File Meta), PS3.5 A.4 (encapsulation), A.5 (deflated).
"""

from __future__ import annotations

import struct
import tempfile
import zlib
from dataclasses import dataclass
from typing import BinaryIO, cast

from pydicom import DataElement, Dataset
from pydicom.dataelem import RawDataElement
from pydicom.errors import BytesLengthException
from pydicom.filereader import read_dataset
from pydicom.tag import BaseTag

from inference.errors import UnreadablePixels
from inference.recode import Form, elements_of, form_of
from inference.syntaxes import DEFLATED

#: Pixel Data, Float Pixel Data, Double Float Pixel Data, with their VRs.
PIXEL_VR = {0x7FE00010: "OW", 0x7FE00008: "OF", 0x7FE00009: "OD"}
_ITEM, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE0DD
_UNDEFINED = 0xFFFFFFFF
#: A deflated data set may inflate to this; the threat: 1 MB of zeros deflates to 1 kB.
_INFLATED_AT_MOST = 4 << 30
_CHUNK = 1 << 20


@dataclass(frozen=True)
class Pixels:
    """Where the pixel data stand."""

    tag: int
    vr: str
    offset: int
    """Of the value."""
    length: int
    """Bytes of the value; for encapsulated ones with all items and the delimiter."""
    encapsulated: bool


@dataclass(frozen=True)
class Source:
    """An instance as it is stored."""

    file: BinaryIO
    meta: Dataset
    transfer_syntax_uid: str
    form: Form
    head: Dataset
    """What stands before the pixel data, to look things up in."""
    head_elements: dict[int, RawDataElement | DataElement]
    """The same, as encoded."""
    pixels: Pixels | None
    tail: Dataset
    """What stands after them."""


def read_source(file: BinaryIO) -> Source:
    """Take an instance apart.

    Raises
    ------
    UnreadablePixels
        It is no DICOM file, or it is broken around its pixels.
    """
    if file.read(132)[128:] != b"DICM":
        raise UnreadablePixels("This is no DICOM file: the prefix is missing.")
    meta = read_dataset(file, is_implicit_VR=False, is_little_endian=True, stop_when=_after_meta)
    try:
        # Decoded now: a broken element may raise where nobody expects it later.
        syntax = str({element.keyword: element.value for element in meta}.get("TransferSyntaxUID") or "")
    except (BytesLengthException, NotImplementedError, OSError, ValueError) as error:
        raise UnreadablePixels("The File Meta Information is broken.") from error
    if not syntax:
        raise UnreadablePixels("The File Meta Information names no transfer syntax.")
    if syntax == DEFLATED:
        file = _inflated(file)
    form = form_of(syntax)
    head = read_dataset(file, form.implicit, form.little, stop_when=lambda tag, *_: tag in PIXEL_VR)
    elements = elements_of(head)
    form = Form(bool(head.original_encoding[0]), form.little)  # some files are labelled wrongly
    pixels = _pixels(file, form)
    tail = Dataset()
    if pixels is not None:
        file.seek(pixels.offset + pixels.length)
        tail = read_dataset(file, form.implicit, form.little, at_top_level=False)
    return Source(file, meta, syntax, form, head, elements, pixels, tail)


def _after_meta(tag: BaseTag, *_: object) -> bool:
    return tag >> 16 != 2


def _pixels(file: BinaryIO, form: Form) -> Pixels | None:
    begin = file.read(12)
    if len(begin) < 8:
        return None
    group, element = struct.unpack_from(form.order + "HH", begin)
    tag = group << 16 | element
    if tag not in PIXEL_VR:
        return None
    vr, offset = PIXEL_VR[tag], file.tell() - len(begin) + 8
    if form.implicit:
        length = struct.unpack_from(form.order + "I", begin, 4)[0]
    elif len(begin) == 12:
        vr, offset = begin[4:6].decode("ascii", "replace"), offset + 4
        length = struct.unpack_from(form.order + "I", begin, 8)[0]
    else:
        raise UnreadablePixels("The pixel data are cut short.")
    if length != _UNDEFINED:
        end = file.seek(0, 2)
        if offset + length > end:
            raise UnreadablePixels("The pixel data are cut short.")
        return Pixels(tag, vr, offset, length, encapsulated=False)
    return Pixels(tag, vr, offset, _fragments_end(file, offset) - offset, encapsulated=True)


def _fragments_end(file: BinaryIO, position: int) -> int:
    """Find where encapsulated pixel data end: past the sequence delimiter."""
    while True:
        file.seek(position)
        begin = file.read(8)
        if len(begin) < 8:
            raise UnreadablePixels("The pixel data are cut short.")
        group, element, length = struct.unpack("<HHI", begin)
        tag = group << 16 | element
        if tag == _SEQUENCE_END:
            return position + 8
        if tag != _ITEM or length == _UNDEFINED:
            raise UnreadablePixels("The fragments of the pixel data cannot be told apart.")
        position += 8 + length


def _inflated(file: BinaryIO) -> BinaryIO:
    """Inflate the rest of a file into a nameless one."""
    inflated = cast(BinaryIO, tempfile.TemporaryFile())  # noqa: SIM115 (it lives as long as its reader)
    stream = zlib.decompressobj(-zlib.MAX_WBITS)
    total = 0
    try:
        while not stream.eof:
            chunk = stream.unconsumed_tail or file.read(_CHUNK)
            if not chunk:
                raise UnreadablePixels("The deflated data set is cut short.")
            part = stream.decompress(chunk, _CHUNK)
            total += len(part)
            if total > _INFLATED_AT_MOST:
                raise UnreadablePixels("The deflated data set inflates beyond any sensible size.")
            inflated.write(part)
    except zlib.error as error:
        raise UnreadablePixels("The data set does not inflate.") from error
    inflated.seek(0)
    return inflated
