"""Where the data set of a DICOM file begins."""

from __future__ import annotations

import struct
from typing import BinaryIO

from storage.errors import UnreadableInstance

_PREAMBLE_AND_PREFIX = 132
#: Value representations whose length has 4 bytes after 2 reserved ones. Source: PS3.5 7.1.2.
_LONG = frozenset({b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"})
_LONGEST_VALUE = 1 << 20


def to_data_set(part10: BinaryIO) -> None:
    """Read past preamble and File Meta Information; the stream then stands at the data set.

    Elements are counted, the group length is not trusted: files in the field lack it or lie.

    Raises
    ------
    UnreadableInstance
        The stream is no DICOM file.

    Source: PS3.10 7.1.
    """
    if part10.read(_PREAMBLE_AND_PREFIX)[128:] != b"DICM":
        raise UnreadableInstance("no DICOM file: it lacks the prefix DICM")
    while True:
        at = part10.tell()
        header = part10.read(8)
        if len(header) < 8 or header[:2] != b"\x02\x00":
            part10.seek(at)
            return
        length = int.from_bytes(header[6:8], "little")
        if header[4:6] in _LONG:
            length = struct.unpack("<L", part10.read(4).ljust(4, b"\xff"))[0]
        if length > _LONGEST_VALUE or len(part10.read(length)) < length:
            raise UnreadableInstance("no DICOM file: its File Meta Information is broken")
