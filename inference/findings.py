"""What an engine says about images: frozen values that know no format.

SR, SEG, JSON and the console are made from the same findings.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Code:
    """A coded concept (PS3.3 8.8)."""

    value: str
    scheme: str
    meaning: str


@dataclass(frozen=True)
class Measurement:
    """One number with its unit."""

    name: Code
    value: float
    unit: Code
    """UCUM."""
    method: Code | None = None
    derivation: Code | None = None
    """How the number stands for many (mean, percentile; CID 7464)."""
    caution: str = ""
    """What a reader must know beside the number; empty: nothing."""


@dataclass(frozen=True)
class NotComputed:
    """A number that was withheld, and why."""

    name: Code
    unit: Code
    reason: str


@dataclass(frozen=True)
class Qualitative:
    """One coded answer."""

    name: Code
    value: Code


@dataclass(frozen=True)
class Observed:
    """Something that the engine looked for, and whether it is there: said also where it is not."""

    finding: Code
    presence: Literal["present", "absent", "indeterminate"]
    tracking_id: str
    """Stable name of what was looked for, the same in every revision."""
    site: Code | None = None
    laterality: Code | None = None
    score: float | None = None
    """What the engine itself put out, 0 to 1; None: it puts out none. Not calibrated."""
    threshold: float | None = None
    """Score from which on the finding counts as present."""


@dataclass(frozen=True)
class ImageLocation:
    """A mark on one source image.

    Source: PS3.3 C.18.6 (Spatial Coordinates).
    """

    graphic: Literal["POINT", "MULTIPOINT", "POLYLINE", "CIRCLE", "ELLIPSE"]
    """A closed POLYLINE (last point equal to the first) is an outline, of four corners a box."""
    points: tuple[tuple[float, float], ...]
    """(column, row) in pixels; 0, 0 is the upper left corner of the upper left pixel, its centre is 0.5, 0.5."""
    sop_instance_uid: str
    frame_number: int | None = None
    """Frame of a multi-frame image, from 1; None: the image has one frame."""


@dataclass(frozen=True)
class SpaceLocation:
    """A mark in the patient.

    Source: PS3.3 C.18.9 (3D Spatial Coordinates).
    """

    graphic: Literal["POINT", "MULTIPOINT", "POLYLINE", "POLYGON", "ELLIPSE", "ELLIPSOID"]
    points: tuple[tuple[float, float, float], ...]
    """Patient coordinates LPS, mm. A POLYGON is closed and planar."""
    frame_of_reference_uid: str


@dataclass(frozen=True, eq=False)
class Segment:
    """One outlined structure."""

    label: str
    """At most 64 characters."""
    category: Code
    type: Code
    laterality: Code | None
    mask: Mask
    """(slices, rows, columns), the analysed volume's own shape."""
    tracking_id: str
    """Stable name of the structure, the same in every revision."""
    colour: tuple[int, int, int] = (255, 255, 0)
    """Recommended display colour, sRGB 0-255."""

    @cached_property
    def outlined(self) -> Mask:
        """Which slices hold a voxel of it, (slices,)."""
        return np.asarray(self.mask.any(axis=(1, 2)))

    @cached_property
    def box(self) -> tuple[slice, slice, slice]:
        """Smallest box that holds it; an empty one where nothing is outlined."""
        slices = _extent(self.outlined)
        flat = np.asarray(self.mask[slices].any(axis=0))
        return slices, _extent(np.asarray(flat.any(axis=1))), _extent(np.asarray(flat.any(axis=0)))


def _extent(line: Mask) -> slice:
    """From the first to the last that is set."""
    found = np.flatnonzero(line)
    return slice(int(found[0]), int(found[-1]) + 1) if found.size else slice(0, 0)


@dataclass(frozen=True)
class MeasurementGroup:
    """Numbers about one structure, or about several taken together."""

    tracking_id: str
    finding: Code
    site: Code
    laterality: Code | None
    segments: tuple[str, ...]
    """Labels of the segments measured; one: the group refers to it; several: volumes taken together."""
    measurements: tuple[Measurement, ...] = ()
    not_computed: tuple[NotComputed, ...] = ()
    qualitative: tuple[Qualitative, ...] = ()
    location: ImageLocation | SpaceLocation | None = None
    """Where it is, for what has a place and no mask; `segments` is empty then."""


@dataclass(frozen=True, eq=False)
class Findings:
    """All that one engine said about one series."""

    summary: str
    """What a reader must find first: standing, input, main figures, limits (results-objects section 4a).
    Its first words are RESEARCH USE (classical), Draft text (model) or NOT ANALYSED (refusal)."""
    segments: tuple[Segment, ...] = ()
    groups: tuple[MeasurementGroup, ...] = ()
    qualitative: tuple[Qualitative, ...] = ()
    """Answers about the study as a whole."""
    observed: tuple[Observed, ...] = ()
    """What was looked for, each with its answer."""
    narrative: tuple[str, ...] = ()
    """Further paragraphs, in reading order."""
    refusal: str | None = None
    """Why nothing was analysed, with figures; None: it was."""
    facts: tuple[tuple[str, Any], ...] = ()
    """Plain JSON values about how it was done (voxels of removed airways, thresholds met)."""


def refusal(engine: str, reason: str) -> Findings:
    """Findings of an engine that declined: absence is never silent."""
    return Findings(summary=f"NOT ANALYSED by {engine}: {reason} This is not a normal result.", refusal=reason)
