"""One image without a place in a patient, such as a chest X-ray or a photograph of skin: a grid of pixels.

Source: PS3.3 C.7.6.3 (pixel description), C.11.1 (modality LUT), 10.7.1.3 (pixel spacing of projection images).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom import Dataset, dcmread

from inference.decode import layout_of
from inference.errors import NoSuchFrame, UnreadablePixels, UnsuitableStudy
from inference.pixels import decode_frame, frame_count, modality_values
from inference.slices import SourceInstance

_GREY = ("MONOCHROME1", "MONOCHROME2")


@dataclass(frozen=True, eq=False)
class PixelGrid:
    """One frame.

    `array`: (rows, columns), float32, after the modality LUT, where larger is brighter also in MONOCHROME1;
    or (rows, columns, 3), uint8, RGB.
    """

    array: npt.NDArray[Any]
    header: Dataset
    """Without pixel data."""
    source: SourceInstance
    frame_number: int | None
    """Frame of a multi-frame image, from 1; None: the image has one frame."""
    spacing_mm: tuple[float, float] | None
    """Distance of neighbouring rows, of columns, in the patient; None: the image does not say it."""


def read_grid(source: SourceInstance, frame_number: int = 1) -> PixelGrid:
    """Read one frame as a grid of pixels, in memory as a whole.

    Raises
    ------
    UnsuitableStudy
        The image cannot be read, or is neither grey nor RGB when decoded; the message says why.
    """
    try:
        with source.open() as file:
            header = dcmread(file, stop_before_pixels=True)
            layout = layout_of(header, str(header.file_meta.TransferSyntaxUID))
        with source.open() as file:
            array = decode_frame(file, frame_number - 1)
        if array.ndim == 2 and layout.photometric_interpretation in _GREY:
            array = _brighter_is_larger(modality_values(array, header), layout.photometric_interpretation)
    except (UnreadablePixels, NoSuchFrame) as error:
        raise UnsuitableStudy(f"the image cannot be read: {error}") from error
    except Exception as error:  # the parser raises what it likes
        raise UnsuitableStudy("the image cannot be read: it is no sound DICOM instance.") from error
    if array.ndim == 2 and layout.photometric_interpretation not in _GREY:
        raise UnsuitableStudy(f"the image is {layout.photometric_interpretation}, neither grey nor RGB.")
    if array.ndim == 3 and (array.shape[2] != 3 or array.dtype != np.uint8):
        raise UnsuitableStudy(f"the image has {array.shape[2]} samples of {layout.bits_allocated} bit for each pixel.")
    several = frame_count(header) > 1
    return PixelGrid(array, header, source, frame_number if several else None, _spacing_mm(header))


def _brighter_is_larger(values: npt.NDArray[np.float32], photometric: str) -> npt.NDArray[np.float32]:
    """Turn MONOCHROME1, whose smallest value is white, over within its own range."""
    return values.max() + values.min() - values if photometric == "MONOCHROME1" else values


def _spacing_mm(header: Dataset) -> tuple[float, float] | None:
    """Spacing at the patient: calibrated, or at the detector corrected for magnification.

    Imager Pixel Spacing alone is that of the detector: without a magnification factor it is nobody's anatomy.
    """
    try:
        for keyword in ("PixelSpacing", "ImagerPixelSpacing"):
            if header.get(keyword) is None:
                continue
            rows_mm, columns_mm = (float(each) for each in header[keyword].value)
            factor = 1.0
            if keyword == "ImagerPixelSpacing":
                if header.get("EstimatedRadiographicMagnificationFactor") is None:
                    return None
                factor = float(header.EstimatedRadiographicMagnificationFactor)
            found = rows_mm / factor, columns_mm / factor
            return found if np.isfinite(found).all() and min(found) > 0 else None
    except (TypeError, ValueError, ZeroDivisionError):
        return None
    return None
