"""Pixels of single frames: as stored, decoded, rendered. No model runtime.

Source: PS3.5 8 and A.4 (encapsulation), PS3.3 C.7.6.3 (pixel description), C.11 (lookup tables).
"""

from __future__ import annotations

from dataclasses import dataclass
from io import BytesIO
from typing import Any, BinaryIO, Literal

import numpy as np
import numpy.typing as npt
from PIL import Image
from pydicom import Dataset, dcmread
from pydicom.pixels.processing import apply_color_lut
from pydicom.pixels.utils import pixel_array

from inference.decode import (
    PixelLayout,
    decode_encapsulated,
    encapsulated_frame,
    layout_of,
)
from inference.errors import NoSuchFrame, UnreadablePixels

__all__ = [
    "NoSuchFrame",
    "UnreadablePixels",
    "Window",
    "decode_frame",
    "frame_count",
    "native_frame",
    "render_frame",
    "stored_frame",
    "to_picture",
]


@dataclass(frozen=True)
class Window:
    """Which values become black and white."""

    center: float
    width: float


def frame_count(header: Dataset) -> int:
    """Give the number of frames; 0 where there are no pixels, or no sensible number of them."""
    if header.get("Rows") is None:
        return 0
    try:
        return max(1, int(header.get("NumberOfFrames") or 1))
    except (TypeError, ValueError):
        return 0


def stored_frame(file: BinaryIO, frame_index: int) -> tuple[bytes, str]:
    """Give one frame as it is stored, and the transfer syntax it is stored in.

    Raises
    ------
    NoSuchFrame, UnreadablePixels
    """
    dataset, layout = _read(file, frame_index)
    syntax = layout.transfer_syntax_uid
    if layout.encapsulated:
        return encapsulated_frame(BytesIO(dataset.PixelData), layout, frame_index), str(syntax)
    bits = layout.rows * layout.columns * layout.samples_per_pixel * layout.bits_allocated
    if bits % 8:
        raise UnreadablePixels("The frames do not begin at whole bytes.")
    size = bits // 8
    frame = dataset.PixelData[frame_index * size : (frame_index + 1) * size]
    if len(frame) < size:
        raise UnreadablePixels("The pixel data are cut short.")
    return bytes(frame), str(syntax)


def decode_frame(file: BinaryIO, frame_index: int) -> npt.NDArray[Any]:
    """Decode one frame: (rows, columns) or (rows, columns, samples); colours as RGB.

    Raises
    ------
    NoSuchFrame, UnreadablePixels
    """
    return _decode(*_read(file, frame_index), frame_index)


def native_frame(file: BinaryIO, frame_index: int) -> bytes:
    """Give one frame decoded, as Explicit VR Little Endian stores it."""
    array = decode_frame(file, frame_index)
    return array.astype(array.dtype.newbyteorder("<")).tobytes()


def render_frame(file: BinaryIO, frame_index: int, *, window: Window | None = None) -> npt.NDArray[np.uint8]:
    """Make one frame a picture: 8-bit grey (rows, columns) or RGB (rows, columns, 3)."""
    dataset, layout = _read(file, frame_index)
    array = _decode(dataset, layout, frame_index)
    try:
        return _picture(array, dataset, layout, window)
    except Exception as error:  # lookup tables of others hold anything
        raise UnreadablePixels("The pixels cannot be made a picture: a lookup table or window is wrong.") from error


def to_picture(array: npt.NDArray[np.uint8], form: Literal["PNG", "JPEG"], *, quality: int = 90) -> bytes:
    """Encode a picture."""
    buffer = BytesIO()
    Image.fromarray(array).save(buffer, form, quality=quality)
    return buffer.getvalue()


def _read(file: BinaryIO, frame_index: int) -> tuple[Dataset, PixelLayout]:
    """Read an instance and how its pixels lie, and make sure that it has this frame."""
    try:
        dataset = dcmread(file)
        syntax = str(dataset.file_meta.TransferSyntaxUID)
        has_pixels = "PixelData" in dataset and dataset.PixelData is not None
    except Exception as error:  # the parser raises what it likes
        raise UnreadablePixels("The instance cannot be read.") from error
    if not has_pixels:
        raise NoSuchFrame("The instance has no pixel data.")
    if not 0 <= frame_index < frame_count(dataset):
        raise NoSuchFrame(f"The instance has {frame_count(dataset)} frames.")
    return dataset, layout_of(dataset, syntax)


