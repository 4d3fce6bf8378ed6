"""Chests that nobody has, small and cheap: lungs of known size and density, and what is mistaken for lungs.

Drawn on a coarse grid of patient millimetres (LPS); axial slices. What a test asks for is drawn beside or in place of
the ordinary anatomy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from io import BytesIO
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom import Dataset
from pydicom.uid import CTImageStorage

from inference.volume import SourceInstance, Volume

RIGHT, LEFT = 1, 2
Array = npt.NDArray[Any]

_AIR, _FAT, _MUSCLE, _BONE = -1000, -100, 45, 400


@dataclass(frozen=True)
class Chest:
    """What to draw. Lengths in mm; `lungs` by (x, y, z) of centre and of radii, of the right and of the left one."""

    right: tuple[tuple[float, float, float], tuple[float, float, float]] | None = ((-75, 0, 0), (52, 75, 105))
    left: tuple[tuple[float, float, float], tuple[float, float, float]] | None = ((75, 0, 0), (48, 72, 100))
    lung_hu: int = -860
    noise_hu: float = 12.0
    couch: bool = True
    windpipe: bool = True
    bowel: bool = False
    """Large gas bubbles below the lungs."""
    arms: bool = False
    """Arms beside the body, with air shut in between."""
    touching: bool = False
    """The lungs meet in front of the heart, with a wall of one voxel of in-between density."""
    emphysema: float = 0.0
    """Share of each lung at -980 HU."""
    consolidated: bool = False
    """A mass of soft tissue in the right lung."""
    pixel_mm: float = 4.0
    slice_mm: float = 5.0
    span_mm: tuple[float, float] = (-140.0, 140.0)
    """Lowest and highest slice (z, towards the head)."""
    seed: int = 3


def draw(chest: Chest) -> tuple[Array, Array]:
    """Give HU and labels: (slices, rows, columns) from the feet upwards, front to back, right to left."""
    z = np.arange(chest.span_mm[0], chest.span_mm[1] + 1e-6, chest.slice_mm)[:, None, None]
    y = np.arange(-135, 135, chest.pixel_mm)[None, :, None]
    x = np.arange(-192, 192, chest.pixel_mm)[None, None, :]
    shape = np.broadcast_shapes(z.shape, y.shape, x.shape)
    hu = np.full(shape, _AIR, np.float32)
    body = np.broadcast_to((x / 150) ** 2 + (y / 108) ** 2 < 1, shape)
    hu[body] = _FAT
    hu[np.broadcast_to((x / 140) ** 2 + (y / 98) ** 2 < 1, shape)] = _MUSCLE
    hu[np.broadcast_to((x / 14) ** 2 + ((y - 80) / 14) ** 2 < 1, shape)] = _BONE
    labels = np.zeros(shape, np.uint8)
    inner = np.broadcast_to((x / 134) ** 2 + (y / 92) ** 2 < 1, shape)
    for label, lung in ((RIGHT, chest.right), (LEFT, chest.left)):
        if lung is not None:
            (cx, cy, cz), (rx, ry, rz) = lung
            inside = ((x - cx) / rx) ** 2 + ((y - cy) / ry) ** 2 + ((z - cz) / rz) ** 2 < 1
            labels[inside & inner] = label
    hu[labels > 0] = chest.lung_hu
    _draw_inside(chest, hu, labels, x, y, z)
    _draw_outside(chest, hu, x, y)
    chance = np.random.default_rng(chest.seed)
    hu += chance.normal(0, chest.noise_hu, shape).astype(np.float32)
    return hu, labels


def _draw_inside(chest: Chest, hu: Array, labels: Array, x: Array, y: Array, z: Array) -> None:
    if chest.emphysema:
        chance = np.random.default_rng(chest.seed + 1)
        hu[(labels > 0) & (chance.random(hu.shape) < chest.emphysema)] = -980
    if chest.consolidated:
        mass = ((x + 75) / 25) ** 2 + ((y - 20) / 25) ** 2 + (z / 25) ** 2 < 1
        hu[mass & (labels == RIGHT)] = 40
        labels[mass & (labels == RIGHT)] = 0
    if chest.touching:
        bridge = (abs(x) < 42) & (abs(y + 30) < 20) & (abs(z) < 40) & (labels == 0)
        hu[bridge] = chest.lung_hu
        labels[bridge & (x < 0)] = RIGHT
        labels[bridge & (x >= 0)] = LEFT
        wall = bridge & (abs(x) < chest.pixel_mm)
        hu[wall] = -550
    if chest.windpipe:
        tube = np.broadcast_to((x / 9) ** 2 + ((y - 15) / 9) ** 2 < 1, hu.shape) & (z > 10)
        hu[tube & (labels == 0)] = -985
        for side in (-1, 1):
            bronchus = ((x - side * (4 + (10 - z) * 0.9)) / 7) ** 2 + ((y - 15) / 7) ** 2 < 1
            hu[bronchus & (z <= 10) & (z > -12) & (labels == 0)] = -985
    if chest.bowel:
        for cx, cy, cz, radius in ((50, -20, -125, 26), (-10, -40, -132, 22), (-60, -20, -128, 20)):
            gas = ((x - cx) ** 2 + (y - cy) ** 2 + (z - cz) ** 2 < radius**2) & (labels == 0)
            hu[gas] = -990


def _draw_outside(chest: Chest, hu: Array, x: Array, y: Array) -> None:
    if chest.couch:
        shell = np.broadcast_to((y > 112) & (y < 132) & (abs(x) < 170), hu.shape)
        core = np.broadcast_to((y > 116) & (y < 128) & (abs(x) < 166), hu.shape)
        hu[shell] = -200
        hu[core] = -930
    if chest.arms:
        for side in (-1, 1):
            arm = np.broadcast_to(((x - side * 172) / 17) ** 2 + (y / 60) ** 2 < 1, hu.shape)
            hu[arm] = _MUSCLE
            for end in (-1, 1):  # skin that touches the body, before and behind the shut-in air
                skin = (abs(y - end * 55) < 8) & (side * x > 110) & (side * x < 175)
                hu[np.broadcast_to(skin, hu.shape) & (hu < -900)] = _FAT


@lru_cache(maxsize=32)
def _drawn(chest: Chest) -> tuple[Array, Array]:
    hu, labels = draw(chest)
    return np.rint(hu).clip(-1024, 3071).astype(np.int16), labels


def axial(chest: Chest, **header: Any) -> tuple[Volume, Array]:
    """Give the chest as the volume of an ordinary scan (head first, supine), and its labels in the volume's order."""
    hu, labels = _drawn(chest)
    steps = np.diag([chest.slice_mm, chest.pixel_mm, chest.pixel_mm])[:, ::-1].T
    corner = (-192.0, -135.0, chest.span_mm[0])
    return _volume(chest, hu, steps, corner, header), labels


