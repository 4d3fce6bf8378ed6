"""Results in other transfer syntaxes than they are kept in: one array, encoded for each destination when it is sent.

Kept is Explicit VR Little Endian, uncompressed. Every encoding here gives the same pixels back bit by bit, so that
the SOP Instance UID stays.

Source: PS3.5 Annex A; PS3.4 B.4 (what a storage SCU may do), PS3.3 A.51, A.86 (Segmentations).
"""

from __future__ import annotations

import io
from collections.abc import Iterable

from configs.peers import Encoding
from inference.results.forms import CLASSES, SEGMENTATIONS
from inference.syntaxes import DEFLATED, DEFLATED_FRAMES, JPEG_2000_LOSSLESS, JPEG_LS, RLE
from inference.transcode import transcode

#: Transfer syntaxes by the word that `deliver` has for them.
SYNTAX: dict[Encoding, str] = {
    "rle": RLE,
    "jpeg-2000": JPEG_2000_LOSSLESS,
    "jpeg-ls": JPEG_LS,
    "deflated": DEFLATED,
    "deflated-frames": DEFLATED_FRAMES,
}
#: Whole data sets are deflated whatever they hold; frames of single bits have fewer codecs than others.
_OF_ALL = frozenset({DEFLATED})
_OF_BITS = frozenset({DEFLATED, DEFLATED_FRAMES, JPEG_2000_LOSSLESS})
_OF_PIXELS = frozenset(SYNTAX.values())
_WITH_PIXELS = frozenset({SEGMENTATIONS["labelmap"]}).union(*(CLASSES[kind][0] for kind in ("capture", "summary")))


def syntaxes_for(sop_class_uid: str, wanted: Iterable[Encoding]) -> tuple[str, ...]:
    """Give the transfer syntaxes among the wanted ones that a result of this class can be sent in, in their order."""
    possible = _OF_PIXELS if sop_class_uid in _WITH_PIXELS else _OF_ALL
    if sop_class_uid == SEGMENTATIONS["binary"]:
        possible = _OF_BITS
    return tuple(SYNTAX[word] for word in wanted if SYNTAX[word] in possible)


def encode_as(part10: bytes, transfer_syntax_uid: str) -> bytes:
    """Give a kept result in another transfer syntax, under its own UID; in the one that it is kept in, as it is.

    Raises
    ------
    CannotTranscode
        It cannot be had so without loss.
    UnreadablePixels
        It is no sound DICOM file.
    """
    output = io.BytesIO()
    transcode(io.BytesIO(part10), transfer_syntax_uid, output)
    return output.getvalue()
