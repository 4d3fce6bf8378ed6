"""Pictures of masks on their source: three planes, as a radiologist hangs them.

Head up, front up, the patient's right on the left; outlines rather than fills; marked as research.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from io import BytesIO
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

from inference.engines.orientation import Orientation
from inference.findings import Mask
from inference.volume import Volume

Plane = Literal["axial", "coronal", "sagittal"]
Colour = tuple[int, int, int]

#: Axis of (head-feet, front-back, right-left) that a plane is cut across.
_ACROSS: dict[Plane, int] = {"axial": 0, "coronal": 1, "sagittal": 2}
#: Letters at the left, right, upper and lower edge. Source: PS3.3 C.7.6.1.1.1 (Patient Orientation).
_EDGES: dict[Plane, tuple[str, str, str, str]] = {
    "axial": ("R", "L", "A", "P"),
    "coronal": ("R", "L", "H", "F"),
    "sagittal": ("A", "P", "H", "F"),
}
#: Lung window, HU.
_BLACK_HU, _WHITE_HU = -1350.0, 150.0
_WIDTH = 640
_FILL = 0.18


def overlay_png(
    volume: Volume, segments: Sequence[tuple[str, Mask, Colour]], plane: Plane, *, engine: str, index: int | None = None
) -> bytes:
    """Draw one cut of an axial CT volume with outlines.

    Parameters
    ----------
    segments
        Label, mask of the volume's shape, colour.
    engine
        Name of what made the masks, burned in.
    index
        Position along the plane's axis, from head, front or right; None: where the masks are largest.

    Raises
    ------
    UnsuitableStudy
        The volume is not axial.
    """
    orientation = Orientation.of_axial(volume.affine)
    array = orientation.apply(volume.array)
    masks = [(label, orientation.apply(mask), colour) for label, mask, colour in segments]
    axis = _ACROSS[plane]
    at = _largest(masks, axis, array.shape[axis]) if index is None else min(max(index, 0), array.shape[axis] - 1)
    rows_mm, columns_mm = (mm for each, mm in enumerate(orientation.spacing_mm) if each != axis)
    size = _size(np.take(array, at, axis).shape, rows_mm, columns_mm)
    picture = _grey(np.take(array, at, axis), size)
    for _, mask, colour in masks:
        _outline(picture, np.take(mask, at, axis), colour, size)
    image = Image.fromarray(picture)
    _write(image, plane, engine, [(label, colour) for label, _, colour in masks], f"{at + 1} of {array.shape[axis]}")
    buffer = BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def _largest(masks: Sequence[tuple[str, Mask, Colour]], axis: int, length: int) -> int:
    """Where most of the masks is cut; the middle where there is none."""
    others = tuple(each for each in range(3) if each != axis)
    areas = sum((mask.sum(axis=others) for _, mask, _ in masks), start=np.zeros(length, dtype=np.int64))
    return int(np.argmax(areas)) if areas.any() else length // 2


def _size(shape: tuple[int, ...], rows_mm: float, columns_mm: float) -> tuple[int, int]:
    """Picture size, columns and rows, with true proportions."""
    return _WIDTH, max(64, round(_WIDTH * shape[0] * rows_mm / (shape[1] * columns_mm)))


def _grey(cut: npt.NDArray[Any], size: tuple[int, int]) -> npt.NDArray[np.uint8]:
    values = np.clip((cut.astype(np.float32) - _BLACK_HU) / (_WHITE_HU - _BLACK_HU), 0, 1)
    grey = Image.fromarray((values * 255).astype(np.uint8)).resize(size, Image.Resampling.BILINEAR)
    return np.repeat(np.asarray(grey)[:, :, None], 3, axis=2).copy()


def _outline(picture: npt.NDArray[np.uint8], mask: Mask, colour: Colour, size: tuple[int, int]) -> None:
    """Tint the inside a little and draw the edge."""
    scaled = Image.fromarray(mask.astype(np.uint8) * 255).resize(size, Image.Resampling.NEAREST)
    inside = np.asarray(scaled) > 127
    edge = ndimage.binary_dilation(inside) & ~ndimage.binary_erosion(inside)
    tint = np.asarray(colour, dtype=np.float32)
    picture[inside] = (picture[inside] * (1 - _FILL) + tint * _FILL).astype(np.uint8)
    picture[edge] = colour


def _write(image: Image.Image, plane: Plane, engine: str, legend: Sequence[tuple[str, Colour]], where: str) -> None:
    # Edged in black: it must be read on white tissue too.
    write = partial(ImageDraw.Draw(image).text, stroke_width=1, stroke_fill=(0, 0, 0))
    small, large = ImageFont.load_default(14), ImageFont.load_default(18)
    width, height = image.size
    left, right, upper, lower = _EDGES[plane]
    for text, place, anchor in (
        (left, (8, height / 2), "lm"),
        (right, (width - 8, height / 2), "rm"),
        (upper, (width / 2, 6), "mt"),
        (lower, (width / 2, height - 6), "mb"),
    ):
        write(place, text, fill=(255, 255, 255), font=large, anchor=anchor)
    write((8, 6), "RESEARCH", fill=(255, 200, 60), font=large)
    write((8, 30), engine, fill=(220, 220, 220), font=small)
    write((width - 8, 6), f"{plane} {where}", fill=(220, 220, 220), font=small, anchor="rt")
    for number, (label, colour) in enumerate(legend):
        write((8, height - 8 - 20 * (len(legend) - 1 - number)), label, fill=colour, font=small, anchor="lb")
