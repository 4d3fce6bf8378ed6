"""A series as one array with its geometry."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, overload

import numpy as np
import numpy.typing as npt
from pydicom import Dataset

from inference.errors import UnreadablePixels, UnsuitableStudy
from inference.geometry import stack
from inference.loading import FrameDecoder, load
from inference.slices import Slice, SourceInstance, find_slices, is_localiser, read_headers

__all__ = ["Headers", "SourceInstance", "Volume", "is_localiser", "read_headers", "read_volume"]


class Headers(Sequence[Dataset]):
    """One header per slice, without pixel data; read when it is asked for."""

    def __init__(self, readers: Sequence[Callable[[], Dataset]]) -> None:
        self._readers = readers
        self._read: dict[int, Dataset] = {}

    def __len__(self) -> int:
        return len(self._readers)

    @overload
    def __getitem__(self, index: int) -> Dataset: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Dataset]: ...
    def __getitem__(self, index: int | slice) -> Dataset | Sequence[Dataset]:
        if isinstance(index, slice):
            return Headers(self._readers[index])
        at = range(len(self))[index]
        if at not in self._read:
            self._read[at] = self._readers[at]()
        return self._read[at]


@dataclass(frozen=True, eq=False)
class Volume:
    """A sorted, geometrically sound series.

    `array`: (slices, rows, columns), int16 where the rescale is integral, else float32; HU for CT.
    `affine`: 4x4, (slice, row, column, 1) index → patient LPS, mm.
    `headers`: one data set without pixel data per slice, in the array's order; of a frame of a multi-frame image as a
    single-frame image would have it (`functional_groups.py`).
    """

    array: npt.NDArray[Any]
    affine: npt.NDArray[np.float64]
    headers: Sequence[Dataset]
    sources: tuple[SourceInstance, ...]
    """Of each slice, in the array's order: the same one for all frames of a multi-frame image."""
    frame_numbers: tuple[int | None, ...]
    """Of each slice in its source, from 1; None: the source has one frame."""
    left_out: int = 0
    """Images of the series that are no part of the volume (localisers)."""

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Distance of neighbouring slices, rows and columns."""
        slice_mm, row_mm, column_mm = (float(np.linalg.norm(self.affine[:3, axis])) for axis in range(3))
        return slice_mm, row_mm, column_mm


def read_volume(sources: Sequence[SourceInstance], decoder: FrameDecoder | None = None) -> Volume:
    """Read a series, of single-frame or of multi-frame images, into one array.

    Memory: the volume, and a slice for each thread. Headers are read when they are asked for.

    Parameters
    ----------
    decoder
        Decodes compressed frames; None: this process does.

    Raises
    ------
    UnsuitableStudy
        The series makes no volume; the message has figures.
    """
    if not sources:
        raise UnsuitableStudy("there are no images.")
    slices, left_out = find_slices(sources)
    if not slices:
        raise UnsuitableStudy("the series has no images but localisers.")
    _check_one_series(slices)
    order, affine = stack([each.plane for each in slices], thickness_mm=slices[0].facts.thickness_mm)
    ordered = [slices[index] for index in order]
    try:
        array = load([each.stored for each in ordered], decoder)
    except UnreadablePixels as error:
        raise UnsuitableStudy(f"an image cannot be read: {error}") from error
    return Volume(
        array=array,
        affine=affine,
        headers=Headers([each.read_header for each in ordered]),
        sources=tuple(each.source for each in ordered),
        frame_numbers=tuple(each.frame_number for each in ordered),
        left_out=left_out,
    )


def _check_one_series(slices: Sequence[Slice]) -> None:
    for what, found in (
        ("series", {each.facts.series_instance_uid for each in slices}),
        ("frames of reference", {each.facts.frame_of_reference_uid for each in slices}),
    ):
        if len(found) > 1:
            raise UnsuitableStudy(f"images of {len(found)} {what} are mixed.")
    kernels = sorted({each.facts.kernel for each in slices})
    if len(kernels) > 1:
        raise UnsuitableStudy(f"images of {len(kernels)} kernels are mixed ({', '.join(kernels)}).")


def gap_in(sources: Sequence[SourceInstance]) -> str:
    """Say why the images of a series do not lie one behind the other without a gap; empty: they do.

    Looks at headers alone. One image has no gap; images without a place in the patient have none that could be seen.
    """
    if len(sources) < 2 or read_headers(sources[:1])[0].get("ImagePositionPatient") is None:
        return ""
    try:
        slices, _ = find_slices(sources)
        if len(slices) > 1:
            stack([each.plane for each in slices], thickness_mm=slices[0].facts.thickness_mm)
    except UnsuitableStudy as error:
        return str(error)
    return ""
