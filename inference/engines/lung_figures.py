"""Numbers of outlined lungs, and when a number is withheld.

Methods: density mask at -950 HU (Gevenois 1995), 15th percentile (Dirksen 1999, Parr 2008). The conditions follow the
QIBA profile for CT lung densitometry: thin slices, a smooth kernel, no contrast, both lungs whole.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom import Dataset

from inference.kernels import kernel_name, kernel_sharpness

Mask = npt.NDArray[np.bool_]

#: Thickest slice for densitometry indices, mm.
THICKEST_FOR_INDICES_MM = 1.5
#: Lung in an end slice of the scan that still counts as whole lungs, cm2.
_WHOLE_END_CM2 = 3.0

#: What scanners write where a contrast agent would stand and none was given.
_NO_CONTRAST = frozenset({"", "NO", "NONE", "N", "0", "WITHOUT", "NATIVE", "UNENHANCED", "NO CONTRAST", "W/O"})


@dataclass(frozen=True)
class LungFigures:
    """Numbers of one lung, or of both."""

    volume_ml: float
    mean_hu: float
    below_950_percent: float
    percentile_15_hu: float


def figures_of(array: npt.NDArray[Any], lung: Mask, voxel_ml: float) -> LungFigures:
    """Measure all voxels of a lung; `lung` must not be empty."""
    values = np.rint(array[lung]).astype(np.int32)
    lowest = int(values.min())
    counts = np.bincount(values - lowest)
    levels = np.arange(lowest, lowest + len(counts))
    total = int(counts.sum())
    return LungFigures(
        volume_ml=total * voxel_ml,
        mean_hu=float((counts * levels).sum() / total),
        below_950_percent=100.0 * float(counts[levels < -950].sum()) / total,
        percentile_15_hu=_percentile(counts, lowest, 0.15),
    )


def _percentile(counts: npt.NDArray[Any], lowest: int, share: float) -> float:
    """Value that `share` of the voxels lie below; between two whole numbers as their counts say."""
    cumulative = np.cumsum(counts)
    wanted = share * cumulative[-1]
    level = int(np.searchsorted(cumulative, wanted))
    before = float(cumulative[level - 1]) if level else 0.0
    return float(lowest + level - 0.5 + (wanted - before) / float(counts[level]))


def why_no_indices(header: Dataset, thickness_mm: float, end_areas_cm2: tuple[float, float]) -> str:
    """Say why LAA-950 and Perc15 are withheld; empty: they are not."""
    reasons = []
    if thickness_mm > THICKEST_FOR_INDICES_MM + 1e-6:
        reasons.append(f"slice thickness {thickness_mm:.1f} mm (needs {THICKEST_FOR_INDICES_MM} mm or less)")
    if kernel_sharpness(header) == "sharp":
        reasons.append(f"sharp kernel {kernel_name(header)}")
    if contrast_was_given(header):
        reasons.append("contrast was given")
    for area, end in zip(end_areas_cm2, ("upper", "lower"), strict=True):
        if area > _WHOLE_END_CM2:
            reasons.append(f"the {end} end of the lungs is not covered ({area:.0f} cm2 in the end slice)")
    return "; ".join(reasons)


def contrast_was_given(header: Dataset) -> bool:
    """Tell whether the header says so. Source: PS3.3 C.7.6.4, of multi-frame images C.7.6.4b."""
    agent = str(header.get("ContrastBolusAgent") or "").strip().upper()
    if agent not in _NO_CONTRAST or header.get("ContrastBolusAgentSequence"):
        return True
    try:
        return float(header.get("ContrastBolusVolume") or 0) > 0
    except (TypeError, ValueError):
        return False


def end_areas_cm2(lungs: Mask, spacing_mm: tuple[float, float, float]) -> tuple[float, float]:
    """Lung in the first and the last slice, cm2; `lungs` from head to feet."""
    pixel_cm2 = spacing_mm[1] * spacing_mm[2] / 100
    return float(lungs[0].sum() * pixel_cm2), float(lungs[-1].sum() * pixel_cm2)
