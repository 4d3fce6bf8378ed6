"""Values of single elements as JSON text, by VR.

Where this differs from pydicom's `to_json_dict`, it does on purpose (read back by a test):

| value | pydicom | here | because |
|---|---|---|---|
| FL, FD that is NaN or infinite | no JSON | "NaN", "inf", "-inf" | JSON has no such numbers |
| empty value among several | "" or an error | null | PS3.18 F.2.5 |
| empty component group of a name | "" | left out | PS3.18 F.2.2: the non-empty ones are named |
| IS with a fraction | cut off | the number | nothing is made up |
| numbers in OW and its kin, big endian source | as stored | little endian | PS3.18 F.2.7 |
| VR that stays ambiguous | "OB or OW" | OW, US, UN | PS3.18 F.2.3 knows no such VR |
| first and third value of a LUT descriptor that is SS | signed within items | unsigned | PS3.3 C.7.6.3.1.5 |
| Pixel Data | inline where short | always by reference | frames have resources of their own |

Source: PS3.18 F.2, PS3.5 6.2.
"""

from __future__ import annotations

import json
import math
import struct
from base64 import b64encode
from collections.abc import Callable, Sequence
from typing import Any

import orjson
from pydicom.charset import decode_bytes
from pydicom.valuerep import TEXT_VR_DELIMS

#: VRs whose values are octets. Source: PS3.18 Table F.2.3-1.
BINARY = frozenset({"OB", "OD", "OF", "OL", "OV", "OW", "UN"})
#: Bytes of one number of each binary VR that has a byte order. Source: PS3.5 7.3.
WORD = {"OW": 2, "OF": 4, "OL": 4, "OD": 8, "OV": 8}
#: LUT Descriptors: the first value is never negative. Source: PS3.3 C.11.1.1.1.
_LUT_DESCRIPTORS = frozenset({0x00281101, 0x00281102, 0x00281103, 0x00283002})
_NUMBERS = {
    "FD": ("d", 8),
    "FL": ("f", 4),
    "SL": ("i", 4),
    "SS": ("h", 2),
    "SV": ("q", 8),
    "UL": ("I", 4),
    "US": ("H", 2),
    "UV": ("Q", 8),
}
_ESCAPE = 0x1B
_PADDING = " \0"


class Unwritable(ValueError):
    """The JSON model cannot hold the value."""


def values_of(vr: str, tag: int, value: bytes, *, little: bool, codecs: Sequence[str]) -> bytes | None:
    """Give the JSON array of an element's values; None where it has none.

    Parameters
    ----------
    vr
        None of the binary ones, no sequence.
    codecs
        Python codecs of the Specific Character Set.

    Raises
    ------
    Unwritable
        The value is broken, or of no VR that JSON knows.
    """
    number = _NUMBERS.get(vr)
    if number is not None:
        return _numbers(number, tag, value, little=little)
    read = _TEXTS.get(vr)
    if read is None:
        raise Unwritable(f"no VR {vr!r}")
    try:
        values = read(value, codecs)
    except (ValueError, LookupError, OverflowError) as error:
        raise Unwritable(str(type(error).__name__)) from error
    if not values:
        return None
    return dumps([None if each in ("", {}) else each for each in values])


def binary(vr: str, value: bytes, *, little: bool) -> bytes:
    """Give octets as a JSON string in base64, numbers in little endian order."""
    return b'"' + b64encode(little_endian(vr, value, little=little)) + b'"'


def little_endian(vr: str, value: bytes, *, little: bool) -> bytes:
    """Give octets with the numbers in them in little endian order."""
    size = WORD.get(vr)
    if little or size is None:
        return value
    whole = len(value) - len(value) % size
    code = {2: "H", 4: "I", 8: "Q"}[size]
    count = whole // size
    return struct.pack(f"<{count}{code}", *struct.unpack(f">{count}{code}", value[:whole])) + value[whole:]


def dumps(value: object) -> bytes:
    """Give JSON text in UTF-8.

    Raises
    ------
    Unwritable
        A letter or number that JSON cannot hold.
    """
    try:
        return orjson.dumps(value)
    except TypeError:  # an integer beyond 64 bits, which JSON can hold
        try:
            return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
        except ValueError as error:
            raise Unwritable("no JSON") from error


