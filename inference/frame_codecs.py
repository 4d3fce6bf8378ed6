"""Codecs of frames that the pixel library has none for: single bits as JPEG 2000, and frames deflated one by one.

Source: PS3.5 8.2.4 (JPEG 2000), 8.2.16 and A.4.13 (Deflated Image Frame Compression), 8.1.1 (single-bit pixels).
"""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np
import numpy.typing as npt
from openjpeg.utils import decode, encode_array

from inference.errors import CannotTranscode

#: Colour space of one component, as OpenJPEG numbers them.
_GREY = 2


def single_bit_jpeg_2000(array: npt.NDArray[Any]) -> bytes:
    """Compress a frame of zeros and ones without loss, and prove that it comes back bit by bit.

    Raises
    ------
    CannotTranscode
        The codec does not give the frame back.
    """
    bits = array > 0
    try:
        encoded = bytes(encode_array(bits, bits_stored=1, photometric_interpretation=_GREY, use_mct=False))
        back = np.asarray(decode(encoded))
    except Exception as error:  # the codec raises what it likes
        raise CannotTranscode("The codec cannot hold these pixels.") from error
    if back.shape != bits.shape or not np.array_equal(back > 0, bits):
        raise CannotTranscode("The codec would change these pixels.")
    return encoded


def deflated_frame(native: bytes) -> bytes:
    """Deflate one frame as an uncompressed syntax stores it; no zlib header, as for whole data sets."""
    stream = zlib.compressobj(6, zlib.DEFLATED, -zlib.MAX_WBITS)
    return stream.compress(native) + stream.flush()
