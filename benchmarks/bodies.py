"""Outlines to be written: ellipsoids side by side, each through about 60 % of the slices."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from inference.findings import Segment
from tests.builders.findings import lungs


def bodies(count: int, slices: int, rows: int, columns: int) -> tuple[Segment, ...]:
    """Outline this many, at most 25, in a series of this shape; 512x512 is what they fill."""
    z, y, x = np.ogrid[:slices, :rows, :columns]
    first = lungs().segments[0]
    made = []
    for number in range(count):
        cy, cx = 60 + 95 * (number // 5), 60 + 95 * (number % 5)
        inside = ((y - cy) / 36) ** 2 + ((x - cx) / 36) ** 2 + ((z - slices / 2) / (slices * 0.3)) ** 2 < 1
        made.append(replace(first, label=f"Part {number + 1}", tracking_id=f"part-{number}", mask=inside))
    return tuple(made)
