"""The used images as people see them, for the objects that hold pictures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

Picture = npt.NDArray[np.uint8]


class Pictures(Protocol):
    """Gives used images as shown."""

    @property
    def window(self) -> str:
        """How grey values were made, for a reader; empty for colour images."""
        ...

    def shown(self, index: int) -> Picture:
        """Give one image, (rows, columns) grey or (rows, columns, 3) sRGB, on its own pixel grid.

        `index`: into the evidence, the order of the masks' slices.
        """
        ...


@dataclass(frozen=True, eq=False)
class WindowedPictures:
    """Slices of a volume through one window.

    Source: PS3.3 C.11.2.1.2.1 (linear window).
    """

    array: npt.NDArray[Any]
    """(slices, rows, columns)."""
    centre: float
    width: float

    @property
    def window(self) -> str:
        """Centre and width."""
        return f"window {self.centre:g}/{self.width:g}"

    def shown(self, index: int) -> Picture:
        """Give one slice in grey."""
        values = self.array[index].astype(np.float32)
        scaled = (values - (self.centre - 0.5)) / max(self.width - 1.0, 1.0) + 0.5
        return np.asarray(np.clip(scaled * 255.0, 0.0, 255.0)).astype(np.uint8)
