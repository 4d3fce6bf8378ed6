"""Frames decoded and encoded one at a time, colours and values as they are stored.

Source: PS3.5 8.2 (codecs), PS3.3 C.7.6.3 (pixel description).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom import Dataset
from pydicom.encaps import encapsulate, get_frame
from pydicom.errors import BytesLengthException
from pydicom.pixels.decoders.base import get_decoder
from pydicom.pixels.encoders.base import get_encoder
from pydicom.uid import UID

from inference.errors import CannotTranscode, NoSuchFrame, UnreadablePixels
from inference.frame_codecs import deflated_frame, single_bit_jpeg_2000
from inference.part10 import Pixels, Source
from inference.syntaxes import DECODERS, DEFLATED_FRAMES, ENCODERS, JPEG_2000_LOSSLESS, NATIVE, RLE

#: Samples of one frame that are decoded at most.
MOST_SAMPLES = 1 << 28
_KEYWORD = {0x7FE00010: "PixelData", 0x7FE00008: "FloatPixelData", 0x7FE00009: "DoubleFloatPixelData"}


@dataclass(frozen=True)
class Frame:
    """One decoded frame."""

    array: npt.NDArray[Any]
    """(rows, columns) or (rows, columns, samples), in the container that Bits Allocated names."""
    photometric_interpretation: str
    """What the samples mean now: decoders undo the colour transforms of JPEG 2000."""


@dataclass(frozen=True)
class Description:
    """The pixel description of an instance."""

    rows: int
    columns: int
    samples_per_pixel: int
    bits_allocated: int
    bits_stored: int
    pixel_representation: int
    photometric_interpretation: str
    planar_configuration: int
    number_of_frames: int

    @property
    def frame_bytes(self) -> int:
        """Bytes of one decoded frame, of single bits packed to whole bytes."""
        bits = self.rows * self.columns * self.samples_per_pixel * self.bits_allocated
        return (bits + 7) // 8


def describe(head: Dataset) -> Description:
    """Read the pixel description.

    Raises
    ------
    UnreadablePixels
        It is missing, or of a size that is not decoded here.
    """
    try:
        described = Description(
            rows=int(head["Rows"].value),
            columns=int(head["Columns"].value),
            samples_per_pixel=int(head.get("SamplesPerPixel") or 1),
            bits_allocated=int(head["BitsAllocated"].value),
            bits_stored=int(head.get("BitsStored") or head["BitsAllocated"].value),
            pixel_representation=int(head.get("PixelRepresentation") or 0),
            photometric_interpretation=str(head.get("PhotometricInterpretation") or "MONOCHROME2"),
            planar_configuration=int(head.get("PlanarConfiguration") or 0),
            number_of_frames=max(1, int(head.get("NumberOfFrames") or 1)),
        )
    except (BytesLengthException, KeyError, NotImplementedError, TypeError, ValueError) as error:
        raise UnreadablePixels("The pixel description is missing or malformed.") from error
    rows, columns, samples = described.rows, described.columns, described.samples_per_pixel
    if min(rows, columns) < 1 or samples not in (1, 3, 4):
        raise UnreadablePixels(f"{rows}x{columns} pixels of {samples} samples are no image.")
    if described.bits_allocated not in (1, 8, 16, 32, 64) or not 1 <= described.bits_stored <= described.bits_allocated:
        raise UnreadablePixels(f"{described.bits_stored} of {described.bits_allocated} bits are no pixel.")
    if rows * columns * samples > MOST_SAMPLES:
        raise UnreadablePixels(f"A frame of {rows}x{columns} pixels is larger than any that is decoded here.")
    return described


def stored_frame_of(source: Source, index: int) -> bytes:
    """Give one frame as it is stored.

    Raises
    ------
    NoSuchFrame, UnreadablePixels
    """
    pixels, described = _frame_exists(source, index)
    source.file.seek(pixels.offset)
    if pixels.encapsulated:
        try:
            return bytes(get_frame(source.file, index, number_of_frames=described.number_of_frames))
        except (ValueError, AttributeError, EOFError) as error:
            raise UnreadablePixels("The frames cannot be told apart.") from error
    bits = described.rows * described.columns * described.samples_per_pixel * described.bits_allocated
    if bits % 8:
        raise UnreadablePixels("The frames do not begin at whole bytes.")
    source.file.seek(pixels.offset + index * (bits // 8))
    frame = source.file.read(min(bits // 8, pixels.length - index * (bits // 8)))
    if len(frame) < bits // 8:
        raise UnreadablePixels("The pixel data are cut short.")
    return frame


def decode_frame_of(source: Source, index: int) -> Frame:
    """Decode one frame.

    Raises
    ------
    NoSuchFrame, UnreadablePixels
    """
    pixels, described = _frame_exists(source, index)
    source.file.seek(pixels.offset)
    decoder = get_decoder(UID(source.transfer_syntax_uid))
    try:
        array, properties = decoder.as_array(source.file, index=index, raw=True, **_options(source, described, pixels))
    except Exception as error:
        raise UnreadablePixels("The pixel data cannot be decoded.") from error
    return _frame(array, properties, described)


def decode_frames_of(source: Source) -> Iterator[Frame]:
    """Decode all frames, one in memory at a time.

    Raises
    ------
    NoSuchFrame, UnreadablePixels
    """
    pixels, described = _frame_exists(source, 0)
    source.file.seek(pixels.offset)
    decoder = get_decoder(UID(source.transfer_syntax_uid))
    frames = decoder.iter_array(source.file, raw=True, **_options(source, described, pixels))
    for _ in range(described.number_of_frames):
        try:
            array, properties = next(frames)
        except StopIteration as error:
            raise UnreadablePixels("There are fewer frames than Number of Frames says.") from error
        except Exception as error:
            raise UnreadablePixels("The pixel data cannot be decoded.") from error
        yield _frame(array, properties, described)


def encode_frame(frame: Frame, described: Description, target: str) -> bytes:
    """Compress one frame, and prove that it comes back bit by bit.

    Raises
    ------
    CannotTranscode
        The codec cannot hold these pixels.
    """
    if target == DEFLATED_FRAMES:
        return deflated_frame(native_bytes(frame, described, little=True))
    if described.bits_allocated == 1:
        if target != JPEG_2000_LOSSLESS:
            raise CannotTranscode("Pixels of one bit are not compressed so.")
        return single_bit_jpeg_2000(frame.array)
    options: dict[str, Any] = {
        "pixel_keyword": "PixelData",
        "rows": described.rows,
        "columns": described.columns,
        "number_of_frames": 1,
        "samples_per_pixel": described.samples_per_pixel,
        "bits_allocated": described.bits_allocated,
        "bits_stored": described.bits_stored,
        "pixel_representation": described.pixel_representation,
        "photometric_interpretation": frame.photometric_interpretation,
        "planar_configuration": 0,
    }
    try:
        plugin = ENCODERS[target]
        encoded = bytes(get_encoder(UID(target)).encode(frame.array, encoding_plugin=plugin, **options))
        back, _ = get_decoder(UID(target)).as_array(
            encapsulate([encoded]),
            index=0,
            raw=True,
            decoding_plugin=DECODERS[target],
            **options,
        )
    except Exception as error:
        raise CannotTranscode("The codec cannot hold these pixels.") from error
    if not np.array_equal(back, frame.array):
        raise CannotTranscode("The codec would change these pixels.")
    return encoded


def native_bytes(frame: Frame, described: Description, *, little: bool) -> bytes:
    """Give a frame as an uncompressed transfer syntax stores it, colour by pixel."""
    if described.bits_allocated == 1:
        return np.packbits(frame.array.ravel(), bitorder="little").tobytes()
    return frame.array.astype(frame.array.dtype.newbyteorder("<" if little else ">"), copy=False).tobytes()


def _frame_exists(source: Source, index: int) -> tuple[Pixels, Description]:
    if source.pixels is None:
        raise NoSuchFrame("The instance has no pixel data.")
    described = describe(source.head)
    if not 0 <= index < described.number_of_frames:
        raise NoSuchFrame(f"The instance has {described.number_of_frames} frames.")
    if not source.pixels.encapsulated and source.transfer_syntax_uid not in NATIVE:
        raise UnreadablePixels("The pixel data are not compressed as the transfer syntax says.")
    return source.pixels, described


def _options(source: Source, described: Description, pixels: Pixels) -> dict[str, Any]:
    options: dict[str, Any] = {
        "rows": described.rows,
        "columns": described.columns,
        "number_of_frames": described.number_of_frames,
        "samples_per_pixel": described.samples_per_pixel,
        "bits_allocated": described.bits_allocated,
        "bits_stored": described.bits_stored,
        "pixel_representation": described.pixel_representation,
        "photometric_interpretation": described.photometric_interpretation,
        "planar_configuration": described.planar_configuration,
        "pixel_keyword": _KEYWORD[pixels.tag],
        "pixel_vr": pixels.vr,
        "allow_excess_frames": False,
        # Above Bits Stored, JPEG decoders leave what their precision makes of it; elsewhere overlays may stand there.
        "correct_unused_bits": source.transfer_syntax_uid in DECODERS and source.transfer_syntax_uid != RLE,
        "decoding_plugin": DECODERS.get(source.transfer_syntax_uid, ""),
    }
    table, lengths = source.head.get("ExtendedOffsetTable"), source.head.get("ExtendedOffsetTableLengths")
    if table and lengths:
        options["extended_offsets"] = (table, lengths)
    return options


def _frame(array: npt.NDArray[Any], properties: dict[str, str | int], described: Description) -> Frame:
    wanted = max(1, described.bits_allocated // 8)
    if array.dtype.kind in "iu" and array.dtype.itemsize != wanted:
        array = array.astype(f"{array.dtype.kind}{wanted}")
    array = array.astype(array.dtype.newbyteorder("="), copy=False)
    photometric = str(properties["photometric_interpretation"])
    # Decoded frames have a sample of each colour for every pixel.
    return Frame(np.ascontiguousarray(array), "YBR_FULL" if photometric == "YBR_FULL_422" else photometric)
