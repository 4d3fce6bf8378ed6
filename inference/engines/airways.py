"""Windpipe and main bronchi: followed from slice to slice, from where they are surest.

Method: region growing from the windpipe with leak control (Hu, Hoffman, Reinhardt 2001, section II.A).
Arrays are head to feet, front to back, right to left.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

Mask = npt.NDArray[np.bool_]

#: The lumen of large airways is darker than this, HU.
_LUMEN_BELOW_HU = -890
#: Cross-section of a windpipe, mm2 (adults: 130 to 400; with room for children and for disease).
_SMALLEST_MM2, _LARGEST_MM2 = 40.0, 700.0
#: Cross-section at which a followed airway has leaked into a lung, as a multiple of the windpipe's.
_LEAK = 1.9
#: Main bronchi are followed this far below the place where the windpipe divides, mm.
_BELOW_CARINA_MM = 45.0
#: The wall and its blur, removed with the lumen, mm.
_WALL_MM = 1.6


def find_airways(values: npt.NDArray[Any], inside: Mask, spacing_mm: tuple[float, float, float]) -> Mask:
    """Give windpipe and main bronchi with their walls; nothing where no windpipe is found."""
    lumen = inside & (values < _LUMEN_BELOW_HU)
    seed = _find_windpipe(lumen, inside, spacing_mm)
    airways = np.zeros_like(inside)
    if seed is None:
        return airways
    level, section = seed
    airways[level] = section
    _follow(airways, lumen, range(level - 1, -1, -1), spacing_mm)
    _follow(airways, lumen, range(level + 1, len(lumen)), spacing_mm)
    radius = max(1, round(_WALL_MM / spacing_mm[1]))
    size = (1, 2 * radius + 1, 2 * radius + 1)
    return np.asarray(ndimage.maximum_filter(airways.view(np.uint8), size).astype(bool) & inside)


def _find_windpipe(lumen: Mask, inside: Mask, spacing_mm: tuple[float, float, float]) -> tuple[int, Mask] | None:
    """Look for a round dark spot near the middle, in the upper third of the lungs; give level and section."""
    per_level = inside.sum(axis=(1, 2)) * spacing_mm[1] * spacing_mm[2]
    lung_levels = np.flatnonzero(per_level > 2500)
    if len(lung_levels) < 3:
        return None
    top, height = int(lung_levels[0]), int(lung_levels[-1] - lung_levels[0] + 1)
    best: tuple[float, int, Mask] | None = None
    for level in range(max(0, top - 2), min(len(lumen), top + max(3, height // 3))):
        columns = np.flatnonzero(inside[level].any(axis=0))
        if not len(columns):
            continue
        middle = (columns[0] + columns[-1]) / 2
        for score, section in _round_spots(lumen[level], middle, spacing_mm):
            if best is None or score > best[0]:
                best = (score, level, section)
    return None if best is None else (best[1], best[2])


def _round_spots(lumen: Mask, middle: float, spacing_mm: tuple[float, float, float]) -> list[tuple[float, Mask]]:
    """Dark spots of a slice that may be the windpipe, with how well they look like one (0 to 1)."""
    labels, count = ndimage.label(lumen)
    pixel_mm2 = spacing_mm[1] * spacing_mm[2]
    spots = []
    for label, box in enumerate(ndimage.find_objects(labels, count), start=1):
        section = labels[box] == label
        area = section.sum() * pixel_mm2
        if not _SMALLEST_MM2 <= area <= _LARGEST_MM2:
            continue
        height, width = section.shape[0] * spacing_mm[1], section.shape[1] * spacing_mm[2]
        aspect = min(height, width) / max(height, width)
        filled = area / (height * width)  # a disc fills 0.785 of its box
        aside_mm = abs((box[1].start + box[1].stop - 1) / 2 - middle) * spacing_mm[2]
        if aspect < 0.45 or filled < 0.5 or aside_mm > 45:
            continue
        spots.append((aspect * min(1.0, filled / 0.785) * (1 - aside_mm / 90), np.asarray(labels == label)))
    return spots


def _follow(airways: Mask, lumen: Mask, levels: range, spacing_mm: tuple[float, float, float]) -> None:
    """Carry the airway from slice to slice until it ends, leaks, or has divided long ago."""
    pixel_mm2 = spacing_mm[1] * spacing_mm[2]
    if not levels:
        return
    former = airways[levels[0] - levels.step]
    usual = former.sum() * pixel_mm2
    divided_for_mm: float | None = None
    for level in levels:
        labels, _ = ndimage.label(lumen[level])
        touched = np.unique(labels[former & lumen[level]])
        pieces = [labels == label for label in touched if label]
        pieces = [piece for piece in pieces if piece.sum() * pixel_mm2 <= _LEAK * max(usual, 120.0)]
        if not pieces:
            return
        if len(pieces) > 1 and divided_for_mm is None:
            divided_for_mm = 0.0
        if divided_for_mm is not None:
            divided_for_mm += spacing_mm[0]
            if divided_for_mm > _BELOW_CARINA_MM:
                return
        section = np.logical_or.reduce(pieces)
        area = section.sum() * pixel_mm2
        if area > 2 * _LEAK * max(usual, 120.0):
            return
        airways[level] = section
        former = section
        if divided_for_mm is None:
            usual = 0.7 * usual + 0.3 * area
