"""The walk over an encoded data set that writes it as DICOM JSON.

Every length is checked before it is believed; what the model cannot hold is left out and logged by its tag.

Source: PS3.18 Annex F; PS3.5 7.1, 7.5.
"""

from __future__ import annotations

import logging
import struct
import warnings
from dataclasses import dataclass, field
from mmap import mmap

from pydicom.charset import convert_encodings

from storage.json_values import BINARY, Unwritable, binary, tags_of, values_of
from storage.json_vr import LUT_DATA, WAVEFORM, is_ambiguous, lookup_vr
from storage.scan import PIXEL_DATA, PIXEL_TAGS, Encoding

log = logging.getLogger(__name__)

#: Values longer than this are given by reference, bytes.
INLINE_AT_MOST = 1024

_UNDEFINED = 0xFFFFFFFF
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_CHARACTER_SET, _BITS_ALLOCATED, _PIXEL_REPRESENTATION = 0x00080005, 0x00280100, 0x00280103
_WAVEFORM_BITS, _LUT_DESCRIPTOR = 0x54001004, 0x00283002
#: What elements after them depend on: these are read anew each time.
_DECIDING = frozenset({_CHARACTER_SET, _BITS_ALLOCATED, _PIXEL_REPRESENTATION, _WAVEFORM_BITS, _LUT_DESCRIPTOR})
_SHORT = frozenset(b"AE AS AT CS DA DS DT FL FD IS LO LT PN SH SL SS ST TM UI UL US".split())
_LONG = frozenset(b"OB OD OF OL OV OW SQ SV UC UN UR UT UV".split())
#: No real data set nests deeper; what does is an attack on readers.
_DEEPEST = 64
#: Fragments of one encapsulated value that are passed over at most.
_MOST_FRAGMENTS = 1 << 20
#: JSON of one data set, bytes; what goes beyond is left out.
LONGEST_JSON = 64 << 20
#: Room that an element takes at least, written or not: it bounds how many are looked at.
_ELEMENT_ROOM = 16
#: Elements of one data set that are left out before the rest is.
_MOST_LEFT_OUT = 200
_LOGGED_LEFT_OUT = 20
_REMEMBERED_LENGTH = 512
_REMEMBERED_ELEMENTS = 20_000
_DEFAULT_CODECS = ("iso8859",)


class _Broken(ValueError):
    """The encoding itself is broken: what follows cannot be found."""


@dataclass
class Level:
    """One data set: the top level or an item."""

    encoding: Encoding
    codecs: tuple[str, ...] = _DEFAULT_CODECS
    pixel_representation: int | None = None
    path: str = ""
    """Way to it in the names of bulk data, such as `00081140/1/`."""
    depth: int = 0
    creators: dict[int, str] = field(default_factory=dict)
    """Private creators by the upper 24 bits of the tags they reserve."""
    numbers: dict[int, int] = field(default_factory=dict)
    """First values of elements that decide on the VR of others."""

    def item(self, tag: int, number: int, encoding: Encoding) -> Level:
        """Give the level of an item of a sequence in this data set."""
        path = f"{self.path}{tag:08X}/{number}/"
        return Level(encoding, self.codecs, self.pixel_representation, path, self.depth + 1)


class Memory:
    """Elements as they were written before, by their bytes and what else they depend on."""

    def __init__(self) -> None:
        self._known: dict[tuple[Encoding, tuple[str, ...], int | None], dict[bytes, bytes]] = {}
        self._count = 0

    def of(self, level: Level) -> dict[bytes, bytes]:
        """Give the elements known in a context like this."""
        return self._known.setdefault((level.encoding, level.codecs, level.pixel_representation), {})

    def note(self, known: dict[bytes, bytes], element: bytes, content: bytes) -> None:
        """Remember what an element came to."""
        if self._count >= _REMEMBERED_ELEMENTS:
            for each in self._known.values():
                each.clear()
            self._count = 0
        known[element] = content
        self._count += 1


