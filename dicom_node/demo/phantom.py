"""A chest CT that nobody has: anatomy-like shapes with known lungs, for the demo and for tests.

Coordinates are patient mm: x to the left, y to the back, z to the head (LPS); the slices lie axially.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom import Dataset, dcmwrite
from pydicom.dataset import FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian
from scipy import ndimage

Array = npt.NDArray[Any]

RIGHT, LEFT = 1, 2
_AIR, _FAT, _MUSCLE, _ORGAN, _BLOOD, _BONE = -1000.0, -100.0, 50.0, 60.0, 45.0, 350.0
_FIELD_MM = 400.0
#: Height of the scan that the anatomy below is drawn for, mm; other heights stretch it.
_HEIGHT_MM = 300.0


@dataclass(frozen=True)
class _Ball:
    centre: tuple[float, float, float]
    radius: float


class ChestPhantom:
    """Draws one slice after another; the same seed draws the same chest."""

    def __init__(
        self, *, slices: int, spacing_mm: float, size: int = 512, seed: int = 1, noise_hu: float = 18.0
    ) -> None:
        self.slices, self.spacing_mm, self.size = slices, spacing_mm, size
        self.pixel_mm = _FIELD_MM / size
        self._seed = seed
        self._noise_hu = noise_hu
        self._stretch = slices * spacing_mm / _HEIGHT_MM
        axis = (np.arange(size, dtype=np.float32) - (size - 1) / 2) * self.pixel_mm
        self._x, self._y = np.meshgrid(axis, axis)
        chance = np.random.default_rng(seed)
        self._vessels = [*_vessel_tree(chance, -1), *_vessel_tree(chance, 1)]
        self._holes = _emphysema(chance)

    def slice(self, index: int) -> tuple[Array, Array]:
        """Draw slice `index`, from the head down.

        Returns
        -------
        array, array
            (rows, columns): HU, float32; and labels: 1 right lung, 2 left lung, 0 elsewhere.
        """
        x, y = self._x, self._y
        down = (index + 0.5) * self.spacing_mm / self._stretch  # mm below the upper end, in the drawing's own height
        image = np.full(x.shape, _AIR, dtype=np.float32)
        self._draw_couch(image)
        body, cavity = self._draw_body(image, down)
        lungs = self._lungs(down, cavity)
        self._draw_lungs(image, lungs, down)
        self._draw_mediastinum(image, lungs, down)
        image[_ellipse(x, y, (72, -38), (24, 18)) & body & (abs(down - 282) < 14)] = -960  # air in the stomach
        chance = np.random.default_rng([self._seed, index])
        noise = ndimage.gaussian_filter(chance.standard_normal(image.shape, dtype=np.float32), 0.8)
        image += noise * np.float32(self._noise_hu / 0.35)  # the filter leaves 0.35 of the deviation
        return image, lungs

    def _draw_couch(self, image: Array) -> None:
        arc = self._y - (142 - self._x**2 / 1500)
        foam = (arc > 0) & (arc < 26) & (abs(self._x) < 190)
        image[foam] = -920
        image[foam & ((arc < 2.5) | (arc > 23.5))] = -150

    def _draw_body(self, image: Array, down: float) -> tuple[Array, Array]:
        """Skin, fat, muscle, ribs, spine, sternum; give the body and the cavity within the ribs."""
        x, y = self._x, self._y
        wide = 172 + 8 * np.sin(down / _HEIGHT_MM * np.pi)
        body = _ellipse(x, y, (0, 0), (wide, 122))
        image[body] = _FAT
        image[_ellipse(x, y, (0, 2), (wide - 14, 110))] = _MUSCLE
        cavity = _ellipse(x, y, (0, 0), (wide - 32, 92))
        shell = _ellipse(x, y, (0, 0), (wide - 24, 100)) & ~cavity
        angle = np.arctan2(y, np.abs(x))
        image[shell & (np.mod(down + 18 * angle, 26) < 9) & (abs(x) > 22)] = _BONE
        image[_ellipse(x, y, (0, 84), (19, 17))] = _BONE - 130
        image[_ellipse(x, y, (0, 108), (9, 8))] = 20
        image[(abs(x) < 8) & (abs(y - 116) < 4)] = _BONE
        image[(abs(x) < 16) & (abs(y + 97) < 6) & (down < 210)] = _BONE - 150
        image[cavity & (image > 0) & (image < 100)] = _MUSCLE
        return body, cavity

    def _lungs(self, down: float, cavity: Array) -> Array:
        """Label both lungs of one level."""
        x, y = self._x, self._y
        labels = np.zeros(x.shape, dtype=np.uint8)
        middle = abs(x) < 17 + 8 * np.clip((down - 60) / 80, 0, 1)
        spine = _ellipse(x, y, (0, 88), (27, 27))
        heart = _ellipsoid(x, y, down, (22, -32, 188), (56, 50, 58))
        dome_right = down - 205 - ((x + 72) ** 2 + (y + 5) ** 2) / 130
        dome_left = down - 222 - ((x - 75) ** 2 + (y + 5) ** 2) / 130
        right = _ellipsoid(x, y, down, (-76, 4, 165), (58, 86, 148)) & (dome_right < 0)
        left = _ellipsoid(x, y, down, (78, 4, 165), (54, 84, 146)) & (dome_left < 0)
        free = cavity & ~middle & ~spine & ~heart
        labels[right & free] = RIGHT
        labels[left & free] = LEFT
        return labels

    def _draw_lungs(self, image: Array, lungs: Array, down: float) -> None:
        x, y = self._x, self._y
        inside = lungs > 0
        image[inside] = (-872 + 0.35 * y[inside]).astype(np.float32)
        for ball in self._holes:
            self._draw_ball(image, inside, ball, down, -985.0)
        for ball in self._vessels:
            self._draw_ball(image, inside, ball, down, 30.0)
        below = (down > 170) & ~inside & _ellipse(x, y, (0, 0), (138, 90))
        image[below & (image == _MUSCLE) & (x < 20)] = _ORGAN

    def _draw_ball(self, image: Array, inside: Array, ball: _Ball, down: float, value: float) -> None:
        """Draw where a ball cuts this level, in its own small window."""
        across = ball.radius**2 - (down - ball.centre[2]) ** 2
        if across <= 0:
            return
        radius, centre = np.sqrt(across), (self.size - 1) / 2
        column, row = (ball.centre[axis] / self.pixel_mm + centre for axis in (0, 1))
        reach = radius / self.pixel_mm + 1
        window = tuple(slice(max(0, int(at - reach)), max(0, int(at + reach) + 2)) for at in (row, column))
        near = (self._x[window] - ball.centre[0]) ** 2 + (self._y[window] - ball.centre[1]) ** 2 < across
        image[window][near & inside[window]] = value

    def _draw_mediastinum(self, image: Array, lungs: Array, down: float) -> None:
        """Heart, aorta, windpipe and main bronchi."""
        x, y = self._x, self._y
        image[_ellipsoid(x, y, down, (22, -32, 188), (54, 48, 56)) & (lungs == 0)] = _BLOOD
        image[_ellipse(x, y, (24, 58), (12, 12)) & (lungs == 0)] = _BLOOD + 10
        tubes = [((0.0, 8.0), 9.0)] if down < 95 else []
        if 95 <= down < 145:
            aside = 4 + (down - 95) * 0.62
            tubes = [((-aside, 10.0), 6.5), ((aside, 10.0), 6.0)]
        for centre, radius in tubes:
            image[_ellipse(x, y, centre, (radius + 2, radius + 2)) & (lungs == 0)] = _MUSCLE
            image[_ellipse(x, y, centre, (radius, radius))] = -990
            lungs[_ellipse(x, y, centre, (radius + 2, radius + 2))] = 0


def _ellipse(x: Array, y: Array, centre: tuple[float, float], radii: tuple[float, float]) -> Array:
    return np.asarray(((x - centre[0]) / radii[0]) ** 2 + ((y - centre[1]) / radii[1]) ** 2 < 1)


def _ellipsoid(
    x: Array, y: Array, down: float, centre: tuple[float, float, float], radii: tuple[float, float, float]
) -> Array:
    left = 1 - ((down - centre[2]) / radii[2]) ** 2
    return np.asarray(((x - centre[0]) / radii[0]) ** 2 + ((y - centre[1]) / radii[1]) ** 2 < left)


def _vessel_tree(chance: np.random.Generator, side: int) -> list[_Ball]:
    """Branching chains of balls from the hilum outwards; `side` -1 is right."""
    balls: list[_Ball] = []
    for _ in range(26):
        position = np.array([side * 40.0, 12.0, 125.0])
        target = np.array([side * chance.uniform(55, 125), chance.uniform(-70, 75), chance.uniform(40, 260)])
        balls += _chain(chance, position, target, 3.6)
    return balls


def _chain(chance: np.random.Generator, start: Array, target: Array, radius: float) -> list[_Ball]:
    balls: list[_Ball] = []
    length = float(np.linalg.norm(target - start))
    bend = chance.normal(0, 8, 3)
    for share in np.linspace(0, 1, max(2, int(length / 1.2))):
        at = start + share * (target - start) + np.sin(share * np.pi) * bend
        size = radius * (1 - 0.72 * share)
        balls.append(_Ball((float(at[0]), float(at[1]), float(at[2])), size))
        if size > 1.6 and chance.random() < 0.03:
            balls += _chain(chance, at, at + chance.normal(0, 28, 3), size * 0.6)
    return balls


def _emphysema(chance: np.random.Generator) -> list[_Ball]:
    """A few regions without structure in the upper halves of the lungs."""
    return [
        _Ball((side * chance.uniform(60, 95), chance.uniform(-35, 40), chance.uniform(60, 130)), chance.uniform(7, 15))
        for side in (-1, 1)
        for _ in range(5)
    ]


def write_phantom_study(
    folder: Path,
    *,
    slices: int = 240,
    spacing_mm: float = 1.25,
    seed: int | None = None,
    on_slice: Callable[[int, int], None] | None = None,
) -> list[Path]:
    """Write a chest CT study of a synthetic patient as Part 10 files, one per slice.

    Parameters
    ----------
    seed
        Draws the chest and names its UIDs: the same seed writes the same study. None: one that nobody has.
    on_slice
        Called with the slices done and to do.
    """
    number = seed if seed is not None else uuid.uuid4().int >> 96
    phantom = ChestPhantom(slices=slices, spacing_mm=spacing_mm, seed=number)
    common = _common_header(phantom, number)
    paths = []
    for index in range(slices):
        image, _ = phantom.slice(index)
        made = _slice_header(common, phantom, number, index)
        stored = np.clip(np.rint(image) + 1024, 0, 4095).astype(np.uint16)
        made.PixelData = stored.tobytes()
        path = folder / f"CT{index + 1:04d}.dcm"
        dcmwrite(path, made, enforce_file_format=True)
        paths.append(path)
        if on_slice is not None:
            on_slice(index + 1, slices)
    return paths


def _uid(number: int, name: str) -> str:
    return f"2.25.{uuid.uuid5(uuid.NAMESPACE_OID, f'dicom-node phantom {number} {name}').int}"


def _common_header(phantom: ChestPhantom, number: int) -> Dataset:
    made = Dataset()
    at = datetime.now(UTC)
    made.SpecificCharacterSet = "ISO_IR 192"
    made.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    made.SOPClassUID = CTImageStorage
    for level in ("Study", "Series", "Acquisition", "Content"):
        setattr(made, f"{level}Date", at.strftime("%Y%m%d"))
        setattr(made, f"{level}Time", at.strftime("%H%M%S"))
    made.AccessionNumber = f"PH{number % 10**8:08d}"
    made.Modality = "CT"
    made.Manufacturer, made.ManufacturerModelName = "GE PHANTOM WORKS", "Synthetic chest"
    made.ReferringPhysicianName = ""
    made.StudyDescription, made.SeriesDescription = "Chest phantom", "Chest 1.25 mm standard"
    made.PatientName, made.PatientID = "Phantom^Chest", f"PHANTOM-{number % 10**6:06d}"
    made.PatientBirthDate, made.PatientSex, made.PatientAge = "19600101", "O", "066Y"
    made.BodyPartExamined, made.ProtocolName = "CHEST", "Phantom chest"
    made.KVP, made.XRayTubeCurrent, made.ExposureTime = "120", "100", "500"
    made.ConvolutionKernel = "STANDARD"
    made.PatientPosition = "HFS"
    made.SliceThickness = f"{phantom.spacing_mm:g}"
    made.StudyInstanceUID, made.SeriesInstanceUID = _uid(number, "study"), _uid(number, "series")
    made.FrameOfReferenceUID = _uid(number, "frame of reference")
    made.StudyID, made.SeriesNumber, made.AcquisitionNumber = "1", "2", "1"
    made.PositionReferenceIndicator = ""
    made.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    made.SamplesPerPixel, made.PhotometricInterpretation = 1, "MONOCHROME2"
    made.Rows = made.Columns = phantom.size
    made.PixelSpacing = [f"{phantom.pixel_mm:.6g}"] * 2
    made.BitsAllocated, made.BitsStored, made.HighBit, made.PixelRepresentation = 16, 12, 11, 0
    made.WindowCenter, made.WindowWidth = "-600", "1500"
    made.RescaleIntercept, made.RescaleSlope, made.RescaleType = "-1024", "1", "HU"
    return made


def _slice_header(common: Dataset, phantom: ChestPhantom, number: int, index: int) -> Dataset:
    made = Dataset(common)
    made.SOPInstanceUID = _uid(number, f"slice {index}")
    made.InstanceNumber = str(index + 1)
    corner = -(phantom.size - 1) / 2 * phantom.pixel_mm
    height = -index * phantom.spacing_mm
    made.ImagePositionPatient = [f"{corner:.6g}", f"{corner:.6g}", f"{height:.6g}"]
    made.SliceLocation = f"{height:.6g}"
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return made