def _decode(dataset: Dataset, layout: PixelLayout, frame_index: int) -> npt.NDArray[Any]:
    if layout.encapsulated:
        frame = encapsulated_frame(BytesIO(dataset.PixelData), layout, frame_index)
        return decode_encapsulated(frame, layout)
    try:
        return np.asarray(pixel_array(dataset, index=frame_index))
    except Exception as error:  # the decoder raises what it likes
        raise UnreadablePixels("The pixel data cannot be decoded.") from error


def _picture(
    array: npt.NDArray[Any], dataset: Dataset, layout: PixelLayout, window: Window | None
) -> npt.NDArray[np.uint8]:
    if array.ndim == 3:
        return _to_bytes(array.astype(np.float32), float(2**layout.bits_stored - 1))
    if layout.photometric_interpretation == "PALETTE COLOR":
        coloured = apply_color_lut(array, dataset)
        return _to_bytes(coloured.astype(np.float32), float(np.iinfo(coloured.dtype).max))
    if layout.bits_allocated == 1:
        return (array > 0).astype(np.uint8) * 255
    grey = _grey(array, dataset, window)
    return _to_bytes(1 - grey if layout.photometric_interpretation == "MONOCHROME1" else grey, 1.0)


def _grey(array: npt.NDArray[Any], dataset: Dataset, window: Window | None) -> npt.NDArray[np.float32]:
    """Values from 0, black, to 1, white: by the caller's window, else by the instance's own table or window."""
    values = modality_values(array, dataset)
    if window is None and "VOILUTSequence" in dataset:
        (item, *_) = dataset.VOILUTSequence
        return np.asarray(look_up(values, item) / np.float32(2 ** int(item.LUTDescriptor[2]) - 1))
    if window is None:
        center, width = _first(dataset.get("WindowCenter")), _first(dataset.get("WindowWidth"))
        if center is None or width is None or width < 1:
            return _stretched(values)
        window = Window(center, width)
    # The linear function, PS3.3 C.11.2.1.2.1.
    low, span = window.center - 0.5 - (window.width - 1) / 2, max(window.width - 1, 1e-3)
    return np.asarray(np.clip((values - np.float32(low)) / np.float32(span), 0, 1), np.float32)


def modality_values(array: npt.NDArray[Any], header: Dataset) -> npt.NDArray[np.float32]:
    """Stored values as the modality means them, by table or by slope and intercept. Source: PS3.3 C.11.1."""
    for item in header.get("ModalityLUTSequence") or []:
        return look_up(array, item)
    slope, intercept = header.get("RescaleSlope"), header.get("RescaleIntercept")
    values = array.astype(np.float32)
    if slope is not None and intercept is not None:
        values *= np.float32(slope)
        values += np.float32(intercept)
    return values


def look_up(values: npt.NDArray[Any], item: Dataset) -> npt.NDArray[np.float32]:
    """Put values through a lookup table; what lies beside it gets its first or last entry. Source: PS3.3 C.11.1.1."""
    entries, first, bits = (int(value) for value in item.LUTDescriptor)
    raw = item.LUTData
    if isinstance(raw, bytes):
        table = np.frombuffer(raw, np.uint8 if len(raw) == (entries or 1 << 16) else "<u2")
    else:
        table = np.atleast_1d(np.asarray(raw)).astype(np.int64)
    # Some senders repeat an 8-bit entry in both bytes of its word.
    table = (table & ((1 << bits) - 1)).astype(np.float32)
    first = first - (1 << 16) if first >= 1 << 15 and values.min() < 0 else first
    at = np.clip(np.rint(values).astype(np.int64) - first, 0, len(table) - 1)
    return np.asarray(table[at])


def _first(value: Any) -> float | None:
    """First of possibly several windows; None: there is none."""
    if value is None or value == "":
        return None
    return float(value if isinstance(value, str | int | float) else value[0])


def _stretched(values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    low, high = float(values.min()), float(values.max())
    return (values - low) / (high - low) if high > low else np.zeros_like(values)


def _to_bytes(values: npt.NDArray[Any], white: float) -> npt.NDArray[np.uint8]:
    return np.clip(np.rint(values * (255.0 / white)), 0, 255).astype(np.uint8)
