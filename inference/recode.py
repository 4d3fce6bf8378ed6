"""The elements of a data set written in another uncompressed encoding, each value byte for byte.

Values are copied, not read and written anew: what a sender wrote against the rules arrives as it was. Only what an
encoding asks for changes: VR and length fields, the byte order of numbers, group lengths (dropped, PS3.5 7.2).

Source: PS3.5 7.1 (elements), 7.3 (byte order), 7.5 (sequences), 6.2.2 (UN), Annex A.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from pydicom import DataElement, Dataset
from pydicom.dataelem import RawDataElement, convert_raw_data_element
from pydicom.filewriter import correct_ambiguous_vr_element
from pydicom.hooks import raw_element_vr
from pydicom.valuerep import AMBIGUOUS_VR

from inference.errors import UnreadablePixels
from inference.syntaxes import EXPLICIT_BIG, IMPLICIT_LITTLE

#: Bytes of one number of each VR that has a byte order. Source: PS3.5 7.3.
WORD = {
    **dict.fromkeys(("AT", "OW", "SS", "US"), 2),
    **dict.fromkeys(("FL", "OF", "OL", "SL", "UL"), 4),
    **dict.fromkeys(("FD", "OD", "OV", "SV", "UV"), 8),
}
#: VRs with a two-byte length. Source: PS3.5 7.1.2.
_SHORT = frozenset(
    ("AE", "AS", "AT", "CS", "DA", "DS", "DT", "FL", "FD", "IS", "LO", "LT", "PN", "SH", "SL", "SS", "ST", "TM")
) | {"UI", "UL", "US"}
_UNDEFINED = 0xFFFFFFFF
_DEEPEST = 200


@dataclass(frozen=True)
class Form:
    """How elements are written."""

    implicit: bool
    little: bool

    @property
    def order(self) -> str:
        """Sign of the byte order, as `struct` has it."""
        return "<" if self.little else ">"


def form_of(transfer_syntax_uid: str) -> Form:
    """How the elements of a transfer syntax are written; all others are Explicit VR Little Endian."""
    return Form(transfer_syntax_uid == IMPLICIT_LITTLE, transfer_syntax_uid != EXPLICIT_BIG)


#: Elements by tag, as they were read: a `Dataset` converts the ones that somebody asks it for.
Elements = Mapping[int, RawDataElement | DataElement]


def elements_of(dataset: Dataset) -> dict[int, RawDataElement | DataElement]:
    """Give what a data set holds that was just read and not asked for anything."""
    return {int(tag): dataset.get_item(tag, keep_deferred=True) for tag in dataset.keys()}  # noqa: SIM118 (it iterates over values)


def recode(dataset: Dataset, elements: Elements, source: Form, target: Form) -> bytes:
    """Give elements as read from `source`, written as `target`.

    Parameters
    ----------
    dataset
        What they belong to: it resolves VRs that depend on other elements.

    Raises
    ------
    UnreadablePixels
        A sequence cannot be told apart.
    """
    return _content(dataset, elements, source, target, (dataset,))


def header(tag: int, vr: str, length: int, form: Form) -> bytes:
    """Give an element's tag, VR and length. A length that its VR cannot hold is written under UN (PS3.5 6.2.2)."""
    group, element = tag >> 16, tag & 0xFFFF
    if form.implicit:
        return struct.pack(form.order + "HHI", group, element, length)
    if vr in _SHORT and length <= 0xFFFF:
        return struct.pack(form.order + "HH2sH", group, element, vr.encode("latin-1"), length)
    vr = "UN" if vr in _SHORT else vr
    return struct.pack(form.order + "HH2sHI", group, element, vr.encode("latin-1"), 0, length)


def swapped(value: bytes, size: int) -> bytes:
    """Give numbers of `size` bytes in the other byte order; what is no whole number stays."""
    whole = len(value) - len(value) % size
    return np.frombuffer(value[:whole], dtype=f"u{size}").byteswap().tobytes() + value[whole:]


def _content(dataset: Dataset, elements: Elements, source: Form, target: Form, ancestors: Sequence[Dataset]) -> bytes:
    if len(ancestors) > _DEEPEST:
        raise UnreadablePixels(f"The data set nests deeper than {_DEEPEST} levels.")
    return b"".join(
        _element(dataset, elements[tag], source, target, ancestors) for tag in sorted(elements) if tag & 0xFFFF
    )


def _element(
    dataset: Dataset,
    element: RawDataElement | DataElement,
    source: Form,
    target: Form,
    ancestors: Sequence[Dataset],
) -> bytes:
    if isinstance(element, DataElement):  # a sequence of undefined length, read already
        return _sequence(element, source, target, ancestors)
    vr = _vr_of(dataset, element, source, ancestors)
    if vr == "SQ":
        try:
            return _sequence(convert_raw_data_element(element, ds=dataset), source, target, ancestors)
        except (ValueError, NotImplementedError, EOFError, struct.error) as error:
            raise UnreadablePixels("A sequence cannot be told apart.", tag=f"{element.tag:08X}") from error
    value = element.value or b""
    if not isinstance(value, bytes):
        raise UnreadablePixels("A value cannot be read.", tag=f"{element.tag:08X}")
    if source.little != target.little and vr in WORD:
        value = swapped(value, WORD[vr])
    if element.length == _UNDEFINED:
        return header(element.tag, vr, _UNDEFINED, target) + value + _delimiter(target)
    return header(element.tag, vr, len(value), target) + value


def _sequence(element: DataElement, source: Form, target: Form, ancestors: Sequence[Dataset]) -> bytes:
    items: list[bytes] = []
    for item in cast(Sequence[Dataset], element.value):
        content = _content(item, elements_of(item), source, target, (item, *ancestors))
        items.append(struct.pack(target.order + "HHI", 0xFFFE, 0xE000, len(content)) + content)
    content = b"".join(items)
    return header(element.tag, "SQ", len(content), target) + content


def _vr_of(dataset: Dataset, element: RawDataElement, source: Form, ancestors: Sequence[Dataset]) -> str:
    """Give the VR that an element has or, in Implicit VR, that the dictionary gives it."""
    if element.VR is not None:
        return str(element.VR)
    found: dict[str, Any] = {}
    raw_element_vr(element, found, ds=dataset)
    if found["VR"] not in AMBIGUOUS_VR:
        return str(found["VR"])
    try:
        unread = DataElement(element.tag, found["VR"], element.value, already_converted=True)
        resolved = correct_ambiguous_vr_element(unread, dataset, source.little, list(ancestors)).VR
    except (AttributeError, TypeError, ValueError, LookupError, struct.error):
        return "UN"
    return "UN" if resolved in AMBIGUOUS_VR else str(resolved)


def _delimiter(form: Form) -> bytes:
    return struct.pack(form.order + "HHI", 0xFFFE, 0xE0DD, 0)
