"""An array seen as a radiologist names its axes: head to feet, front to back, right to left."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from inference.errors import UnsuitableStudy

#: Slices may lean this much away from the body's axes and still count as axial: cosine of 30 degrees.
_AXIAL = 0.866


@dataclass(frozen=True)
class Orientation:
    """How to turn an array of one volume into head-feet, front-back, right-left, and back. No voxel is copied."""

    order: tuple[int, int, int]
    """Array axis that runs along head-feet, front-back, right-left."""
    flipped: tuple[bool, bool, bool]
    """Whether that axis runs the other way."""
    spacing_mm: tuple[float, float, float]
    """Voxel size along head-feet, front-back, right-left."""

    @classmethod
    def of_axial(cls, affine: npt.NDArray[np.float64]) -> Orientation:
        """Find the orientation of an axial volume.

        Raises
        ------
        UnsuitableStudy
            The slices are not axial.
        """
        steps = affine[:3, :3]
        lengths = np.linalg.norm(steps, axis=0)
        directions = steps / lengths
        normal = np.cross(directions[:, 1], directions[:, 2])
        if abs(normal[2]) < _AXIAL:
            angle = np.degrees(np.arccos(min(1.0, abs(float(normal[2])))))
            raise UnsuitableStudy(f"the slices are not axial (turned by {angle:.0f}° from it).")
        across = 1 if abs(directions[0, 1]) > abs(directions[0, 2]) else 2
        order = (0, 3 - across, across)
        # LPS: z rises to the head, y to the back, x to the patient's left (PS3.3 C.7.6.2.1.1).
        flipped = (
            bool(directions[2, order[0]] > 0),
            bool(directions[1, order[1]] < 0),
            bool(directions[0, order[2]] < 0),
        )
        return cls(order, flipped, (float(lengths[order[0]]), float(lengths[order[1]]), float(lengths[order[2]])))

    def apply(self, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """View an array as head-feet, front-back, right-left."""
        return array.transpose(self.order)[tuple(slice(None, None, -1 if flip else 1) for flip in self.flipped)]

    def undo(self, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """View an array so turned in the volume's own order again."""
        turned = array[tuple(slice(None, None, -1 if flip else 1) for flip in self.flipped)]
        return turned.transpose(tuple(np.argsort(self.order)))
