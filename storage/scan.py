"""A walk over an encoded data set, element by element, that believes no length it cannot check.

Nothing is decoded and nothing is copied: what comes out are positions. Sequences are passed over.

Source: PS3.5 7.1 (element encodings), 7.5 (sequences), A.4 (encapsulated pixel data).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from mmap import mmap
from typing import NamedTuple

from storage.errors import UnreadableInstance

Buffer = bytes | bytearray | memoryview | mmap

PIXEL_DATA = 0x7FE00010
#: Pixel Data, Float Pixel Data, Double Float Pixel Data.
PIXEL_TAGS = frozenset({PIXEL_DATA, 0x7FE00008, 0x7FE00009})

_UNDEFINED = 0xFFFFFFFF
_ITEM_GROUP = 0xFFFE
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
#: VRs with a two-byte length; all others, unknown ones included, have four (PS3.5 7.1.2).
_SHORT = frozenset(b"AE AS AT CS DA DS DT FL FD IS LO LT PN SH SL SS ST TM UI UL US".split())
_SHORT_NUMBERS = {
    little: frozenset(int.from_bytes(vr, "little" if little else "big") for vr in _SHORT) for little in (True, False)
}
#: Sequences in sequences. No real data set nests deeper; what does is an attack on readers, which recurse.
_DEEPEST = 64
#: Bytes that nesting deeper than that takes at least: a shorter value need not be looked into.
_SHALLOW = _DEEPEST * 16
#: VRs whose values may be sequences; None: Implicit VR tells nothing.
_NESTING = (b"SQ", b"UN", None)
#: The others of the standard with a four-byte length; what is neither is looked at more closely.
_LONG = frozenset(b"OB OD OF OL OV OW SQ SV UC UN UR UT UV".split())


class BeyondBuffer(Exception):
    """The walk needs bytes of the data set that the buffer does not hold."""


class Element(NamedTuple):
    """Where one top-level element stands."""

    tag: int
    vr: bytes | None
    """None in Implicit VR."""
    offset: int
    """Of the value."""
    length: int
    """Bytes of the value; for undefined length with all items and the delimiter."""
    undefined: bool


class Encoding(NamedTuple):
    """How elements are written."""

    implicit: bool
    little: bool


class _Level(NamedTuple):
    """A sequence or an item that is open."""

    in_sequence: bool
    end: int
    undefined: bool
    encoding: Encoding


class _Form(NamedTuple):
    """The numbers of a header in one byte order."""

    head: struct.Struct
    """Group, element, VR, two-byte length."""
    long: struct.Struct
    plain: struct.Struct
    """The same with the VR as a number."""


#: Little endian → how headers are unpacked.
_FORMS = {
    True: _Form(struct.Struct("<HH2sH"), struct.Struct("<I"), struct.Struct("<HHHH")),
    False: _Form(struct.Struct(">HH2sH"), struct.Struct(">I"), struct.Struct(">HHHH")),
}


def scan(  # noqa: C901, PLR0912 (one pass without calls: it runs for every element of every instance)
    buffer: Buffer, total: int, encoding: Encoding, wanted: frozenset[int] | None = None
) -> Iterator[Element]:
    """Walk over the top-level elements, up to and with the pixel data.

    Parameters
    ----------
    buffer
        The beginning of the data set.
    total
        Bytes of the whole data set: no element may end after it.
    wanted
        Tags to be given; None: all. The last element is given in any case.

    Raises
    ------
    UnreadableInstance
        A length leads beyond the end (the transfer was cut short), or the bytes are no data set.
    BeyondBuffer
        The buffer ends before the walk does; try again with more of the data set.
    """
    position, held = 0, len(buffer)
    # The walk stays within this where headers need no further look; beyond, `_header` looks closer.
    plain = min(held, total) - 12
    form = _FORMS[encoding.little]
    unpack_head, unpack_long, unpack_plain = form.head.unpack_from, form.long.unpack_from, form.plain.unpack_from
    short = _SHORT_NUMBERS[encoding.little] if wanted is not None and not encoding.implicit else frozenset()
    shown = PIXEL_TAGS if wanted is None else wanted | PIXEL_TAGS
    while position < total:
        # Most elements are short and not wanted: they are passed over first.
        while short and position <= plain:
            group, element, number, length = unpack_plain(buffer, position)
            end = position + 8 + length
            if number not in short or end >= total or group << 16 | element in shown or group == _ITEM_GROUP:
                break
            position = end
        vr: bytes | None = None
        value = 0
        if position <= plain:
            group, element, vr, length = unpack_head(buffer, position)
            tag = group << 16 | element
            if group == _ITEM_GROUP:
                pass
            elif encoding.implicit:
                vr, value, length = None, position + 8, unpack_long(buffer, position + 4)[0]
            elif vr in _SHORT:
                value = position + 8
            elif vr in _LONG:
                value, length = position + 12, unpack_long(buffer, position + 8)[0]
        if not value:
            tag, vr, length, value = _header(buffer, position, total, encoding)
        if length != _UNDEFINED:
            end = value + length
            if end > total:
                raise UnreadableInstance("The data set is cut short.", tag=f"{tag:08X}")
            if length > _SHALLOW and vr in _NESTING and tag not in PIXEL_TAGS:
                _check_depth(buffer, value, end, _inside(encoding, vr), 0, in_sequence=True)
        else:
            end = _end_of_items(buffer, value, total, encoding, tag, vr)
        if wanted is None or tag in wanted or end >= total or tag in PIXEL_TAGS:
            yield Element(tag, vr, value, end - value, length == _UNDEFINED)
        if tag in PIXEL_TAGS:
            return
        position = end


def _header(buffer: Buffer, position: int, total: int, encoding: Encoding) -> tuple[int, bytes | None, int, int]:
    """Read tag, VR, length and the position of the value."""
    if position + 8 > total:
        raise UnreadableInstance("The data set is cut short.", offset=position)
    if position + 12 > len(buffer) and len(buffer) < total:
        raise BeyondBuffer
    order = "<" if encoding.little else ">"
    group, element = struct.unpack_from(order + "HH", buffer, position)
    tag = group << 16 | element
    vr = None if encoding.implicit or group == 0xFFFE else bytes(buffer[position + 4 : position + 6])
    if vr is None or not vr.isalpha() or not vr.isupper():
        # Items have no VR; some senders also write single implicit elements into explicit data sets.
        return tag, None, struct.unpack_from(order + "I", buffer, position + 4)[0], position + 8
    if vr in _SHORT:
        return tag, vr, struct.unpack_from(order + "H", buffer, position + 6)[0], position + 8
    if position + 12 > total:
        raise UnreadableInstance("The data set is cut short.", offset=position)
    return tag, vr, struct.unpack_from(order + "I", buffer, position + 8)[0], position + 12


def _end_of_items(buffer: Buffer, position: int, total: int, encoding: Encoding, tag: int, vr: bytes | None) -> int:
    """Find the end of a value of undefined length: past its sequence delimiter.

    `levels`: what is open, outermost first: (is a sequence, its encoding). An element of VR UN and undefined
    length holds Implicit VR Little Endian (PS3.5 6.2.2).
    """
    fragments = tag in PIXEL_TAGS
    levels = [(True, _inside(encoding, vr))]
    while levels:
        in_sequence, inner = levels[-1]
        found, found_vr, length, value = _header(buffer, position, total, inner)
        if in_sequence and found == _SEQUENCE_END:
            levels.pop()
            position = value
        elif in_sequence and found == _ITEM and length == _UNDEFINED and not fragments:
            levels.append((False, inner))
            position = value
        elif not in_sequence and found == _ITEM_END:
            levels.pop()
            position = value
        elif in_sequence and found != _ITEM:
            raise UnreadableInstance("A sequence holds something that is no item.", offset=position)
        elif length == _UNDEFINED:
            levels.append((True, _inside(inner, found_vr)))
            position = value
        else:
            position = value + length
            if length > _SHALLOW and position <= total and not fragments and found_vr in _NESTING:
                above = len(levels) // 2
                _check_depth(buffer, value, position, _inside(inner, found_vr), above, in_sequence=found != _ITEM)
        if position > total:
            raise UnreadableInstance("The data set is cut short.", tag=f"{tag:08X}")
        _refuse_deeper(len(levels) // 2)
    return position


def _check_depth(buffer: Buffer, position: int, end: int, encoding: Encoding, above: int, *, in_sequence: bool) -> None:
    """Look how deep sequences of defined length nest in a value; what is no sequence, or a broken one, is not judged.

    `above`: levels around the value. `in_sequence`: it holds items; else it is one.
    """
    levels = [_Level(in_sequence, end, False, encoding)]
    while levels:
        level = levels[-1]
        if position >= level.end:
            levels.pop()
            continue
        if position + 12 > end:
            return  # nothing that nests fits in
        found, vr, length, value = _header(buffer, position, end, level.encoding)
        if level.in_sequence and found not in (_ITEM, _SEQUENCE_END):
            return
        if found == (_SEQUENCE_END if level.in_sequence else _ITEM_END):
            levels.pop()
            position = value if level.undefined else level.end
        elif level.in_sequence or _may_nest(vr, length):
            inner = level.encoding if level.in_sequence else _inside(level.encoding, vr)
            stop, undefined = min(value + length, level.end), length == _UNDEFINED
            levels.append(_Level(not level.in_sequence, stop, undefined, inner))
            position = value
        else:
            position = value + length
        _refuse_deeper(above + len(levels) // 2)


def _may_nest(vr: bytes | None, length: int) -> bool:
    return length == _UNDEFINED or (vr in _NESTING and length >= 8)


def _refuse_deeper(depth: int) -> None:
    if depth > _DEEPEST:
        raise UnreadableInstance(f"The data set nests deeper than {_DEEPEST} levels.")


def _inside(encoding: Encoding, vr: bytes | None) -> Encoding:
    return Encoding(implicit=True, little=True) if vr == b"UN" else encoding
