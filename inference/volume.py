"""A series as one array with its geometry."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
from pydicom import Dataset


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