def _numbers(number: tuple[str, int], tag: int, value: bytes, *, little: bool) -> bytes | None:
    code, size = number
    if len(value) % size:
        raise Unwritable("length")
    if not value:
        return None
    read: list[Any] = list(struct.unpack(f"{'<' if little else '>'}{len(value) // size}{code}", value))
    if tag in _LUT_DESCRIPTORS and read[0] < 0 and len(read) > 1:
        read[0] += 65536
    return dumps(_finite(read) if code in "df" else read)


def _finite(read: list[Any]) -> list[Any]:
    """Name the numbers that JSON has none for."""
    if all(map(math.isfinite, read)):
        return read
    return [
        each if math.isfinite(each) else "NaN" if math.isnan(each) else "inf" if each > 0 else "-inf" for each in read
    ]


def _decoded(value: bytes, codecs: Sequence[str]) -> str:
    if _ESCAPE not in value:
        return value.decode(codecs[0], "replace")
    return decode_bytes(value, codecs, TEXT_VR_DELIMS)


def _split(text: str) -> list[str]:
    text = text.rstrip(_PADDING)
    return text.split("\\") if text else []


def _code(value: bytes, _: Sequence[str]) -> list[str]:
    return _split(value.decode("latin-1"))


def _uid(value: bytes, _: Sequence[str]) -> list[str]:
    # Some senders pad with spaces, on either side.
    return [each.strip() for each in _split(value.decode("latin-1"))]


def _ae_title(value: bytes, _: Sequence[str]) -> list[str]:
    values = [each.strip() for each in value.decode("latin-1").split("\\")]
    return values if values != [""] else []


def _uri(value: bytes, _: Sequence[str]) -> list[str]:
    text = value.decode("latin-1").rstrip()
    return [text] if text else []


def _several_texts(value: bytes, codecs: Sequence[str]) -> list[str]:
    values = [each.rstrip("\0 ") for each in _decoded(value, codecs).split("\\")]
    return values if values != [""] else []


def _one_text(value: bytes, codecs: Sequence[str]) -> list[str]:
    text = _decoded(value, codecs).rstrip("\0 ")
    return [text] if text else []


def _names(value: bytes, codecs: Sequence[str]) -> list[dict[str, str]]:
    text = _decoded(value.rstrip(b"\0 "), codecs)
    if not text.strip("="):
        return []
    return [_name(each) for each in text.split("\\")]


def _name(text: str) -> dict[str, str]:
    groups = zip(("Alphabetic", "Ideographic", "Phonetic"), text.split("="), strict=False)
    return {name: group for name, group in groups if group}


def _integers(value: bytes, _: Sequence[str]) -> list[int | float | None]:
    return [_integer(each) for each in _split(value.decode("latin-1"))]


def _integer(text: str) -> int | float | None:
    if not text.strip():
        return None
    try:
        return int(text)
    except ValueError:
        number = float(text)
        if not math.isfinite(number):
            raise
        return int(number) if number.is_integer() else number


def _decimals(value: bytes, _: Sequence[str]) -> list[float | str | None]:
    texts = _split(value.decode("latin-1").strip())
    return _finite_or_none([float(each) if each.strip() else None for each in texts])


def _finite_or_none(read: list[float | None]) -> list[float | str | None]:
    if any(each is not None and not math.isfinite(each) for each in read):
        raise ValueError("not finite")
    return list(read)


def _at_tags(value: bytes, order: str) -> list[str]:
    count = len(value) // 4
    words = struct.unpack(f"{order}{2 * count}H", value[: 4 * count])
    return [f"{words[2 * each]:04X}{words[2 * each + 1]:04X}" for each in range(count)]


def tags_of(value: bytes, *, little: bool) -> bytes | None:
    """Give the JSON array of an AT element."""
    tags = _at_tags(value, "<" if little else ">")
    return dumps(tags) if tags else None


_TEXTS: dict[str, Callable[[bytes, Sequence[str]], Sequence[Any]]] = {
    "AE": _ae_title,
    **dict.fromkeys(("AS", "CS", "DA", "DT", "TM"), _code),
    "UI": _uid,
    "DS": _decimals,
    "IS": _integers,
    **dict.fromkeys(("LO", "SH", "UC"), _several_texts),
    **dict.fromkeys(("LT", "ST", "UT"), _one_text),
    "PN": _names,
    "UR": _uri,
}
