"""Marks of findings as coordinates of a report."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from highdicom.sr import CoordinatesForMeasurement, ImageRegion, ImageRegion3D, SourceImageForRegion
from pydicom import Dataset

from inference.errors import UnusableAnswer
from inference.findings import ImageLocation, SpaceLocation
from inference.results.elements import numbers, text_of

#: Coordinates that some forms of reports cannot hold are said with this many decimals.
_DECIMALS = 1
#: Tools of Cornerstone3D whose marks have these forms: what OHIF makes live measurements of.
_TOOL = "Cornerstone3DTools@^0.1.0"


def region(
    place: ImageLocation | SpaceLocation | None, evidence: Sequence[Dataset], *, in_space: bool
) -> ImageRegion | ImageRegion3D | None:
    """Give a mark as the region of a planar group; None: this report cannot hold it.

    Parameters
    ----------
    in_space
        The report holds 3D coordinates.

    Raises
    ------
    UnusableAnswer
        The mark lies on an image that was not used, or beyond its edges.

    Source: PS3.16 TID 1410 rows 6 and 6a, PS3.3 C.18.6, C.18.9.
    """
    if isinstance(place, SpaceLocation):
        if not in_space:
            return None
        _check_space(place, evidence)
        return ImageRegion3D(place.graphic, np.array(place.points), place.frame_of_reference_uid)
    if place is None:
        return None
    return ImageRegion(place.graphic, np.array(place.points), _source(place, evidence))


def coordinates_below_number(
    place: ImageLocation | SpaceLocation | None, evidence: Sequence[Dataset]
) -> list[CoordinatesForMeasurement]:
    """Give a mark as what a number was inferred from: the place where viewers look for it (TID 300)."""
    if not isinstance(place, ImageLocation):
        return []
    return [CoordinatesForMeasurement(place.graphic, np.array(place.points), _source(place, evidence))]


def image_said(header: Dataset, frame_number: int | None = None) -> str:
    """Name an image as a reader finds it in a viewer: by its numbers; by its UID only where it has none."""
    series, image = text_of(header, "SeriesNumber"), text_of(header, "InstanceNumber")
    named = image or str(header.SOPInstanceUID)
    parts = (f"series {series}" if series else "", f"image {named}", f"frame {frame_number}" if frame_number else "")
    return ", ".join(filter(None, parts))


def said_in_words(place: ImageLocation | SpaceLocation | None, evidence: Sequence[Dataset]) -> str:
    """Say a mark for a reader of text."""
    if place is None:
        return ""
    points = "; ".join(", ".join(f"{each:.{_DECIMALS}f}" for each in point) for point in place.points[:8])
    more = f" and {len(place.points) - 8} more points" if len(place.points) > 8 else ""
    if isinstance(place, SpaceLocation):
        return f"Place in the patient (LPS, mm), {place.graphic.lower()}: {points}{more}."
    header = next((each for each in evidence if str(each.SOPInstanceUID) == place.sop_instance_uid), None)
    where = image_said(header, place.frame_number) if header is not None else f"image {place.sop_instance_uid}"
    return f"Place on {where} (column, row), {place.graphic.lower()}: {points}{more}."


def viewer_tool(place: ImageLocation | SpaceLocation | None) -> str:
    """Tracking Identifier by which OHIF knows the tool of a mark; empty: it has none for it."""
    if not isinstance(place, ImageLocation):
        return ""
    closed = len(place.points) > 2 and place.points[0] == place.points[-1]
    tools = {"POINT": "Probe", "CIRCLE": "CircleROI", "ELLIPSE": "EllipticalROI", "MULTIPOINT": "Probe"}
    if place.graphic == "POLYLINE":
        tools["POLYLINE"] = "RectangleROI" if closed and len(place.points) == 5 else "PlanarFreehandROI"
        if len(place.points) == 2:
            tools["POLYLINE"] = "Length"
    return f"{_TOOL}:{tools[place.graphic]}"


def _source(place: ImageLocation, evidence: Sequence[Dataset]) -> SourceImageForRegion:
    header = next((each for each in evidence if str(each.SOPInstanceUID) == place.sop_instance_uid), None)
    if header is None:
        raise UnusableAnswer("a mark lies on an image that was not used", sop_instance_uid=place.sop_instance_uid)
    size = numbers(header, "Columns", 1), numbers(header, "Rows", 1)
    for point in place.points:
        for value, most in zip(point, size, strict=True):
            if most is None or not 0.0 <= value <= most[0]:
                raise UnusableAnswer(
                    "a mark lies beyond the edge of its image", sop_instance_uid=place.sop_instance_uid
                )
    frames = [place.frame_number] if place.frame_number is not None else None
    return SourceImageForRegion(header.SOPClassUID, header.SOPInstanceUID, frames)


def _check_space(place: SpaceLocation, evidence: Sequence[Dataset]) -> None:
    known = {text_of(header, "FrameOfReferenceUID") for header in evidence} - {""}
    if place.frame_of_reference_uid not in known:
        raise UnusableAnswer("a mark lies in a frame of reference that no used image has")
    if not np.isfinite(np.array(place.points)).all():
        raise UnusableAnswer("a mark has a coordinate that is not finite")
