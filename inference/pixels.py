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
from pydicom.encaps import get_frame
from pydicom.pixels.processing import apply_color_lut, apply_modality_lut, apply_voi_lut
from pydicom.pixels.utils import pixel_array

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

#: Samples of one frame that are decoded at most: what is larger is no picture for a browser.
_MOST_SAMPLES = 1 << 28


@dataclass(frozen=True)
class Window:
    """Which values become black and white."""

    center: float
    width: float


def frame_count(header: Dataset) -> int:
    """Give the number of frames; 0 where there are no pixels."""
    if header.get("Rows") is None:
        return 0
    return max(1, int(header.get("NumberOfFrames") or 1))


def stored_frame(file: BinaryIO, frame_index: int) -> tuple[bytes, str]:
    """Give one frame as it is stored, and the transfer syntax it is stored in.

    Raises
    ------
    NoSuchFrame, UnreadablePixels
    """
    dataset = _read(file)
    _check_frame(dataset, frame_index)
    syntax = dataset.file_meta.TransferSyntaxUID
    if syntax.is_encapsulated:
        try:
            return get_frame(dataset.PixelData, frame_index, number_of_frames=frame_count(dataset)), str(syntax)
        except (ValueError, AttributeError) as error:
            raise UnreadablePixels("The frames cannot be told apart.") from error
    samples = int(dataset.Rows) * int(dataset.Columns) * int(dataset.get("SamplesPerPixel") or 1)
    bits = samples * int(dataset.BitsAllocated)
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
    return _decode(_read(file), frame_index)


def native_frame(file: BinaryIO, frame_index: int) -> bytes:
    """Give one frame decoded, as Explicit VR Little Endian stores it."""
    array = decode_frame(file, frame_index)
    return array.astype(array.dtype.newbyteorder("<")).tobytes()


def render_frame(file: BinaryIO, frame_index: int, *, window: Window | None = None) -> npt.NDArray[np.uint8]:
    """Make one frame a picture: 8-bit grey (rows, columns) or RGB (rows, columns, 3)."""
    dataset = _read(file)
    array = _decode(dataset, frame_index)
    if array.ndim == 3:
        return _to_bytes(array.astype(np.float32), float(2 ** int(dataset.BitsStored) - 1))
    if str(dataset.get("PhotometricInterpretation")) == "PALETTE COLOR":
        coloured = apply_color_lut(array, dataset)
        return _to_bytes(coloured.astype(np.float32), float(np.iinfo(coloured.dtype).max))
    if int(dataset.BitsAllocated) == 1:
        return (array > 0).astype(np.uint8) * 255
    return _grey(array, dataset, window)


def to_picture(array: npt.NDArray[np.uint8], form: Literal["PNG", "JPEG"], *, quality: int = 90) -> bytes:
    """Encode a picture."""
    buffer = BytesIO()
    Image.fromarray(array).save(buffer, form, quality=quality)
    return buffer.getvalue()


def _read(file: BinaryIO) -> Dataset:
    try:
        return dcmread(file)
    except Exception as error:
        raise UnreadablePixels("The instance cannot be read.") from error


def _check_frame(dataset: Dataset, frame_index: int) -> None:
    if "PixelData" not in dataset:
        raise NoSuchFrame("The instance has no pixel data.")
    if not 0 <= frame_index < frame_count(dataset):
        raise NoSuchFrame(f"The instance has {frame_count(dataset)} frames.")
    samples = int(dataset.Rows) * int(dataset.Columns) * int(dataset.get("SamplesPerPixel") or 1)
    if samples > _MOST_SAMPLES:
        raise UnreadablePixels("The frame is larger than any that is decoded here.")


def _decode(dataset: Dataset, frame_index: int) -> npt.NDArray[Any]:
    _check_frame(dataset, frame_index)
    try:
        return np.asarray(pixel_array(dataset, index=frame_index))
    except Exception as error:
        raise UnreadablePixels("The pixel data cannot be decoded.") from error


def _grey(array: npt.NDArray[Any], dataset: Dataset, window: Window | None) -> npt.NDArray[np.uint8]:
    values = apply_modality_lut(array, dataset).astype(np.float32)
    if window is not None:
        low, width = window.center - window.width / 2, max(window.width, 1.0)
        values = np.clip((values - low) / width, 0, 1)
    elif "WindowCenter" in dataset or "VOILUTSequence" in dataset:
        values = apply_voi_lut(values if "VOILUTSequence" not in dataset else array, dataset).astype(np.float32)
        values = _stretched(values)
    else:
        values = _stretched(values)
    if str(dataset.get("PhotometricInterpretation")) == "MONOCHROME1":
        values = 1 - values
    return _to_bytes(values, 1.0)


def _stretched(values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    low, high = float(values.min()), float(values.max())
    return (values - low) / (high - low) if high > low else np.zeros_like(values)


def _to_bytes(values: npt.NDArray[Any], white: float) -> npt.NDArray[np.uint8]:
    return np.clip(np.rint(values * (255.0 / white)), 0, 255).astype(np.uint8)