#: How a scanner may lay the axes of an axial scan: direction of rows, and of columns.
LAID: dict[str, tuple[tuple[float, float, float], tuple[float, float, float]]] = {
    "head first, supine": ((1, 0, 0), (0, 1, 0)),
    "prone": ((-1, 0, 0), (0, -1, 0)),
    "rows from the back": ((1, 0, 0), (0, -1, 0)),
    "columns from the left": ((-1, 0, 0), (0, 1, 0)),
    "on the side": ((0, 1, 0), (1, 0, 0)),
    "on the other side": ((0, -1, 0), (1, 0, 0)),
}


def laid(chest: Chest, row: Sequence[float], column: Sequence[float]) -> tuple[Volume, Array]:
    """Give the same chest stored along other axes, and its labels in the volume's order."""
    hu, labels = _drawn(chest)
    corner = np.array([-192.0, -135.0, chest.span_mm[0]])  # of voxel (0, 0, 0): x, y, z
    spacing = np.array([chest.pixel_mm, chest.pixel_mm, chest.slice_mm])  # along x, y, z
    directions = np.array([np.cross(row, column), column, row], float)  # of the new array's axes
    order = []
    for direction in directions:
        patient_axis = int(np.argmax(np.abs(direction)))
        axis = 2 - patient_axis  # of the drawing, which runs z, y, x
        order.append(axis)
        if direction[patient_axis] < 0:
            corner[patient_axis] += spacing[patient_axis] * (hu.shape[axis] - 1)
            hu, labels = np.flip(hu, axis), np.flip(labels, axis)
    steps = (directions * spacing[[2 - axis for axis in order], None]).T
    return _volume(chest, np.ascontiguousarray(hu.transpose(order)), steps, corner, {}), labels.transpose(order)


def _volume(chest: Chest, hu: Array, steps: Array, corner: Sequence[float], header: dict[str, Any]) -> Volume:
    """Give an array with its geometry. `steps`: columns lead from index to index, mm."""
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = steps, corner
    said = Dataset()
    values = {
        "Modality": "CT",
        "Manufacturer": "GE PHANTOM WORKS",
        "ConvolutionKernel": "STANDARD",
        "SliceThickness": f"{chest.slice_mm:g}",
        "SeriesNumber": 3,
        "SeriesDescription": "Chest",
    }
    for keyword, value in (values | header).items():
        setattr(said, keyword, value)
    return Volume(
        array=hu,
        affine=affine,
        headers=[said] * len(hu),
        sources=tuple(SourceInstance(f"1.2.{index}", CTImageStorage, "ab" * 32, BytesIO) for index in range(len(hu))),
        frame_numbers=(None,) * len(hu),
    )
