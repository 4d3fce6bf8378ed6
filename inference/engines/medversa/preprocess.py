"""Pixels to what the model was trained to see, and the way back for its masks.

Everything here is a resampling of whole axes: what is done to an image on its way in is undone for its mask exactly.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

Floats = npt.NDArray[np.float32]

#: Of red, green, blue, on a scale of 0 to 1.
MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)

#: HU beyond which a volume is cut off.
LOWEST_HU, HIGHEST_HU = -200, 300


def image_pixels(image: npt.NDArray[np.uint8], side: int) -> Floats:
    """Normalise one image; its aspect is not kept.

    Parameters
    ----------
    image
        (rows, columns, 3), RGB.
    side
        Rows and columns of the answer.

    Returns
    -------
    Floats
        (3, side, side).
    """
    resized = Image.fromarray(image).resize((side, side), Image.Resampling.BILINEAR)
    scaled = np.asarray(resized, dtype=np.float32) / np.float32(255)
    normalised = (scaled - np.asarray(MEAN, np.float32)) / np.asarray(STD, np.float32)
    return np.ascontiguousarray(normalised.transpose(2, 0, 1))


def volume_voxels(hu: npt.NDArray[Any], size: tuple[int, int, int]) -> npt.NDArray[Any]:
    """Cut off and resample a volume by nearest neighbours.

    Parameters
    ----------
    hu
        (axis 1, axis 2, depth): the two in-plane axes first, as the model's training files have them.
    size
        (depth, axis 1, axis 2) of the answer.

    Returns
    -------
    npt.NDArray
        (depth, axis 1, axis 2), of the type given.
    """
    depth_first = np.moveaxis(hu, -1, 0)
    picked = depth_first[
        np.ix_(*(nearest_along(had, wanted) for had, wanted in zip(depth_first.shape, size, strict=True)))
    ]
    clipped: npt.NDArray[Any] = np.clip(picked, LOWEST_HU, HIGHEST_HU)
    return clipped


def foreground(voxels: npt.NDArray[Any]) -> tuple[float, float]:
    """Mean and standard deviation of what is brighter than the mean of all; 0 and 1 where nothing is."""
    bright = voxels[voxels > voxels.mean(dtype=np.float64)]
    if bright.size < 2:
        return float(bright.mean()) if bright.size else 0.0, 1.0
    spread = float(bright.std(dtype=np.float64, ddof=1))
    return float(bright.mean(dtype=np.float64)), spread if spread > 0 else 1.0


def normalised_volume(voxels: npt.NDArray[Any]) -> Floats:
    """Normalise a resampled volume by its foreground."""
    mean, spread = foreground(voxels)
    return ((voxels.astype(np.float32) - np.float32(mean)) / np.float32(spread)).astype(np.float32)


def nearest_along(had: int, wanted: int) -> npt.NDArray[np.intp]:
    """For each of `wanted` places along an axis, which of `had` it takes; first and last meet first and last."""
    if wanted == 1:
        return np.zeros(1, np.intp)
    places = np.arange(wanted) * ((had - 1) / (wanted - 1))
    return np.asarray(np.floor(places + 0.5), np.intp)
