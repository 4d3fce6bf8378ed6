"""CT volumes in the order of axes in which the model was trained, and back.

The model saw arrays as converters to NIfTI store them: columns first, then rows, then slices. That this means columns
towards the left, rows towards the front, slices towards the head was inferred and not checked against the weights: it
is one setting.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import permutations
from typing import Any

import numpy as np
import numpy.typing as npt

#: Towards which side each axis rises: left, anterior, superior.
TRAINED = "LAS"

#: Letter → axis of patient coordinates (LPS) and direction along it. Source: PS3.3 C.7.6.2.1.1.
_TOWARDS = {"L": (0, 1), "R": (0, -1), "P": (1, 1), "A": (1, -1), "S": (2, 1), "I": (2, -1)}


@dataclass(frozen=True)
class TrainedAxes:
    """How a volume's axes become those of the model."""

    order: tuple[int, int, int]
    """Axes of the volume, in the model's order."""
    flipped: tuple[bool, bool, bool]
    """In the model's order."""

    @classmethod
    def of(cls, affine: npt.NDArray[np.float64], letters: str = TRAINED) -> TrainedAxes:
        """Find them from a volume's geometry; an oblique axis counts as the one that it is nearest to.

        Parameters
        ----------
        affine
            4x4, (slice, row, column) index → patient LPS.
        letters
            Towards which side each axis of the model rises, such as `LAS`.
        """
        steps = affine[:3, :3]
        directions = steps / np.linalg.norm(steps, axis=0)
        wanted = np.zeros((3, 3))
        for axis, (world, sign) in enumerate(towards(letters)):
            wanted[world, axis] = sign
        along = wanted.T @ directions  # (axis of the model, axis of the volume)
        order = max(permutations(range(3)), key=lambda each: sum(abs(along[axis, each[axis]]) for axis in range(3)))
        flipped = tuple(bool(along[axis, order[axis]] < 0) for axis in range(3))
        return cls((order[0], order[1], order[2]), (flipped[0], flipped[1], flipped[2]))

    def apply(self, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """View a volume (slices, rows, columns) in the model's axes."""
        return array.transpose(self.order)[self._turns]

    def undo(self, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """View an array in the model's axes as (slices, rows, columns) again."""
        return array[self._turns].transpose(tuple(np.argsort(self.order)))

    @property
    def _turns(self) -> tuple[slice, ...]:
        return tuple(slice(None, None, -1 if flip else 1) for flip in self.flipped)


def towards(letters: str) -> tuple[tuple[int, int], ...]:
    """Axis of patient coordinates and direction of each letter.

    Raises
    ------
    ValueError
        They are not three letters of three different axes.
    """
    found = tuple(_TOWARDS[letter] for letter in letters if letter in _TOWARDS)
    if len(letters) != 3 or {world for world, _ in found} != {0, 1, 2}:
        raise ValueError(f"{letters!r} is no order of axes: one letter each of L or R, A or P, S or I")
    return found
