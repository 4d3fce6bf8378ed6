"""Which character set the text of an instance is in, whatever its label says.

Labels are misspelt, missing or wrong in the field. The instance is kept as it is; for the index its text is read as
it was most likely meant, and it is noted where that is not what the label says.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from functools import lru_cache

from pydicom.charset import default_encoding, python_encoding

#: Sets that stand alone: never combined with others by code extensions. Source: PS3.3 C.12.1.1.2, Table C.12-5.
_STAND_ALONE = frozenset({"UTF8", "GB18030", "GBK"})
#: Codecs of which one byte is one character, so that bytes which are all valid UTF-8 are hardly meant as theirs.
_SINGLE_BYTE = frozenset(
    {"iso8859", "latin_1", "shift_jis", "cp1252"}
    | {codec for label, codec in python_encoding.items() if re.fullmatch(r"ISO_IR 1[0-6]\d", label)}
)
#: What decodes any bytes.
_LAST_RESORT = "latin_1"


def _bare(label: str) -> str:
    return re.sub(r"[^A-Z0-9]", "", label.upper())


#: Labels without their punctuation, which is where most are misspelt, and names from outside DICOM that are met.
_BY_BARE_LABEL = {_bare(label): codec for label, codec in python_encoding.items()} | {
    "UTF8": "UTF8",
    "UNICODE": "UTF8",
    "ISOIR6": default_encoding,
    "ASCII": default_encoding,
    "ISO88591": "latin_1",
    "LATIN1": "latin_1",
    "ISO885915": "iso8859_15",
    "WINDOWS1252": "cp1252",
    "CP1252": "cp1252",
    "WINDOWS1251": "cp1251",
    "CP1251": "cp1251",
    "SHIFTJIS": "shift_jis",
    "SJIS": "shift_jis",
    "EUCKR": "euc_kr",
    "GB2312": "GBK",
    "ISO2022GB18030": "GB18030",
    "BIG5": "big5",
}


@dataclass(frozen=True)
class TextReading:
    """How the text of one instance is read."""

    codecs: tuple[str, ...]
    """Python codecs, as pydicom takes them."""
    note: str = ""
    """Where the label is not followed: what it says, and what is taken. Without text of the instance."""


def read_as(label: bytes, texts: Collection[bytes]) -> TextReading:
    """Choose how text is read.

    Parameters
    ----------
    label
        Value of Specific Character Set.
    texts
        Values of the attributes that follow it.

    Source: PS3.3 C.12.1.1.2 (Specific Character Set), PS3.5 6.1.
    """
    said = label.decode("ascii", "replace").strip("\0 ")
    declared, sound = _declared(said)
    foreign = [text for text in texts if not text.isascii()]
    if foreign and _SINGLE_BYTE.issuperset(declared) and _decodes(foreign, "UTF8"):
        return TextReading(("UTF8",), _note(said, "UTF-8"))
    if len(declared) == 1 and foreign and (declared[0] == default_encoding or not _decodes(foreign, declared[0])):
        return TextReading((_LAST_RESORT,), _note(said, "ISO 8859-1"))
    return TextReading(declared, "" if sound else _note(said, ", ".join(declared)))


@lru_cache(maxsize=256)
def _declared(said: str) -> tuple[tuple[str, ...], bool]:
    """Give the codecs that a label means, and whether it is written as the standard has it."""
    labels = [each.strip("\0 ") for each in said.split("\\")]
    sound = all(each in python_encoding for each in labels)
    codecs = [python_encoding.get(each) or _BY_BARE_LABEL.get(_bare(each)) or default_encoding for each in labels]
    if codecs[0] in _STAND_ALONE:
        return (codecs[0],), sound and len(codecs) == 1
    combined = tuple(codec for codec in codecs if codec not in _STAND_ALONE)
    return combined, sound and len(combined) == len(codecs)


def _decodes(texts: Iterable[bytes], codec: str) -> bool:
    try:
        for text in texts:
            text.decode(codec)
    except UnicodeDecodeError:
        return False
    return True


def _note(said: str, taken: str) -> str:
    shown = re.sub(r"[^ -~]", "?", said)[:64]
    return f"Specific Character Set says {shown!r}, the text is read as {taken}."
