"""Answers in DICOM JSON, as the bytes of an identifier, in a character set that the requester can read.

pydicom takes about a millisecond to write one answer; a query may have thousands.

Source: PS3.5 6.1, 6.2 and 7.1 (encodings), PS3.3 C.12.1.1.2 (character sets), PS3.18 Annex F (DICOM JSON).
"""

from __future__ import annotations

import base64
import struct
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydicom.charset import convert_encodings, decode_bytes, encode_string, python_encoding
from pydicom.uid import ExplicitVRBigEndian, ImplicitVRLittleEndian
from pydicom.valuerep import format_number_as_ds

#: An element of DICOM JSON: `vr`, and `Value` or `InlineBinary` where there is one.
Elements = Mapping[int, Mapping[str, Any]]

UTF_8 = ("ISO_IR 192",)
LATIN_1 = ("ISO_IR 100",)
_SPECIFIC_CHARACTER_SET = 0x00080005

#: Value representations whose text follows Specific Character Set. Source: PS3.5 6.1.2.2.
_TEXT = frozenset({"LO", "LT", "PN", "SH", "ST", "UC", "UT"})
#: Those whose values a backslash does not part. Source: PS3.5 Table 6.2-1.
_NUMBERS = {"US": "H", "SS": "h", "UL": "L", "SL": "l", "FL": "f", "FD": "d", "UV": "Q", "SV": "q"}
_BINARY = frozenset({"OB", "OD", "OF", "OL", "OV", "OW", "UN"})
#: Explicit VR with a four-byte length. Source: PS3.5 7.1.2.
_LONG = _BINARY | {"SQ", "SV", "UC", "UR", "UT", "UV"}
_GROUPS = ("Alphabetic", "Ideographic", "Phonetic")


@dataclass(frozen=True)
class Form:
    """How a data set is written: by its transfer syntax."""

    implicit: bool
    order: str

    @classmethod
    def of(cls, transfer_syntax_uid: str) -> Form:
        """Give the form of an uncompressed transfer syntax."""
        order = ">" if transfer_syntax_uid == ExplicitVRBigEndian else "<"
        return cls(transfer_syntax_uid == ImplicitVRLittleEndian, order)


def encode_identifier(elements: Elements, form: Form, requested: Sequence[str]) -> bytes:
    """Encode one answer.

    Parameters
    ----------
    requested
        Specific Character Set of the request: kept where every text fits. Otherwise ISO_IR 100, which those who
        name none can mostly read, and ISO_IR 192, which can hold anything.
    """
    labels, encode = choose_character_set(requested, list(_texts(elements)))
    whole = {tag: element for tag, element in elements.items() if tag != _SPECIFIC_CHARACTER_SET}
    if labels:
        whole[_SPECIFIC_CHARACTER_SET] = {"vr": "CS", "Value": list(labels)}
    return _data_set(whole, form, encode)


def choose_character_set(
    requested: Sequence[str], texts: Sequence[str]
) -> tuple[tuple[str, ...], Callable[[str], bytes]]:
    """Give the labels of the set to answer in, and how text is encoded in it; nothing is ever lost."""
    if all(text.isascii() for text in texts):
        return (), lambda text: text.encode("ascii", "replace")
    for labels in (tuple(requested), LATIN_1):
        encode = _encoder(labels)
        if encode is not None and all(_survives(text, labels, encode) for text in texts):
            return labels, encode
    return UTF_8, lambda text: text.encode("utf-8")


def _encoder(labels: tuple[str, ...]) -> Callable[[str], bytes] | None:
    if not labels or any(label and label not in python_encoding for label in labels):
        return None
    codecs = convert_encodings(list(labels))

    def encode(text: str) -> bytes:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what does not fit is found by reading it back
            return bytes(encode_string(text, codecs))

    return encode


def _survives(text: str, labels: tuple[str, ...], encode: Callable[[str], bytes]) -> bool:
    if text.isascii():
        return True
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return decode_bytes(encode(text), convert_encodings(list(labels)), set(b"\\^=")) == text


def _texts(elements: Elements) -> Iterator[str]:
    for element in elements.values():
        for value in element.get("Value") or ():
            if isinstance(value, str):
                yield value
            elif element["vr"] == "PN" and isinstance(value, Mapping):
                yield from (str(part) for part in value.values())
            elif element["vr"] == "SQ" and isinstance(value, Mapping):
                yield from _texts(_by_tag(value))


def _by_tag(item: Mapping[str, Any]) -> Elements:
    return {int(name, 16): element for name, element in item.items()}


def _data_set(elements: Elements, form: Form, encode: Callable[[str], bytes]) -> bytes:
    encoded = bytearray()
    for tag in sorted(elements):
        vr = str(elements[tag]["vr"])
        encoded += _element(tag, vr, _value(vr, elements[tag], form, encode), form)
    return bytes(encoded)


def _element(tag: int, vr: str, value: bytes, form: Form) -> bytes:
    if len(value) % 2:
        value += b"\0" if vr == "UI" or vr in _BINARY else b" "
    head = struct.pack(form.order + "HH", tag >> 16, tag & 0xFFFF)
    if form.implicit:
        return head + struct.pack(form.order + "L", len(value)) + value
    if vr in _LONG or len(value) > 0xFFFF:
        # A value too long for its VR's length is written as UN. Source: PS3.5 6.2.2 note 7.
        written = vr if vr in _LONG else "UN"
        return head + written.encode("ascii") + struct.pack(form.order + "HL", 0, len(value)) + value
    return head + vr.encode("ascii") + struct.pack(form.order + "H", len(value)) + value


def _value(vr: str, element: Mapping[str, Any], form: Form, encode: Callable[[str], bytes]) -> bytes:
    if "InlineBinary" in element:
        return base64.b64decode(element["InlineBinary"])
    values = element.get("Value") or ()
    if vr == "SQ":
        return b"".join(_item(_data_set(_by_tag(item), form, encode), form) for item in values)
    if vr in _NUMBERS:
        return struct.pack(f"{form.order}{len(values)}{_NUMBERS[vr]}", *values)
    if vr == "AT":
        return b"".join(struct.pack(form.order + "HH", int(tag[:4], 16), int(tag[4:], 16)) for tag in values)
    if vr == "PN":
        return b"\\".join(_person(value or {}, encode) for value in values)
    return b"\\".join(encode(_plain(vr, value)) for value in values)


def _item(content: bytes, form: Form) -> bytes:
    return struct.pack(form.order + "HHL", 0xFFFE, 0xE000, len(content)) + content


def _person(value: Mapping[str, str], encode: Callable[[str], bytes]) -> bytes:
    groups = [encode(value.get(group, "")) for group in _GROUPS]
    while groups and not groups[-1]:
        groups.pop()
    return b"=".join(groups)


def _plain(vr: str, value: object) -> str:
    if value is None:
        return ""
    text = str(value)
    if vr == "DS" and isinstance(value, float) and len(text) > 16:
        return str(format_number_as_ds(value))
    return text