class Walk:
    """One data set being written."""

    def __init__(self, memory: Memory, buffer: bytes | mmap, bulk_base: bytes) -> None:
        self._memory = memory
        self._buffer = buffer
        self._bulk_base = bulk_base
        self._room = LONGEST_JSON
        self._left_out = 0
        self._counted_unsigned = False
        """A value came to be unsigned before anything said so."""

    def top_level(self, begin: int, end: int, encoding: Encoding) -> dict[int, bytes]:
        """Give the members of the data set's JSON object by tag."""
        elements: dict[int, bytes] = {}
        level = Level(encoding)
        try:
            self._data_set(begin, end, level, elements)
            if self._counted_unsigned and level.pixel_representation:
                # An item before Pixel Representation held a value whose sign depends on it.
                elements.clear()
                self._room, self._left_out = LONGEST_JSON, 0
                known = Level(encoding, pixel_representation=level.pixel_representation)
                self._data_set(begin, end, known, elements)
        except _Broken as error:
            self._left_out = 0  # this one is told in any case
            self._leave_out(max(elements, default=0), "all after this tag", error)
        return elements

    def _data_set(self, position: int, end: int, level: Level, elements: dict[int, bytes]) -> int:  # noqa: C901, PLR0912, PLR0915
        """Write the elements up to `end` or an item's delimiter; give where they end.

        One loop, because a call for each element would take longer than all else.
        """
        buffer, memory = self._buffer, self._memory
        known = memory.of(level)
        order = "<" if level.encoding.little else ">"
        head, four = struct.Struct(order + "HH2sH").unpack_from, struct.Struct(order + "I").unpack_from
        implicit = level.encoding.implicit
        while position + 8 <= end:
            group, number, vr, length = head(buffer, position)
            value = position + 8
            if implicit or group == 0xFFFE or (vr not in _SHORT and _is_implicit_or_long(vr)):
                if implicit or vr not in _LONG:
                    vr, length = None, four(buffer, position + 4)[0]
                else:
                    if value + 4 > end:
                        raise _Broken("cut short")
                    length = four(buffer, value)[0]
                    value += 4
            following = value + length
            if length <= _REMEMBERED_LENGTH and following <= end:
                element = buffer[position:following]
                content = known.get(element)
                if content is not None:
                    elements[group << 16 | number] = content
                    self._room -= len(content)
                    if self._room < 0:
                        raise _Broken("too long")
                    if number < 0x100 and group & 1:
                        self._take_note(group << 16 | number, buffer[value:following], level)
                    position = following
                    continue
            tag = group << 16 | number
            if group == 0xFFFE:
                if tag == _ITEM_END:
                    return value
                raise _Broken("an item where none belongs")
            if length == _UNDEFINED:
                content, following = self._undefined(tag, vr, value, end, level)
            elif following > end:
                raise _Broken("cut short")
            else:
                content, lasting = self._defined(tag, vr, value, length, level)
                lasting = lasting and not (self._counted_unsigned and level.pixel_representation is None)
                if content is not None and lasting and length <= _REMEMBERED_LENGTH:
                    memory.note(known, element, content)
                if tag in _DECIDING:
                    known = memory.of(level)
            self._room -= _ELEMENT_ROOM
            if content is not None:
                elements[tag] = content
                self._room -= len(content)
            if self._room < 0:
                raise _Broken("too long")
            position = following
        return position

    def _defined(
        self, tag: int, vr: bytes | None, position: int, length: int, level: Level
    ) -> tuple[bytes | None, bool]:
        """Write one element of known length; tell whether its bytes alone decide on what it comes to."""
        if not tag & 0xFFFF or tag >> 16 == 2:
            return None, False  # group lengths and File Meta are no part of it
        given = vr.decode("ascii", "replace") if vr is not None else None
        name = given
        lasting = tag not in _DECIDING
        if given is None or given == "UN":
            lasting = lasting and (not tag >> 16 & 1 or tag & 0xFFFF < 0x100)
            name = lookup_vr(tag, given, length, level.creators)
        name = name or "UN"
        if is_ambiguous(name):
            lasting = lasting and name == "US or SS"
            self._counted_unsigned |= name == "US or SS" and level.pixel_representation is None
            name = _settled(tag, name, level)
        try:
            content = self._content(tag, name, position, length, level, given)
        except (Unwritable, _Broken) as error:
            self._leave_out(tag, level.path, error)
            return None, False
        if tag in _DECIDING or (tag >> 16 & 1 and 0x10 <= tag & 0xFFFF <= 0xFF):
            self._take_note(tag, self._buffer[position : position + length], level)
        return b'"%08X":{"vr":"%b"%b}' % (tag, name.encode("latin-1"), content), lasting

    def _content(self, tag: int, vr: str, position: int, length: int, level: Level, given: str | None) -> bytes:
        """Give what stands beside the VR: a comma and Value, InlineBinary or BulkDataURI; nothing for no value."""
        if not length:
            return b""
        if vr == "SQ":
            # What is named UN holds Implicit VR Little Endian, whatever stands around it (PS3.5 6.2.2).
            encoding = Encoding(implicit=True, little=True) if given == "UN" else level.encoding
            return self._sequence(tag, position, position + length, level, encoding)[0]
        if tag in PIXEL_TAGS or (vr in BINARY and length > INLINE_AT_MOST):
            return self._by_reference(tag, level)
        value = bytes(self._buffer[position : position + length])
        little = level.encoding.little
        if vr in BINARY:
            return b',"InlineBinary":' + binary(vr, value, little=little)
        if vr == "AT":
            values = tags_of(value, little=little)
        else:
            values = values_of(vr, tag, value, little=little, codecs=level.codecs)
        return b"" if values is None else b',"Value":' + values

    def _by_reference(self, tag: int, level: Level) -> bytes:
        return b',"BulkDataURI":"%b%b%08X"' % (self._bulk_base, level.path.encode("ascii"), tag)

    def _undefined(self, tag: int, vr: bytes | None, position: int, end: int, level: Level) -> tuple[bytes | None, int]:
        """Write one element of undefined length; give where it ends."""
        encoding, name = level.encoding, vr.decode("ascii", "replace") if vr is not None else ""
        if tag in PIXEL_TAGS:
            following = self._pass_items(position, end)
            return b'"%08X":{"vr":"%b"%b}' % (tag, vr or b"OB", self._by_reference(tag, level)), following
        if name == "UN":
            encoding = Encoding(implicit=True, little=True)
        if name not in ("SQ", "UN", ""):
            following = self._pass_items(position, end)
            return b'"%08X":{"vr":"%b"%b}' % (tag, name.encode("latin-1"), self._by_reference(tag, level)), following
        content, following = self._sequence(tag, position, end, level, encoding, delimited=True)
        return b'"%08X":{"vr":"SQ"%b}' % (tag, content), following

    def _sequence(
        self, tag: int, position: int, end: int, level: Level, encoding: Encoding, *, delimited: bool = False
    ) -> tuple[bytes, int]:
        """Write the items of a sequence; give where it ends."""
        if level.depth >= _DEEPEST:
            raise _Broken(f"more than {_DEEPEST} levels")
        head = struct.Struct("<HHI" if encoding.little else ">HHI").unpack_from
        items: list[bytes] = []
        while position < end:
            if position + 8 > end:
                raise _Broken("cut short")
            group, number, length = head(self._buffer, position)
            found = group << 16 | number
            position += 8
            if found == _SEQUENCE_END:
                delimited = False
                break
            if found != _ITEM:
                raise _Broken("something that is no item")
            elements: dict[int, bytes] = {}
            item = level.item(tag, len(items) + 1, encoding)
            if length == _UNDEFINED:
                position = self._data_set(position, end, item, elements)
            elif position + length > end:
                raise _Broken("cut short")
            else:
                item.encoding = self._encoding_in(position, position + length, encoding)
                self._data_set(position, position + length, item, elements)
                position += length
            items.append(join(elements))
        if delimited:
            raise _Broken("cut short")
        return (b',"Value":[' + b",".join(items) + b"]" if items else b""), position

    def _encoding_in(self, position: int, end: int, encoding: Encoding) -> Encoding:
        """Give the encoding of an item: some senders write Explicit VR where Implicit belongs."""
        if not encoding.implicit or position + 8 > end:
            return encoding
        length = struct.unpack_from("<I" if encoding.little else ">I", self._buffer, position + 4)[0]
        vr = self._buffer[position + 4 : position + 6]
        if position + 8 + length > end and length != _UNDEFINED and (vr in _SHORT or vr in _LONG):
            return encoding._replace(implicit=False)
        return encoding

    def _pass_items(self, position: int, end: int) -> int:
        """Find the end of a value in fragments: past its delimiter."""
        for _ in range(_MOST_FRAGMENTS):
            if position + 8 > end:
                break
            group, number, length = struct.unpack_from("<HHI", self._buffer, position)
            position += 8
            if group << 16 | number == _SEQUENCE_END:
                return position
            if group << 16 | number != _ITEM or length == _UNDEFINED:
                break
            position += length
        raise _Broken("fragments that cannot be told apart")

    def _take_note(self, tag: int, value: bytes, level: Level) -> None:
        """Note what elements after this one depend on."""
        if tag == _CHARACTER_SET:
            level.codecs = _codecs(bytes(value))
        elif tag not in _DECIDING:
            creator = bytes(value).decode(level.codecs[0], "replace").rstrip("\0 ")
            level.creators[tag >> 16 << 8 | tag & 0xFF] = creator
        elif len(value) >= 2:
            level.numbers[tag] = struct.unpack_from("<H" if level.encoding.little else ">H", value)[0]
            if tag == _PIXEL_REPRESENTATION:
                level.pixel_representation = level.numbers[tag]

    def _leave_out(self, tag: int, where: str, error: ValueError) -> None:
        self._left_out += 1
        if self._left_out > _MOST_LEFT_OUT:
            raise _Broken("too many values that JSON cannot hold")
        if self._left_out > _LOGGED_LEFT_OUT:
            return
        log.warning(
            "attribute left out of DICOM JSON",
            extra={"action": "json_left_out", "tag": f"{tag:08X}", "where": where, "why": str(error)},
        )


