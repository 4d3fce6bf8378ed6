"""The used images as people see them, for the objects that hold pictures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from pydicom import Dataset

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


#: Where a header names no window: lungs and mediastinum of CT are both told apart in it.
_WIDE_CT = (-300.0, 1400.0)


def window_of(header: Dataset) -> tuple[float, float]:
    """Centre and width that the image itself names; else a wide one.

    Source: PS3.3 C.11.2.1.2 (the first of several windows).
    """
    centre, width = (_first(header, keyword) for keyword in ("WindowCenter", "WindowWidth"))
    return (centre, width) if centre is not None and width is not None and width >= 1 else _WIDE_CT


def window_said(header: Dataset) -> str:
    """Say how the grey values of an image as its sender shows it came to be; empty for colours."""
    if header.get("SamplesPerPixel", 1) != 1:
        return ""
    if header.get("VOILUTSequence"):
        return "window of the image"
    centre, width = (_first(header, keyword) for keyword in ("WindowCenter", "WindowWidth"))
    return f"window {centre:g}/{width:g}" if centre is not None and width is not None and width >= 1 else "full range"


def _first(header: Dataset, keyword: str) -> float | None:
    try:
        value = header.get(keyword)
        return float(value[0] if isinstance(value, Sequence) and not isinstance(value, str) else value)
    except (IndexError, TypeError, ValueError):
        return None


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


@dataclass(frozen=True, eq=False)
class RenderedPictures:
    """Single images as their sender shows them, each decoded when it is asked for."""

    render: Callable[[int], Picture]
    """Gives the picture of an index into the evidence."""
    window: str

    def shown(self, index: int) -> Picture:
        """Give one image."""
        return self.render(index)
