"""Values of attributes as senders usually write them, decoded without pydicom: the same, thirty times faster.

Whatever is unusual is not decoded here; the caller asks pydicom then. A test compares the two.

Source: PS3.5 6.2 (value representations), 6.1.2 (character sets), PS3.18 F.2 (DICOM JSON).
"""

from __future__ import annotations

import json
import re
import struct
import unicodedata
from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

from storage.scan import Encoding

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
#: Bytes of a value that is worth remembering.
_LONGEST_REMEMBERED = 128
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
    json: str
    """Of the DICOM JSON model, as text."""


def decode(vr: bytes, raw: RawValue, codec: str, encoding: Encoding) -> Decoded | None:
    """Decode a value; None: it is unusual.

    Parameters
    ----------
    vr
        As the dictionary has it; a value that says otherwise is unusual.
    codec
        Python codec of text without code extensions.
    """
    if raw.undefined or (raw.vr is not None and raw.vr != vr):
        return None
    if len(raw.content) > _LONGEST_REMEMBERED:
        return _decode(vr, raw.content, codec, encoding.little)
    return _remembered(vr, raw.content, codec, encoding.little)


def _decode(vr: bytes, content: bytes, codec: str, little: bool) -> Decoded | None:
    decoder = _DECODERS.get(vr)
    return decoder(vr, content, codec, little) if decoder is not None else None


#: The instances of a series share most of their values.
_remembered = lru_cache(maxsize=4096)(_decode)


def _code_string(vr: bytes, content: bytes, _codec: str, _little: bool) -> Decoded | None:
    if not content.isascii() or _ESCAPE in content:
        return None
    whole = content.decode("ascii").rstrip(" \0")
    return _several(vr, whole.split("\\"))


def _uid(vr: bytes, content: bytes, _codec: str, _little: bool) -> Decoded | None:
    return _several(vr, [content.decode("ascii").rstrip(" \0")]) if _NAME.fullmatch(content) else None


def _texts(vr: bytes, content: bytes, codec: str, _little: bool) -> Decoded | None:
    text = _text(content, codec)
    return _several(vr, [part.rstrip("\0 ") for part in text.split("\\")]) if text is not None else None


def _integer(vr: bytes, content: bytes, _codec: str, _little: bool) -> Decoded | None:
    if not _INTEGER.fullmatch(content):
        return None
    text = content.decode("ascii").strip("\0 ")
    return _shown(text, vr, [int(text)])


def _short(vr: bytes, content: bytes, _codec: str, little: bool) -> Decoded | None:
    if len(content) != 2:
        return None
    (number,) = _US[little].unpack(content)
    return _shown(str(number), vr, [number])


def _text(content: bytes, codec: str) -> str | None:
    if codec not in _CODECS or _ESCAPE in content:
        return None
    try:
        return content.decode(codec)
    except UnicodeDecodeError:
        return None


def _normal(text: str) -> str:
    """Give text in normal form C: matching must not tell a letter with its accent from the two in one."""
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def _several(vr: bytes, parts: list[str]) -> Decoded | None:
    if any("\0" in part for part in parts):
        return None
    written = parts if all(map(str.isascii, parts)) else [_normal(part) for part in parts]
    text = _normal("\\".join(part.strip() for part in parts)).strip()
    return _shown(text, vr, [] if parts == [""] else written)


def _shown(text: str, vr: bytes, values: list[Any]) -> Decoded:
    element: dict[str, Any] = {"vr": vr.decode("ascii")}
    if values:
        element["Value"] = values
    return Decoded(text, json.dumps(element, ensure_ascii=False, separators=(",", ":")))


def _person_name(vr: bytes, content: bytes, codec: str, _little: bool) -> Decoded | None:
    text = _text(content, codec)
    if text is None or "\\" in text:
        return None
    whole = text.rstrip("\0 ")
    groups = whole.split("=")
    while groups and not groups[-1]:
        groups.pop()
    if not groups:
        return _shown("", vr, [])
    if len(groups) > len(_PERSON_NAME) or "\0" in whole:
        return None
    value = {name: _normal(group) for name, group in zip(_PERSON_NAME, groups, strict=False)}
    return _shown(_normal("=".join(groups).strip()).strip(), vr, [value])


#: VR → what decodes its usual values.
_DECODERS: dict[bytes, Callable[[bytes, bytes, str, bool], Decoded | None]] = {
    **dict.fromkeys((b"AS", b"CS", b"DA", b"TM"), _code_string),
    b"UI": _uid,
    b"LO": _texts,
    b"SH": _texts,
    b"PN": _person_name,
    b"IS": _integer,
    b"US": _short,
}
