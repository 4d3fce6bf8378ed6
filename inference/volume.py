"""A series as one array with its geometry."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
from pydicom import Dataset, dcmread
from pydicom.pixels.utils import pixel_array

from inference.errors import UnsuitableStudy
from inference.geometry import plane_of, stack

#: What lies outside the scanner's field of view counts as air, HU.
_AIR_HU = -1024
_INT16 = np.iinfo(np.int16)


@dataclass(frozen=True)
class SourceInstance:
    """One kept instance, to be read."""

    sop_instance_uid: str
    sop_class_uid: str
    sha256: str
    """Digest of its data set."""
    open: Callable[[], BinaryIO]
    """Gives the Part 10 file from its start, seekable."""


@dataclass(frozen=True, eq=False)
class Volume:
    """A sorted, geometrically sound series.

    `array`: (slices, rows, columns), int16 where the rescale is integral, else float32; HU for CT.
    `affine`: 4x4, (slice, row, column, 1) index → patient LPS, mm.
    `headers`: one data set without pixel data per slice, in the array's order.
    """

    array: npt.NDArray[Any]
    affine: npt.NDArray[np.float64]
    headers: tuple[Dataset, ...]
    sources: tuple[SourceInstance, ...]
    """In the array's order."""
    left_out: int = 0
    """Images of the series that are no part of the volume (localisers)."""

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Distance of neighbouring slices, rows and columns."""
        slice_mm, row_mm, column_mm = (float(np.linalg.norm(self.affine[:3, axis])) for axis in range(3))
        return slice_mm, row_mm, column_mm


def read_headers(sources: Sequence[SourceInstance]) -> tuple[Dataset, ...]:
    """Read the headers of instances, without pixel data, in the order given."""
    return tuple(_read_header(source) for source in sources)


def read_volume(sources: Sequence[SourceInstance]) -> Volume:
    """Read a series of single-frame images into one array, slice by slice.

    Memory: the volume and one slice.

    Raises
    ------
    UnsuitableStudy
        The series makes no volume; the message has figures.
    """
    headers = read_headers(sources)
    pairs = [pair for pair in zip(headers, sources, strict=True) if not is_localiser(pair[0])]
    if not pairs:
        raise UnsuitableStudy("the series has no images but localisers.")
    _check_one_series([header for header, _ in pairs])
    order, affine = stack([plane_of(header) for header, _ in pairs])
    ordered = [pairs[index] for index in order]
    array = _read_pixels(ordered)
    return Volume(
        array=array,
        affine=affine,
        headers=tuple(header for header, _ in ordered),
        sources=tuple(source for _, source in ordered),
        left_out=len(sources) - len(pairs),
    )


def is_localiser(header: Dataset) -> bool:
    """Tell whether an image is a survey for planning. Source: PS3.3 C.8.2.1.1.1 (Image Type value 3)."""
    return any(str(value).upper() in ("LOCALIZER", "SCOUT", "TOPOGRAM") for value in header.get("ImageType") or [])


def _read_header(source: SourceInstance) -> Dataset:
    with source.open() as file:
        return dcmread(file, stop_before_pixels=True)


def _check_one_series(headers: Sequence[Dataset]) -> None:
    if any(int(header.get("NumberOfFrames") or 1) > 1 for header in headers):
        raise UnsuitableStudy("the series holds multi-frame images, which are not read yet.")
    for keyword, what in (("SeriesInstanceUID", "series"), ("FrameOfReferenceUID", "frames of reference")):
        found = {str(header.get(keyword, "")) for header in headers}
        if len(found) > 1:
            raise UnsuitableStudy(f"images of {len(found)} {what} are mixed.")
    if any(int(header.get("SamplesPerPixel") or 1) != 1 for header in headers):
        raise UnsuitableStudy("the images are in colour.")


def _read_pixels(ordered: Sequence[tuple[Dataset, SourceInstance]]) -> npt.NDArray[Any]:
    scales = [_rescale_of(header) for header, _ in ordered]
    first = ordered[0][0]
    is_ct = str(first.get("Modality")) == "CT"
    integral = all(float(slope).is_integer() and float(intercept).is_integer() for slope, intercept in scales)
    shape = (len(ordered), int(first.Rows), int(first.Columns))
    array = np.empty(shape, np.int16 if integral and (is_ct or _fit_int16(ordered, scales)) else np.float32)
    for index, ((header, source), (slope, intercept)) in enumerate(zip(ordered, scales, strict=True)):
        stored = _decode(source)
        if stored.shape != shape[1:]:
            raise UnsuitableStudy("an image's pixels are not of the size that its header says.")
        if array.dtype == np.int16:
            values = stored.astype(np.int32) * int(slope) + int(intercept)
            # No tissue and no metal that a CT can tell lies outside of this range.
            array[index] = np.clip(values, _INT16.min, _INT16.max, out=values)
        else:
            array[index] = stored * slope + intercept
        outside = _outside_field_of_view(stored, header)
        if outside is not None:
            array[index][outside] = _AIR_HU
    if is_ct:
        np.maximum(array, _AIR_HU, out=array)
    return array


def _rescale_of(header: Dataset) -> tuple[float, float]:
    """Slope and intercept. Source: PS3.3 C.11.1."""
    slope, intercept = header.get("RescaleSlope"), header.get("RescaleIntercept")
    if slope is None or intercept is None:
        if str(header.get("Modality")) == "CT":
            raise UnsuitableStudy("an image says nothing of its rescale, so that its values are no Hounsfield units.")
        return 1.0, 0.0
    if not np.isfinite([float(slope), float(intercept)]).all() or float(slope) == 0:
        raise UnsuitableStudy("an image's rescale is no sensible value.")
    return float(slope), float(intercept)


def _fit_int16(ordered: Sequence[tuple[Dataset, SourceInstance]], scales: Sequence[tuple[float, float]]) -> bool:
    for (header, _), (slope, intercept) in zip(ordered, scales, strict=True):
        bits = int(header.get("BitsStored") or 16)
        signed = bool(header.get("PixelRepresentation"))
        low, high = (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if signed else (0, (1 << bits) - 1)
        ends = (low * slope + intercept, high * slope + intercept)
        if min(ends) < _INT16.min or max(ends) > _INT16.max:
            return False
    return True


def _decode(source: SourceInstance) -> npt.NDArray[Any]:
    with source.open() as file:
        try:
            return np.asarray(pixel_array(file))
        except Exception as error:
            raise UnsuitableStudy(
                "an image's pixel data cannot be decoded.", sop_instance_uid=source.sop_instance_uid
            ) from error


def _outside_field_of_view(stored: npt.NDArray[Any], header: Dataset) -> npt.NDArray[np.bool_] | None:
    """Where the scanner padded. Source: PS3.3 C.7.5.1.1.2 (Pixel Padding Value)."""
    value = header.get("PixelPaddingValue")
    if value is None:
        return None
    limit = header.get("PixelPaddingRangeLimit")
    low, high = sorted((int(value), int(value if limit is None else limit)))
    outside = (stored >= low) & (stored <= high)
    return outside if outside.any() else None
