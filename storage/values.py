"""Values of attributes as senders usually write them, decoded without pydicom: the same, thirty times faster.

Whatever is unusual is not decoded here; the caller asks pydicom then. A test compares the two.

Source: PS3.5 6.2 (value representations), 6.1.2 (character sets), PS3.18 F.2 (DICOM JSON).
"""

from __future__ import annotations

import re
import struct
from typing import Any, NamedTuple

from storage.scan import Encoding

#: VRs of the default repertoire alone.
_CODE_STRINGS = frozenset({b"AS", b"CS", b"DA", b"TM"})
#: VRs in the Specific Character Set, several values parted by a backslash.
_TEXTS = frozenset({b"LO", b"SH"})
_INTEGER = re.compile(rb" *[+-]?[0-9]{1,12} *\0?")
_NAME = re.compile(rb"[0-9.]*[\0 ]*")
_US = {True: struct.Struct("<H"), False: struct.Struct(">H")}
_ESCAPE = 0x1B
#: Python codecs whose text is the same whoever decodes it.
_CODECS = frozenset(
    {
        *("iso8859", "latin_1", "iso8859_2", "iso8859_3", "iso8859_4", "UTF8", "GB18030", "GBK"),
        *("iso_ir_126", "iso_ir_127", "iso_ir_138", "iso_ir_144", "iso_ir_148", "iso_ir_166"),
    }
)
_PERSON_NAME = ("Alphabetic", "Ideographic", "Phonetic")


class RawValue(NamedTuple):
    """One value as encoded."""

    vr: bytes | None
    """None in Implicit VR."""
    content: bytes
    undefined: bool
    """Its length was undefined: it is a sequence, with its delimiter."""


class Decoded(NamedTuple):
    """One attribute, in both forms that the index holds."""

    text: str
    """Several values joined by a backslash; each without padding."""
    json: dict[str, Any] | None
    """Of the DICOM JSON model; None: there is nothing to be written."""


def decode(vr: bytes, raw: RawValue, codec: str, encoding: Encoding) -> Decoded | None:
    """Decode a value; None: it is unusual.

    Parameters
    ----------
    vr
        As the dictionary has it; a value that says otherwise is unusual.
    codec
        Python codec of text without code extensions.
    """
    if raw.vr not in (None, vr) or raw.undefined:
        return None
    content = raw.content
    if vr in _CODE_STRINGS or (vr == b"UI" and _NAME.fullmatch(content)):
        return _strings(vr, content.decode("ascii")) if content.isascii() else None
    if vr in _TEXTS or vr == b"PN":
        text = _text(content, codec)
        if text is None:
            return None
        return _person_name(text) if vr == b"PN" else _texts(vr, text)
    if vr == b"IS" and _INTEGER.fullmatch(content):
        return _number(vr, int(content.rstrip(b"\0 ")), content)
    if vr == b"US" and len(content) == 2:
        return _number(vr, _US[encoding.little].unpack(content)[0], None)
    return None


def _text(content: bytes, codec: str) -> str | None:
    if codec not in _CODECS or _ESCAPE in content:
        return None
    try:
        return content.decode(codec)
    except UnicodeDecodeError:
        return None


def _strings(vr: bytes, text: str) -> Decoded:
    whole = text.rstrip(" \0")
    return _several(vr, whole.split("\\") if "\\" in whole else [whole])


def _texts(vr: bytes, text: str) -> Decoded:
    return _several(vr, [part.rstrip("\0 ") for part in text.split("\\")])


def _several(vr: bytes, parts: list[str]) -> Decoded:
    if any("\0" in part for part in parts):
        parts = [part.replace("\0", "") for part in parts]
        if len(parts) == 1 and not parts[0]:
            return Decoded("", {"vr": vr.decode("ascii"), "Value": [""]})
    shown = {"vr": vr.decode("ascii")} if parts == [""] else {"vr": vr.decode("ascii"), "Value": parts}
    return Decoded("\\".join(part.strip() for part in parts), shown)


def _person_name(text: str) -> Decoded | None:
    whole = text.rstrip("\0 ")
    if "\\" in whole or "\0" in whole:
        return None
    groups = whole.split("=")
    while groups and not groups[-1]:
        groups.pop()
    if not groups:
        return Decoded("", {"vr": "PN"})
    if len(groups) > len(_PERSON_NAME):
        return None
    value = dict(zip(_PERSON_NAME, groups, strict=False))
    return Decoded("=".join(groups).strip(), {"vr": "PN", "Value": [value]})


def _number(vr: bytes, number: int, content: bytes | None) -> Decoded:
    text = str(number) if content is None else content.decode("ascii").strip("\0 ")
    return Decoded(text, {"vr": vr.decode("ascii"), "Value": [number]})
