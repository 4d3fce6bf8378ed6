"""Encoded frames into arrays, within bounds: what a frame says of itself must agree with its header first.

A decoder believes the frame, not the header: one that announces 65,000 x 65,000 pixels takes gigabytes before it fails.

Source: PS3.5 8.2 and A.4 (encapsulation), Annex G (RLE); ISO/IEC 10918-1 B.2.2 (JPEG frame header), 14495-1 C.2.2
(JPEG-LS), 15444-1 A.5.1 (JPEG 2000 image and tile size).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
from pydicom import Dataset
from pydicom.encaps import encapsulate, get_frame
from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import UID

from inference.errors import UnreadablePixels
from inference.frames import Description, describe
from inference.syntaxes import (
    DECODERS,
    HTJ2K,
    HTJ2K_LOSSLESS,
    HTJ2K_LOSSLESS_RPCL,
    JPEG_2000,
    JPEG_2000_LOSSLESS,
    NATIVE,
    RLE,
)

_JPEG_2000_FAMILY = frozenset({JPEG_2000_LOSSLESS, JPEG_2000, HTJ2K_LOSSLESS, HTJ2K_LOSSLESS_RPCL, HTJ2K})
#: Tiles of one JPEG 2000 frame; each costs a decoder kilobytes before a pixel is decoded.
_MOST_TILES = 4096
#: Frame headers of JPEG and JPEG-LS: SOF0-15 but for DHT, JPG and DAC among them, and SOF55.
_START_OF_FRAME = frozenset({*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC})


@dataclass(frozen=True)
class PixelLayout(Description):
    """How the pixels of an instance lie, and how they are encoded."""

    transfer_syntax_uid: str

    @property
    def encapsulated(self) -> bool:
        """Whether the frames are compressed, each in its own fragments. Source: PS3.5 A.4."""
        return self.transfer_syntax_uid not in NATIVE

    @property
    def signed(self) -> bool:
        """Whether stored values may be negative."""
        return bool(self.pixel_representation)


def layout_of(header: Dataset, transfer_syntax_uid: str) -> PixelLayout:
    """Read how pixels lie.

    Raises
    ------
    UnreadablePixels
        A value is missing or no sensible one, or a frame is larger than any that is decoded here.
    """
    return PixelLayout(**vars(describe(header)), transfer_syntax_uid=transfer_syntax_uid)


def encapsulated_frame(file: BinaryIO, layout: PixelLayout, frame_index: int) -> bytes:
    """Give one frame as it is stored; `file` stands at the value of Pixel Data (Basic Offset Table)."""
    try:
        return get_frame(file, frame_index, number_of_frames=layout.number_of_frames)
    except (ValueError, AttributeError, EOFError, struct.error) as error:
        raise UnreadablePixels("The frames cannot be told apart.") from error


def decode_encapsulated(frame: bytes, layout: PixelLayout) -> npt.NDArray[Any]:
    """Decode one compressed frame: (rows, columns) or (rows, columns, samples); colours as RGB.

    Raises
    ------
    UnreadablePixels
        It cannot be decoded, or announces other pixels than its header.
    """
    check_encoded(frame, layout)
    syntax = UID(layout.transfer_syntax_uid)
    options: Any = {
        "rows": layout.rows,
        "columns": layout.columns,
        "number_of_frames": 1,
        "samples_per_pixel": layout.samples_per_pixel,
        "bits_allocated": layout.bits_allocated,
        "bits_stored": layout.bits_stored,
        "pixel_representation": layout.pixel_representation,
        "photometric_interpretation": layout.photometric_interpretation,
        "planar_configuration": layout.planar_configuration,
        "pixel_keyword": "PixelData",
        "decoding_plugin": DECODERS[syntax],
    }
    try:
        array, _ = get_decoder(syntax).as_array(encapsulate([frame], has_bot=False), index=0, **options)
    except Exception as error:  # decoders raise what they like
        raise UnreadablePixels(f"The pixel data cannot be decoded ({syntax.name}).") from error
    return np.asarray(array)


def check_encoded(frame: bytes, layout: PixelLayout) -> None:
    """Compare what a frame says of itself with its header, before a decoder believes it.

    Raises
    ------
    UnreadablePixels
        They differ, or the frame does not begin as its transfer syntax asks.
    """
    syntax = layout.transfer_syntax_uid
    if syntax not in DECODERS:
        raise UnreadablePixels(f"Pixel data in {UID(syntax).name} are not decoded here.")
    if syntax == RLE:
        _check_rle(frame, layout)
        return
    rows, columns, samples = _jpeg_2000_size(frame) if syntax in _JPEG_2000_FAMILY else _jpeg_size(frame)
    if (rows, columns) != (layout.rows, layout.columns) or samples != layout.samples_per_pixel:
        raise UnreadablePixels(_otherwise(rows, columns, layout, samples))


def _otherwise(rows: int, columns: int, layout: PixelLayout, samples: int | None = None) -> str:
    return (
        f"The pixel data say {rows}x{columns} pixels of {samples or layout.samples_per_pixel} samples, "
        f"the header {layout.rows}x{layout.columns} of {layout.samples_per_pixel}."
    )


def _jpeg_size(frame: bytes) -> tuple[int, int, int]:
    """Rows, columns and samples of a JPEG or JPEG-LS frame."""
    at = 2
    if frame[:2] != b"\xff\xd8":
        raise UnreadablePixels("The pixel data do not begin as JPEG does.")
    while at + 9 < len(frame):
        if frame[at] != 0xFF:
            break
        marker = frame[at + 1]
        if marker == 0xFF:  # fill byte
            at += 1
            continue
        if marker in _START_OF_FRAME:
            rows, columns, samples = struct.unpack_from(">HHB", frame, at + 5)
            return int(rows), int(columns), int(samples)
        at += 2 + int.from_bytes(frame[at + 2 : at + 4], "big")
    raise UnreadablePixels("The pixel data have no frame header.")


def _jpeg_2000_size(frame: bytes) -> tuple[int, int, int]:
    """Rows, columns and samples of a JPEG 2000 codestream, bare or (against PS3.5 A.4.4) in a JP2 file."""
    at = frame.find(b"\xff\x4f\xff\x51", 0, 1 << 16)
    if at < 0 or len(frame) < at + 42:
        raise UnreadablePixels("The pixel data have no JPEG 2000 header.")
    right, lower, left, upper, tile_columns, tile_rows = struct.unpack_from(">6I", frame, at + 8)
    (samples,) = struct.unpack_from(">H", frame, at + 40)
    rows, columns = lower - upper, right - left
    if min(tile_columns, tile_rows) < 1 or -(-columns // tile_columns) * -(-rows // tile_rows) > _MOST_TILES:
        raise UnreadablePixels(f"{columns}x{rows} pixels in tiles of {tile_columns}x{tile_rows} are not decoded here.")
    return rows, columns, int(samples)


def _check_rle(frame: bytes, layout: PixelLayout) -> None:
    """Check the offsets of RLE segments. Source: PS3.5 G.5."""
    wanted = layout.samples_per_pixel * -(-layout.bits_allocated // 8)
    if len(frame) < 64:
        raise UnreadablePixels("The pixel data are shorter than an RLE header.")
    count, *offsets = struct.unpack_from("<16I", frame)
    used = offsets[:count] if count <= 15 else []
    bounds = [*used, len(frame)]
    ordered = all(one < other for one, other in pairwise(bounds))
    if count != wanted or used[:1] != [64] or not ordered:
        raise UnreadablePixels(f"The RLE header does not agree with {wanted} segments in {len(frame)} bytes.")
