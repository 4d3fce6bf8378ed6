"""Mask logits to masks on the grid of the source."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from inference.engines.medversa.preprocess import Floats, nearest_along

Mask = npt.NDArray[np.bool_]

#: Logit from which on a pixel belongs to the mask: a probability of one half.
THRESHOLD = 0.0

#: Slices that are interpolated at a time: a whole volume of floats is never in memory.
_SLAB = 16


def mask_of(logits: Floats) -> Mask:
    """Mask on the model's own grid."""
    return logits >= THRESHOLD


def mask_of_image(logits: Floats, shape: tuple[int, int]) -> Mask:
    """Mask on an image of (rows, columns) that was resized edge to edge.

    The logits are interpolated and cut once, so that the outline is as smooth as the grid allows.
    """
    return _interpolated(logits, [_centres(had, wanted) for had, wanted in zip(logits.shape, shape, strict=True)])


def mask_of_volume(logits: Floats, shape: tuple[int, int, int]) -> Mask:
    """Mask on a volume (depth, axis 1, axis 2) that was resampled with its first and last voxels kept."""
    depth, first, second = (_ends(had, wanted) for had, wanted in zip(logits.shape, shape, strict=True))
    mask = np.empty(shape, np.bool_)
    for start in range(0, shape[0], _SLAB):
        mask[start : start + _SLAB] = _interpolated(logits, [depth[start : start + _SLAB], first, second])
    return mask


def largest_component(mask: Mask) -> Mask:
    """The largest of a 2D mask's parts; pixels that touch at a corner belong together."""
    labels, count = ndimage.label(mask, np.ones((3, 3)))
    if count < 2:
        return mask
    areas = np.bincount(labels.ravel())
    areas[0] = 0
    return np.asarray(labels == areas.argmax())


def resized_image_mask(mask: Mask, shape: tuple[int, int]) -> Mask:
    """Resize a 2D mask by nearest neighbours, as the reference answers it."""
    rows, columns = (np.arange(wanted) * had // wanted for had, wanted in zip(mask.shape, shape, strict=True))
    return mask[np.ix_(rows, columns)]


def resized_volume_mask(mask: Mask, shape: tuple[int, int, int]) -> Mask:
    """Resize a 3D mask by nearest neighbours, as the reference answers it."""
    return mask[np.ix_(*(nearest_along(had, wanted) for had, wanted in zip(mask.shape, shape, strict=True)))]


def _interpolated(logits: Floats, places: Sequence[npt.NDArray[np.float64]]) -> Mask:
    """Logits at the given places along each axis, linear between neighbours, cut."""
    values = logits
    for axis, place in enumerate(places):
        low = np.floor(place).astype(np.intp)
        high = np.minimum(low + 1, logits.shape[axis] - 1)
        share = (place - low).astype(np.float32).reshape([-1 if each == axis else 1 for each in range(logits.ndim)])
        values = values.take(low, axis) * (1 - share) + values.take(high, axis) * share
    return mask_of(values)


def _centres(had: int, wanted: int) -> npt.NDArray[np.float64]:
    """Where the centres of `wanted` pixels lie among `had`, edges on edges."""
    return np.clip((np.arange(wanted) + 0.5) * had / wanted - 0.5, 0, had - 1)


def _ends(had: int, wanted: int) -> npt.NDArray[np.float64]:
    """Where `wanted` voxels lie among `had`, ends on ends."""
    return np.linspace(0, had - 1, wanted) if wanted > 1 else np.zeros(1)