def join(elements: dict[int, bytes]) -> bytes:
    """Give a JSON object of its members, in the order of their tags."""
    return b"{" + b",".join([elements[tag] for tag in sorted(elements)]) + b"}"


def _is_implicit_or_long(vr: bytes) -> bool:
    """Tell an element with a four-byte length or without a VR from one of an unknown VR, whose length has two."""
    return vr in _LONG or not (vr.isalpha() and vr.isupper())


def _settled(tag: int, vr: str, level: Level) -> str:
    """Choose among the VRs of an ambiguous element, as what stands before it says."""
    if vr == "US or SS":
        return "SS" if level.pixel_representation else "US"
    if tag == LUT_DATA:
        return "US" if level.numbers.get(_LUT_DESCRIPTOR) == 1 else "OW"
    if not level.encoding.implicit:
        deciding = _BITS_ALLOCATED if tag == PIXEL_DATA else _WAVEFORM_BITS if tag in WAVEFORM else None
        if deciding is not None and level.numbers.get(deciding, 16) <= 8:
            return "OB"
    return "OW"


def _codecs(value: bytes) -> tuple[str, ...]:
    """Give the Python codecs of a Specific Character Set; a label that nobody knows counts as the default."""
    labels = value.decode("latin-1").rstrip("\0 ").split("\\")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return tuple(convert_encodings(labels)) or _DEFAULT_CODECS
    except (LookupError, ValueError):
        return _DEFAULT_CODECS
