"""Which character set an object is written in: no text is ever damaged.

pydicom (like highdicom on top of it) writes `?` for what the declared set cannot hold, with no more than
a warning. So the set is chosen before anything is written, from every string of the object.
"""

from __future__ import annotations

import unicodedata
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

from pydicom import DataElement, Dataset
from pydicom.charset import convert_encodings, decode_bytes, encode_string
from pydicom.dataelem import RawDataElement
from pydicom.valuerep import PersonName

#: Value representations whose text follows Specific Character Set. Source: PS3.5 6.1.2.2.
TEXT_VRS = frozenset({"LO", "LT", "PN", "SH", "ST", "UC", "UT"})

UTF_8 = ("ISO_IR 192",)

#: Single-byte sets without code extensions, as Python knows them. Source: PS3.3 C.12.1.1.2 table C.12-2.
SINGLE_BYTE = {
    "ISO_IR 100": "iso8859_1",
    "ISO_IR 101": "iso8859_2",
    "ISO_IR 109": "iso8859_3",
    "ISO_IR 110": "iso8859_4",
    "ISO_IR 126": "iso8859_7",
    "ISO_IR 127": "iso8859_6",
    "ISO_IR 138": "iso8859_8",
    "ISO_IR 144": "iso8859_5",
    "ISO_IR 148": "iso8859_9",
    "ISO_IR 166": "tis_620",
}

#: How our own sentences are written where only ASCII can be.
_ASCII = {
    "\u2264": "<=",
    "\u2265": ">=",
    "\u00b1": "+/-",
    "\u00d7": "x",
    "\u00b5": "u",
    "\u03bc": "u",
    "\u00b2": "2",
    "\u00b3": "3",
    "\u00b0": " deg",
    "\u2010": "-",
    "\u2011": "-",
    "\u2012": "-",
    "\u2013": "-",
    "\u2014": "-",
    "\u2018": "'",
    "\u2019": "'",
    "\u201c": '"',
    "\u201d": '"',
    "\u2026": "...",
    "\u00a0": " ",
    "\u2192": "->",
}


@contextmanager
def quietly() -> Iterator[None]:
    """Read and write values of a source that pydicom would warn of: they are not ours to correct."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def declared_sets(dataset: Dataset) -> tuple[str, ...]:
    """Values of Specific Character Set (0008,0005); empty: the default repertoire."""
    value = dataset.get("SpecificCharacterSet")
    if value is None:
        return ()
    values = (value,) if isinstance(value, str) else tuple(str(item) for item in value)
    stripped = tuple(item.strip() for item in values)
    return stripped if any(stripped) else ()


def choose(declared: Sequence[str], *, copied: Iterable[str], generated: Iterable[str]) -> tuple[str, ...]:
    """Choose the character set of an object.

    The source's own set is kept only if every string can be written in it and reads back equal; else the
    object is written in UTF-8. Sets with code extensions and multi-byte sets are kept for the sake of
    copied strings alone: text of ours that is not ASCII goes with UTF-8, which every reader splits rightly.

    Parameters
    ----------
    declared
        Specific Character Set of the source.
    copied
        Decoded strings taken from the source.
    generated
        Strings of our own.
    """
    if tuple(declared) == UTF_8:
        return UTF_8
    if all(text.isascii() for text in generated) and all(text.isascii() for text in copied):
        return tuple(declared) if not declared or is_readable(declared) else UTF_8
    if not declared:
        return UTF_8
    if len(declared) == 1 and declared[0] in SINGLE_BYTE:
        codec = SINGLE_BYTE[declared[0]]
        fits = all(_fits(text, codec) for strings in (copied, generated) for text in strings)
        return tuple(declared) if fits else UTF_8
    if is_readable(declared) and all(text.isascii() for text in generated):
        encodings = convert_encodings(list(declared))
        if all(_round_trips(text, encodings) for text in copied):
            return tuple(declared)
    return UTF_8


def _fits(text: str, codec: str) -> bool:
    try:
        text.encode(codec)
    except UnicodeEncodeError:
        return False
    return True


def is_readable(declared: Sequence[str]) -> bool:
    """Tell whether every value names a character set that can be read."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            convert_encodings(list(declared))
        except (UserWarning, LookupError):
            return False
    return True


def _round_trips(text: str, encodings: Sequence[str]) -> bool:
    if text.isascii():
        return True
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            encoded = encode_string(text, encodings)
            return decode_bytes(encoded, encodings, set()) == text
        except (UserWarning, UnicodeError, LookupError, ValueError):
            return False


def as_ascii(text: str) -> str:
    """Write a sentence of ours in ASCII: by table, by dropping accents, else by naming the character."""
    if text.isascii():
        return text
    written = []
    for character in text:
        if character.isascii():
            written.append(character)
        elif character in _ASCII:
            written.append(_ASCII[character])
        else:
            base = unicodedata.normalize("NFKD", character).encode("ascii", "ignore").decode("ascii")
            written.append(base or f"[U+{ord(character):04X}]")
    return "".join(written)


def text_elements(dataset: Dataset, *, with_stored_bytes: bool = True) -> Iterator[DataElement]:
    """Walk over every element whose text follows the character set, in sequences too.

    Parameters
    ----------
    with_stored_bytes
        Elements that hold undecoded bytes are decoded and given too; else passed over.
    """
    for tag in list(dataset.keys()):
        found = dataset.get_item(tag)
        is_raw = isinstance(found, RawDataElement)
        if is_raw and not with_stored_bytes:
            continue
        if found.VR not in TEXT_VRS and found.VR not in ("SQ", None):
            continue
        element = dataset[tag]
        if element.VR == "SQ":
            for item in element.value:
                yield from text_elements(item, with_stored_bytes=with_stored_bytes)
        elif element.VR in TEXT_VRS:
            yield element


def strings_of(element: DataElement) -> tuple[str, ...]:
    """Give the decoded values of a text element."""
    value = element.value
    if value is None:
        return ()
    if isinstance(value, str | PersonName):
        return (str(value),)
    return tuple(str(item) for item in value)
