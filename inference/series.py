"""Which series of a study an engine gets: what it can read, and of that the fittest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pydicom import Dataset

from inference.engines.protocol import SeriesNeeds
from inference.errors import UnsuitableStudy
from inference.volume import is_localiser

#: Single-frame and multi-frame secondary captures (PS3.6 Table A-1).
_SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
#: Words in a kernel's name that mean a sharp one; densities of a smooth kernel are nearer the truth.
_SHARP_WORDS = ("LUNG", "BONE", "EDGE", "SHARP", "ULTRA", "DETAIL")


@dataclass(frozen=True)
class CandidateSeries:
    """One series that a rule chose."""

    series_instance_uid: str
    header: Dataset
    """Of one of its images, without pixel data."""
    number_of_instances: int


def choose_series(candidates: Sequence[CandidateSeries], needs: SeriesNeeds) -> CandidateSeries:
    """Give the fittest series: thin before thick, smooth kernel before sharp, more images before fewer.

    Raises
    ------
    UnsuitableStudy
        None can be read; the message says why, series by series.
    """
    reasons = {candidate.series_instance_uid: _unfit(candidate, needs) for candidate in candidates}
    fit = [candidate for candidate in candidates if reasons[candidate.series_instance_uid] is None]
    if not fit:
        said = "; ".join(f"series {_name(each)}: {reasons[each.series_instance_uid]}" for each in candidates)
        raise UnsuitableStudy(f"no series can be read ({said or 'there is none'}).")
    return min(fit, key=_preference)


def _unfit(candidate: CandidateSeries, needs: SeriesNeeds) -> str | None:
    """Say why an engine cannot read a series; None: it may."""
    header = candidate.header
    modality = str(header.get("Modality", ""))
    if modality not in needs.modalities:
        return f"{modality or 'no modality'} instead of {' or '.join(needs.modalities)}"
    if is_localiser(header):
        return "a localiser"
    if str(header.get("SOPClassUID", "")).startswith(_SECONDARY_CAPTURE):
        return "a secondary capture"
    if int(header.get("NumberOfFrames") or 1) == 1 and candidate.number_of_instances < needs.minimum_slices:
        return f"{candidate.number_of_instances} images, {needs.minimum_slices} are needed"
    thickness = _thickness_mm(header)
    if thickness is not None and thickness > needs.thickest_mm:
        return f"slices of {thickness:.1f} mm, {needs.thickest_mm:.1f} mm or less are needed"
    return None


def _preference(candidate: CandidateSeries) -> tuple[bool, bool, float, bool, int, str]:
    """Order of fitness, the fittest first; the last part makes it the same every time."""
    header = candidate.header
    image_type = [str(value).upper() for value in header.get("ImageType") or []]
    kernel = str(header.get("ConvolutionKernel", "")).upper()
    thickness = _thickness_mm(header)
    return (
        not is_axial(header),
        "ORIGINAL" not in image_type,
        thickness if thickness is not None else float("inf"),
        any(word in kernel for word in _SHARP_WORDS),
        -candidate.number_of_instances,
        candidate.series_instance_uid,
    )


def is_axial(header: Dataset) -> bool:
    """Tell whether slices lie across the body's long axis, within 30 degrees."""
    try:
        row_x, row_y, _, column_x, column_y, _ = (float(value) for value in header.ImageOrientationPatient)
    except (AttributeError, TypeError, ValueError):
        return False
    return abs(row_x * column_y - row_y * column_x) > 0.866  # cosine of 30 degrees


def _thickness_mm(header: Dataset) -> float | None:
    try:
        return float(header.SliceThickness)
    except (AttributeError, TypeError, ValueError):
        return None


def _name(candidate: CandidateSeries) -> str:
    return str(candidate.header.get("SeriesNumber") or candidate.series_instance_uid)
