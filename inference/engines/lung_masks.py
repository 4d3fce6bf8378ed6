"""Where the lungs are: threshold, connectivity, airways away, left from right, smoothing.

Methods: Hu, Hoffman, Reinhardt 2001 (threshold, connectivity, left-right separation, smoothing);
Armato, Sensakovic 2004 (what a rolling element at the hilum does to volumes). Found at half resolution in the
slice, refined at full resolution.

All arrays are head to feet, front to back, right to left (`orientation.py`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from inference.engines.airways import find_airways
from inference.errors import UnsuitableStudy

Mask = npt.NDArray[np.bool_]
Array = npt.NDArray[Any]

#: Both lungs of an adult at any depth of breath, ml.
SMALLEST_ML, LARGEST_ML = 1000.0, 9000.0
#: Less air than this in the body is no pair of lungs, whatever its outline, ml.
_LEAST_AIR_ML = 500.0
#: Lung is darker than this, soft tissue brighter, HU.
AIR_BELOW_HU = -400
#: A region that touches the image's edge and is mostly as dark as this is the room, not a cut lung.
_ROOM_HU = -940
#: An enclosed region as dark as this on average is air between arm and body, or in the bowel.
_BARE_AIR_MEAN_HU = -965
#: Body around a region that the field of view cuts, as a share of its rim.
_MOSTLY = 0.6
#: Shells of the couch and folds of blankets are thinner than twice this, mm.
_SHELL_MM = 2.5
#: A scan ends inside the lungs where an end slice holds this share of the widest slice's area.
_OPEN_END = 0.5
#: A lung has at least this share of both lungs' volume.
_SMALLEST_SHARE = 0.08
#: Holes of a slice up to this size are vessels and belong to the lung, mm2.
_VESSEL_MM2 = 250.0
#: Notches of the outline narrower than twice this are closed, mm.
_CLOSING_MM = 4.0

_IN_SLICE = ndimage.generate_binary_structure(3, 1).copy()
_IN_SLICE[0] = _IN_SLICE[2] = False


@dataclass(frozen=True, eq=False)
class LungMasks:
    """What was found."""

    right: Mask
    left: Mask
    airway_voxels: int
    """Voxels below the threshold that belonged to windpipe and main bronchi."""


def find_lungs(array: Array, spacing_mm: tuple[float, float, float]) -> LungMasks:
    """Outline both lungs, without windpipe and main bronchi.

    Raises
    ------
    UnsuitableStudy
        There are not two lungs to be found; the message has figures.
    """
    coarse, factor = _coarse(array)
    coarse_mm = (spacing_mm[0], spacing_mm[1] * factor, spacing_mm[2] * factor)
    air = coarse < AIR_BELOW_HU
    inside = _inside_body(air, coarse, coarse_mm)
    airways = find_airways(coarse, inside, coarse_mm)
    right, left = _two_lungs(inside & ~airways, coarse, coarse_mm)
    smooth = [_smooth(lung, coarse_mm) & ~airways for lung in (right, left)]
    smooth[1] &= ~smooth[0]
    fine = _refine(array, smooth, airways, factor)
    return LungMasks(right=fine[0], left=fine[1], airway_voxels=_fine_airways(array, airways, fine, factor))


def _coarse(array: Array) -> tuple[Array, int]:
    """Average 2x2 pixels of each slice, where the slice is large."""
    if min(array.shape[1:]) < 320:
        return array, 1
    even = array[:, : array.shape[1] // 2 * 2, : array.shape[2] // 2 * 2]
    total = even[:, ::2, ::2].astype(np.int32 if even.dtype.kind == "i" else np.float32)
    for row, column in ((0, 1), (1, 0), (1, 1)):
        total += even[:, row::2, column::2]
    return (total // 4).astype(np.int16) if total.dtype.kind == "i" else total / 4, 2


def _inside_body(air: Mask, values: Array, spacing_mm: tuple[float, float, float]) -> Mask:
    """Air that the body encloses in its slice, or nearly so where the field of view cuts it."""
    body = _body(~air, spacing_mm)
    labels, count = ndimage.label(~body, structure=_IN_SLICE)
    edges = [labels[:, edge, :].ravel() for edge in (0, -1)] + [labels[:, :, edge].ravel() for edge in (0, -1)]
    at_edge = np.unique(np.concatenate(edges))
    keep = np.ones(count + 1, dtype=bool)
    keep[0] = False
    keep[at_edge] = False
    boxes = ndimage.find_objects(labels)
    for label in at_edge[at_edge > 0]:
        level = boxes[label - 1][0].start  # a region lies in one slice
        keep[label] = _is_cut_lung(labels[level] == label, values[level], body[level])
    return np.asarray(keep[labels] & air)


def _body(tissue: Mask, spacing_mm: tuple[float, float, float]) -> Mask:
    """The patient without couch and blankets: the largest piece of tissue once thin shells are gone."""
    radius = max(1, round(_SHELL_MM / spacing_mm[1]))
    size = (1, 2 * radius + 1, 2 * radius + 1)
    solid = ndimage.maximum_filter(ndimage.minimum_filter(tissue.view(np.uint8), size, mode="nearest"), size)
    labels, count = ndimage.label(solid)
    if count == 0:
        raise UnsuitableStudy("lungs not covered: there is no body in the images.")
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    return np.asarray(labels == sizes.argmax())


def _is_cut_lung(region: Mask, values: Array, body: Mask) -> bool:
    """Tell a lung that the field of view cuts from the room: too dense for a room, and body nearly all around."""
    if np.median(values[region]) < _ROOM_HU:
        return False
    rim = ndimage.binary_dilation(region) & ~region
    return bool(body[rim].mean() > _MOSTLY)


def _two_lungs(inside: Mask, values: Array, spacing_mm: tuple[float, float, float]) -> tuple[Mask, Mask]:
    """Tell the right from the left lung; where they are fused, part them at the thinnest place."""
    labels, _ = ndimage.label(inside)
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    biggest = [int(label) for label in np.argsort(sizes)[::-1][:8] if sizes[label] > 0]
    means = np.asarray(ndimage.mean(values, labels, biggest)) if biggest else np.empty(0)
    lungs = [label for label, mean in zip(biggest, means, strict=True) if mean > _BARE_AIR_MEAN_HU]
    if not lungs:
        raise UnsuitableStudy("lungs not covered: there is no air-filled lung inside the body.")
    _check_covered(np.isin(labels, lungs[:2]), spacing_mm)
    total = sizes[lungs[:2]].sum()
    voxel_ml = float(np.prod(spacing_mm)) / 1000
    if total * voxel_ml < _LEAST_AIR_ML:
        raise UnsuitableStudy(
            f"lungs not covered: {total * voxel_ml / 1000:.2f} L of air-filled lung were found, "
            f"{SMALLEST_ML / 1000:.0f} to {LARGEST_ML / 1000:.0f} L are plausible."
        )
    if len(lungs) > 1 and sizes[lungs[1]] >= _SMALLEST_SHARE * total:
        first, second = labels == lungs[0], labels == lungs[1]
        if abs(_centre_x(first) - _centre_x(second)) * spacing_mm[2] > 50:
            return _right_first(first, second)
    return _part(labels == lungs[0], values, spacing_mm)


def _check_covered(lungs: Mask, spacing_mm: tuple[float, float, float]) -> None:
    """Refuse a scan that begins or ends in the middle of the lungs."""
    areas_cm2 = lungs.sum(axis=(1, 2)) * spacing_mm[1] * spacing_mm[2] / 100
    widest = float(areas_cm2.max())
    for area, end in ((areas_cm2[0], "upper"), (areas_cm2[-1], "lower")):
        if area > _OPEN_END * widest:
            raise UnsuitableStudy(
                f"lungs not covered: {area:.0f} cm2 of lung lie in the {end} end slice of the scan "
                f"(widest slice: {widest:.0f} cm2)."
            )


def _part(fused: Mask, values: Array, spacing_mm: tuple[float, float, float]) -> tuple[Mask, Mask]:
    """Part one region into two lungs: cut off what is bright or thin until two large cores remain, then grow them."""
    box = ndimage.find_objects(fused.astype(np.uint8))[0]
    region = fused[box]
    pair = next((pair for core in _cores(region, values[box], spacing_mm) if (pair := _largest_two(core))), None)
    if pair is None:
        litres = float(region.sum() * np.prod(spacing_mm)) / 1e6
        raise UnsuitableStudy(f"only one lung was found ({litres:.2f} L); two are needed to tell right from left.")
    right, left = _right_first(*pair)
    markers = right.astype(np.int8) + 2 * left.astype(np.int8)
    nearest = ndimage.distance_transform_edt(
        markers == 0, sampling=spacing_mm, return_distances=False, return_indices=True
    )
    grown = markers[tuple(nearest)]
    parted = [np.zeros_like(fused), np.zeros_like(fused)]
    for side, label in zip(parted, (1, 2), strict=True):
        side[box] = region & (grown == label)
    return parted[0], parted[1]


def _cores(region: Mask, values: Array, spacing_mm: tuple[float, float, float]) -> Iterator[Mask]:
    """Give what surely is lung, stricter and stricter: by density, which is quick, then by depth."""
    for limit in (-500, -600, -700):
        yield region & (values < limit)
    depth = np.asarray(ndimage.distance_transform_edt(region, sampling=spacing_mm))
    for cut_mm in (2.0, 3.5, 5.0, 7.0, 9.0, 12.0):
        yield depth > cut_mm


def _largest_two(core: Mask) -> tuple[Mask, Mask] | None:
    """Give the two largest pieces, if both are large and lie beside each other."""
    labels, count = ndimage.label(core)
    if count < 2:
        return None
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    one, other = (int(label) for label in np.argsort(sizes)[::-1][:2])
    if sizes[other] < 0.15 * (sizes[one] + sizes[other]):
        return None
    first, second = labels == one, labels == other
    beside = abs(_centre_x(first) - _centre_x(second))
    return (first, second) if beside > 0.2 * core.shape[2] else None


def _centre_x(mask: Mask) -> float:
    weights = mask.sum(axis=(0, 1), dtype=np.int64)
    return float((weights * np.arange(len(weights))).sum() / max(1, weights.sum()))


def _right_first(one: Mask, other: Mask) -> tuple[Mask, Mask]:
    return (one, other) if _centre_x(one) < _centre_x(other) else (other, one)


def _smooth(lung: Mask, spacing_mm: tuple[float, float, float]) -> Mask:
    """Close notches of the outline in each slice and fill what vessels leave open."""
    radius = max(1, round(_CLOSING_MM / spacing_mm[1]))
    size = (1, 2 * radius + 1, 2 * radius + 1)
    grown = np.pad(lung, ((0, 0), (radius, radius), (radius, radius)))
    closed = ndimage.minimum_filter(ndimage.maximum_filter(grown.view(np.uint8), size), size).astype(bool)
    closed = closed[:, radius:-radius, radius:-radius]
    holes, _ = ndimage.label(~closed, structure=_IN_SLICE)
    sizes = np.bincount(holes.ravel())
    small = sizes * spacing_mm[1] * spacing_mm[2] <= _VESSEL_MM2
    small[0] = False
    return np.asarray(closed | small[holes])


def _refine(array: Array, coarse: list[Mask], airways: Mask, factor: int) -> list[Mask]:
    """Draw the outline at full resolution: near the coarse edge, the threshold decides."""
    if factor == 1:
        return coarse
    fine = []
    taken = None
    for lung in coarse:
        wide = ndimage.maximum_filter(lung.view(np.uint8), (1, 3, 3)).astype(bool) & ~airways
        core = ndimage.minimum_filter(lung.view(np.uint8), (1, 3, 3)).astype(bool)
        drawn = _repeat(core, array.shape) | (_repeat(wide, array.shape) & (array < AIR_BELOW_HU))
        if taken is not None:
            drawn &= ~taken
        taken = drawn
        fine.append(drawn)
    return fine


def _fine_airways(array: Array, airways: Mask, lungs: list[Mask], factor: int) -> int:
    wide = _repeat(airways, array.shape) if factor > 1 else airways
    return int((wide & (array < AIR_BELOW_HU) & ~lungs[0] & ~lungs[1]).sum())


def _repeat(mask: Mask, shape: tuple[int, ...]) -> Mask:
    """Give a coarse mask at full size; an odd last row or column is outside."""
    fine = np.zeros(shape, dtype=bool)
    for row in (0, 1):
        for column in (0, 1):
            target = fine[:, row::2, column::2]
            target[:, : mask.shape[1], : mask.shape[2]] = mask[:, : target.shape[1], : target.shape[2]]
    return fine
