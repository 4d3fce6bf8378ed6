"""The VR of an element that does not carry it, or carries UN or an ambiguous one.

Source: PS3.6 (dictionary), PS3.5 6.2.2 (UN), 7.8.1 (private blocks), Annex A (ambiguous VRs).
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

from pydicom.datadict import dictionary_VR, private_dictionary_VR
from pydicom.tag import Tag

_EITHER = " or "
#: Waveform data and its kin: OW in Implicit VR, else by Waveform Bits Allocated.
WAVEFORM = frozenset({0x54000110, 0x54000112, 0x5400100A, 0x54001010})
LUT_DATA = 0x00283006
#: An element of UN this long stays what it is: its VR has no such lengths in Explicit VR.
_LONG_UN = 0xFFFF


@lru_cache(maxsize=8192)
def public_vr(tag: int) -> str | None:
    """Give the VR of the dictionary, perhaps an ambiguous one such as "US or SS"; None: it has none."""
    try:
        return str(dictionary_VR(tag))
    except KeyError:
        return None


@lru_cache(maxsize=8192)
def _private_vr(tag: int, creator: str) -> str:
    try:
        return str(private_dictionary_VR(Tag(tag), creator))
    except KeyError:
        return "UN"


def lookup_vr(tag: int, vr: str | None, length: int, creators: Mapping[int, str]) -> str:
    """Give the VR of an element that came without one, or as UN.

    Parameters
    ----------
    creators
        Private creators of its data set, by the upper 24 bits of the tags they reserve.
    """
    if tag >> 16 & 1:
        element = tag & 0xFFFF
        if 0x0010 <= element <= 0x00FF:
            return "LO"
        creator = creators.get(tag >> 8) if element & 0xFF00 else None
        return _private_vr(tag, creator) if creator else "UN"
    if vr == "UN" and length >= _LONG_UN:
        return "UN"
    return public_vr(tag) or "UN"


def is_ambiguous(vr: str) -> bool:
    """Tell whether a VR of the dictionary needs a look at other elements."""
    return _EITHER in vr
