"""Where slices lie, and whether they make a volume.

Source: PS3.3 C.7.6.2.1.1 (Image Position and Orientation, patient coordinates LPS, mm).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from pydicom import Dataset

from inference.errors import UnsuitableStudy

#: Directions of one series may differ by this angle: rounding of header values.
_DIRECTION_TOLERANCE = 1e-3
#: Slice distances may differ from their median by this share; a missing slice doubles one.
_GAP_TOLERANCE = 0.1
#: or by this many mm: table positions are rounded to 0.1 mm by some scanners.
_GAP_TOLERANCE_MM = 0.15
#: Slices nearer than this lie at the same place.
_SAME_PLACE_MM = 0.01
#: A slice may lie this far beside the line through the first and the last one, in pixels.
_ASIDE_PIXELS = 1.0
#: Sideways shift from slice to slice, as a share of their distance: more is a tilted gantry.
_TILT_TOLERANCE = 0.02

_NEEDED = ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "Rows", "Columns")

Vector = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Plane:
    """Where one slice lies."""

    position: Vector
    """Centre of the first pixel, LPS, mm."""
    row: Vector
    """Unit vector along a row (rising column index)."""
    column: Vector
    """Unit vector along a column (rising row index)."""
    spacing_mm: tuple[float, float]
    """Distance of neighbouring rows, of neighbouring columns."""
    shape: tuple[int, int]
    """Rows, columns."""

    @property
    def normal(self) -> Vector:
        """Unit vector from slice to slice."""
        return np.cross(self.row, self.column)


def plane_of(header: Dataset) -> Plane:
    """Read where a slice lies.

    Raises
    ------
    UnsuitableStudy
        Position, orientation, spacing or size is missing or no sensible value.
    """
    try:
        position = np.asarray(header.ImagePositionPatient, dtype=float)
        orientation = np.asarray(header.ImageOrientationPatient, dtype=float)
        rows_mm, columns_mm = (float(each) for each in header.PixelSpacing)
        shape = int(header.Rows), int(header.Columns)
    except (AttributeError, TypeError, ValueError) as error:
        lacking = [keyword for keyword in _NEEDED if header.get(keyword) is None]
        raise UnsuitableStudy(
            f"an image lacks {', '.join(lacking)}, so that no volume can be made."
            if lacking
            else "an image's position, orientation, pixel spacing or size is no sensible value."
        ) from error
    row, column = orientation[:3], orientation[3:]
    if position.shape != (3,) or orientation.shape != (6,) or not np.isfinite([*position, *orientation]).all():
        raise UnsuitableStudy("an image's position or orientation is no sensible value.")
    lengths = np.linalg.norm(row), np.linalg.norm(column)
    if abs(row @ column) > 1e-2 or not np.allclose(lengths, 1, atol=1e-2):
        raise UnsuitableStudy("an image's orientation is not of two unit vectors at right angles.")
    if not (np.isfinite([rows_mm, columns_mm]).all() and min(rows_mm, columns_mm) > 0 and min(shape) > 0):
        raise UnsuitableStudy(
            f"an image of {shape[0]}x{shape[1]} pixels of {rows_mm:g}x{columns_mm:g} mm makes no volume."
        )
    return Plane(position, row / lengths[0], column / lengths[1], (rows_mm, columns_mm), shape)


def stack(planes: Sequence[Plane], *, thickness_mm: float = 1.0) -> tuple[list[int], Vector]:
    """Sort slices along their normal and give the volume's affine.

    Parameters
    ----------
    thickness_mm
        What stands for the distance of slices where there is only one.

    Returns
    -------
    list of int
        Indices into `planes`, in the order of rising position along the normal.
    array
        4x4, (slice, row, column, 1) index → patient LPS, mm.

    Raises
    ------
    UnsuitableStudy
        The slices make no volume: mixed directions, sizes or spacings, doubled or missing slices, a tilted gantry,
        slices beside each other. The message has figures.
    """
    first = planes[0]
    _check_alike(planes, first)
    normal = first.normal
    depths = np.array([plane.position @ normal for plane in planes])
    order = [int(index) for index in np.argsort(depths, kind="stable")]
    positions = np.array([planes[index].position for index in order])
    if len(order) == 1:
        step = normal * thickness_mm
    else:
        _check_distances(np.diff(depths[order]))
        step = (positions[-1] - positions[0]) / (len(order) - 1)
        _check_tilt(step, normal)
        _check_line(positions, step, normal, min(first.spacing_mm))
    affine = np.eye(4)
    affine[:3, 0] = step
    affine[:3, 1] = first.column * first.spacing_mm[0]
    affine[:3, 2] = first.row * first.spacing_mm[1]
    affine[:3, 3] = positions[0]
    return order, affine


def _check_alike(planes: Sequence[Plane], first: Plane) -> None:
    for plane in planes[1:]:
        if plane.row is first.row and plane.column is first.column and plane.spacing_mm is first.spacing_mm:
            continue  # read from the same header values
        turned = max(_angle(plane.row, first.row), _angle(plane.column, first.column))
        if turned > _DIRECTION_TOLERANCE:
            raise UnsuitableStudy(
                f"images of different orientation stand in one series (turned by {np.degrees(turned):.1f}°)."
            )
        if plane.shape != first.shape:
            raise UnsuitableStudy(
                f"images of different size stand in one series ({first.shape[0]}x{first.shape[1]} and "
                f"{plane.shape[0]}x{plane.shape[1]})."
            )
        if not np.allclose(plane.spacing_mm, first.spacing_mm, rtol=1e-3):
            raise UnsuitableStudy(
                f"images of different pixel spacing stand in one series ({first.spacing_mm[0]:.3f} and "
                f"{plane.spacing_mm[0]:.3f} mm)."
            )


def _angle(one: Vector, other: Vector) -> float:
    return float(np.arctan2(np.linalg.norm(np.cross(one, other)), one @ other))


def _check_distances(distances: Vector) -> None:
    doubled = int((distances < _SAME_PLACE_MM).sum())
    if doubled:
        lie = "image lies" if doubled == 1 else "images lie"
        raise UnsuitableStudy(f"{doubled} {lie} at the same place as another one.")
    usual = float(np.median(distances))
    tolerance = max(usual * _GAP_TOLERANCE, _GAP_TOLERANCE_MM)
    wide = distances[distances > usual + tolerance]
    narrow = distances[distances < usual - tolerance]
    if len(wide):
        missing = int(np.round(wide / usual - 1).clip(min=1).sum())
        are = "image is" if missing == 1 else "images are"
        raise UnsuitableStudy(
            f"about {missing} {are} missing: a gap of {wide.max():.2f} mm where {usual:.2f} mm is usual."
        )
    if len(narrow):
        raise UnsuitableStudy(f"images lie {narrow.min():.2f} mm apart where {usual:.2f} mm is usual.")


def _check_tilt(step: Vector, normal: Vector) -> None:
    along = float(step @ normal)
    sideways = float(np.linalg.norm(step - along * normal))
    if sideways > _TILT_TOLERANCE * along:
        angle = np.degrees(np.arctan2(sideways, along))
        raise UnsuitableStudy(f"the gantry was tilted by {angle:.1f}°: slices are shifted against each other.")


def _check_line(positions: Vector, step: Vector, normal: Vector, pixel_mm: float) -> None:
    """Refuse slices that were reconstructed about another middle than the first ones."""
    aside = positions - positions[0] - np.outer(np.arange(len(positions)), step)
    aside -= np.outer(aside @ normal, normal)
    furthest = float(np.linalg.norm(aside, axis=1).max())
    if furthest > _ASIDE_PIXELS * pixel_mm:
        raise UnsuitableStudy(f"images are shifted sideways against each other by up to {furthest:.1f} mm.")
