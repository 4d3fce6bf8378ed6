"""The planes that masks lie on: where each is, and which frame of which image it was taken from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from highdicom.spatial import get_volume_positions
from pydicom import Dataset
from pydicom.valuerep import DSdecimal, DSfloat, format_number_as_ds

from inference.errors import UnusableAnswer
from inference.results.elements import numbers, text_of
from inference.results.evidence import Evidence

_GEOMETRY = (("ImagePositionPatient", 3), ("ImageOrientationPatient", 6), ("PixelSpacing", 2))


@dataclass(frozen=True, eq=False)
class SourcePlane:
    """One plane of a source series."""

    header: Dataset
    position: tuple[float, float, float] | None
    """Image Position (Patient), LPS, mm; None: the image lies in no frame of reference."""
    position_text: tuple[str, str, str] | None
    """The same as it is written: of the source, where it can stand so."""
    frame_number: int | None = None
    """Frame of a multi-frame image, from 1; None: the image has one frame."""


def planes_of(evidence: Evidence) -> tuple[SourcePlane, ...]:
    """Give the planes of a series, in their order.

    Raises
    ------
    UnusableAnswer
        Some images have a position in a frame of reference and others have none.
    """
    if evidence.lies_nowhere:
        pairs = zip(evidence, evidence.frame_numbers, strict=True)
        return tuple(SourcePlane(header, None, None, number) for header, number in pairs)
    planes = []
    for header, number in zip(evidence, evidence.frame_numbers, strict=True):
        found = [numbers(header, keyword, count) for keyword, count in _GEOMETRY]
        if any(value is None for value in found) or not text_of(header, "FrameOfReferenceUID"):
            raise UnusableAnswer(
                "a source image has no position in the frame of reference of the others, so that nothing can be "
                "outlined on it",
                sop_instance_uid=str(header.SOPInstanceUID),
            )
        x, y, z = numbers(header, "ImagePositionPatient", 3) or (0.0, 0.0, 0.0)
        planes.append(SourcePlane(header, (x, y, z), _written(header.ImagePositionPatient), number))
    return tuple(planes)


def sorted_planes(planes: Sequence[SourcePlane], cosines: Sequence[float]) -> list[int]:
    """Indices of planes in the order in which a segmentation has its frames.

    From the far end of the normal (row direction x column direction) to the near one, as highdicom has it.
    """
    normal = np.cross(cosines[:3], cosines[3:])
    depths = [-float(np.dot(plane.position or (0.0, 0.0, 0.0), normal)) for plane in planes]
    return [int(index) for index in np.argsort(depths, kind="stable")]


def evenly_spaced(planes: Sequence[SourcePlane], cosines: Sequence[float]) -> bool:
    """Tell whether planes follow each other at one distance, in one direction (Dimension Organization Type 3D)."""
    if len(planes) < 2:
        return False
    positions = [plane.position for plane in planes if plane.position is not None]
    spacing, _ = get_volume_positions(image_positions=positions, image_orientation=list(cosines), sort=False)
    return spacing is not None and spacing > 0.0


def _written(position: Sequence[DSfloat | DSdecimal]) -> tuple[str, str, str]:
    """Give the source's own decimal text, or as many digits as 16 characters hold."""
    x, y, z = (text if len(text := str(value)) <= 16 else format_number_as_ds(float(value)) for value in position)
    return x, y, z
