"""The File Meta Information around a data set: written by us, split off where others wrote it.

Source: PS3.10 7.1.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from functools import lru_cache
from typing import BinaryIO

from configs.implementation import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from storage.errors import UnreadableInstance

_LONGEST_META = 1 << 16
_LONG = (b"OB", b"OW", b"SQ", b"UN", b"UT", b"UC", b"UR")


@dataclass(frozen=True)
class FileMeta:
    """What a Part 10 file says of its data set."""

    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str


def write_file_meta(meta: FileMeta, *, source_ae_title: str = "") -> bytes:
    """Give preamble, prefix and File Meta Information; the preamble is zero, whatever a sender had in it."""
    before, after = _around_instance(meta.sop_class_uid, meta.transfer_syntax_uid, source_ae_title)
    instance = _element(0x0003, b"UI", meta.sop_instance_uid.encode("ascii"))
    length = len(before) + len(instance) + len(after)
    return bytes(128) + b"DICM" + _element(0x0000, b"UL", struct.pack("<I", length)) + before + instance + after


@lru_cache(maxsize=256)
def _around_instance(sop_class_uid: str, transfer_syntax_uid: str, source_ae_title: str) -> tuple[bytes, bytes]:
    """Give the elements before and after the SOP Instance UID."""
    before = _element(0x0001, b"OB", b"\x00\x01")
    before += _element(0x0002, b"UI", sop_class_uid.encode("ascii"))
    after = _element(0x0010, b"UI", transfer_syntax_uid.encode("ascii"))
    after += _element(0x0012, b"UI", IMPLEMENTATION_CLASS_UID.encode("ascii"))
    after += _element(0x0013, b"SH", IMPLEMENTATION_VERSION_NAME.encode("ascii"))
    if source_ae_title:
        after += _element(0x0016, b"AE", source_ae_title.encode("ascii", "replace"))
    return before, after


def read_file_meta(file: BinaryIO) -> FileMeta:
    """Read the File Meta Information and leave the file at the first byte of the data set.

    Raises
    ------
    UnreadableInstance
        It is no DICOM file, or its File Meta is broken.
    """
    values = pass_file_meta(file)
    return FileMeta(*(_uid(values, element) for element in (0x0002, 0x0003, 0x0010)))


def pass_file_meta(file: BinaryIO) -> dict[int, bytes]:
    """Leave the file at the first byte of the data set; give the File Meta's values by element number.

    The group length is not trusted: files in the field lack it or lie.

    Raises
    ------
    UnreadableInstance
        It is no DICOM file, or its File Meta is broken.
    """
    if file.read(132)[128:] != b"DICM":
        raise UnreadableInstance("This is no DICOM file: the prefix is missing.")
    values: dict[int, bytes] = {}
    start = file.tell()
    while file.tell() - start < _LONGEST_META:
        begin = file.tell()
        head = file.read(8)
        if len(head) < 8 or head[:2] != b"\x02\x00":
            file.seek(begin)
            return values
        element = struct.unpack_from("<H", head, 2)[0]
        if head[4:6] in _LONG:
            length = struct.unpack("<I", _exactly(file, 4))[0]
        else:
            length = struct.unpack_from("<H", head, 6)[0]
        if length > _LONGEST_META:
            break
        values[element] = _exactly(file, length)
    raise UnreadableInstance("The File Meta Information is longer than any sensible one.")


def _element(element: int, vr: bytes, value: bytes) -> bytes:
    if len(value) % 2:
        value += b"\0" if vr == b"UI" else b" "
    if vr in _LONG:
        return struct.pack("<HH2sHI", 0x0002, element, vr, 0, len(value)) + value
    return struct.pack("<HH2sH", 0x0002, element, vr, len(value)) + value


def _exactly(file: BinaryIO, count: int) -> bytes:
    value = file.read(count)
    if len(value) < count:
        raise UnreadableInstance("The file is cut short.")
    return value


def _uid(values: dict[int, bytes], element: int) -> str:
    uid = values.get(element, b"").decode("ascii", "replace").rstrip("\0 ")
    if not uid:
        raise UnreadableInstance(f"The File Meta Information lacks (0002,{element:04X}).")
    return uid
