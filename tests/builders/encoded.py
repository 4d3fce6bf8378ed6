"""Data sets written element by element, right or wrong, as tests of readers need them."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

_SHORT = "AE AS AT CS DA DS DT FL FD IS LO LT PN SH SL SS ST TM UI UL US"


@dataclass(frozen=True)
class Writing:
    """How elements are written."""

    implicit: bool = False
    little: bool = True
    delimited: bool = False
    """Sequences and items of undefined length."""

    @property
    def order(self) -> str:
        """Sign of the byte order, as `struct` has it."""
        return "<" if self.little else ">"

    @property
    def transfer_syntax_uid(self) -> str:
        """The transfer syntax that is written so."""
        if self.implicit:
            return "1.2.840.10008.1.2"
        return "1.2.840.10008.1.2.1" if self.little else "1.2.840.10008.1.2.2"


@dataclass(frozen=True)
class Written:
    """One element: octets, or the items of a sequence."""

    tag: int
    vr: str
    value: bytes | Sequence[Sequence[Written]]


def write(elements: Sequence[Written], writing: Writing) -> bytes:
    """Encode a data set, its elements in the order of their tags."""
    return b"".join(_element(each, writing) for each in sorted(elements, key=lambda each: each.tag))


def _element(element: Written, writing: Writing) -> bytes:
    if isinstance(element.value, bytes):
        return head(element.tag, element.vr, len(element.value), writing) + element.value
    items = b"".join(_item(write(item, writing), writing) for item in element.value)
    if writing.delimited:
        end = struct.pack(writing.order + "HHI", 0xFFFE, 0xE0DD, 0)
        return head(element.tag, element.vr, 0xFFFFFFFF, writing) + items + end
    return head(element.tag, element.vr, len(items), writing) + items


def _item(content: bytes, writing: Writing) -> bytes:
    if writing.delimited:
        begin = struct.pack(writing.order + "HHI", 0xFFFE, 0xE000, 0xFFFFFFFF)
        return begin + content + struct.pack(writing.order + "HHI", 0xFFFE, 0xE00D, 0)
    return struct.pack(writing.order + "HHI", 0xFFFE, 0xE000, len(content)) + content


def head(tag: int, vr: str, length: int, writing: Writing) -> bytes:
    """Encode an element's tag, VR and length."""
    group, number = tag >> 16, tag & 0xFFFF
    if writing.implicit:
        return struct.pack(writing.order + "HHI", group, number, length)
    if vr in _SHORT.split():
        return struct.pack(writing.order + "HH2sH", group, number, vr.encode(), length)
    return struct.pack(writing.order + "HH2sHI", group, number, vr.encode(), 0, length)
