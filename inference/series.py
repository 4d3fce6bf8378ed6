"""Which series of a study an engine gets: what it can read, and of that the fittest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pydicom import Dataset

from inference.engines.protocol import SeriesNeeds
from inference.errors import UnsuitableStudy
from inference.functional_groups import frame_headers, is_multi_frame
from inference.kernels import kernel_sharpness
from inference.volume import is_localiser

#: Single-frame and multi-frame secondary captures (PS3.6 Table A-1).
_SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
#: Values of Image Type of what was saved from a screen; Conversion Type of what is no image of its own.
_SCREENS = frozenset({"SCREEN SAVE", "SCREENSAVE", "SCREEN CAPTURE", "SCREENSHOT", "SECONDARY CAPTURE", "DOSE INFO"})
_CONVERTED = frozenset({"WSD", "SI", "SYN", "DF", "DI", "DRW"})
#: A series that covers less than this is a part, or has gaps between its slices, mm.
_WHOLE_MM = 150.0


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
    header = _image_header(candidate.header)
    return _other_kind(header, needs) or _too_little(candidate, header, needs)


def _other_kind(header: Dataset, needs: SeriesNeeds) -> str | None:
    """Say what a series is, where that is not what an engine reads."""
    modality = str(header.get("Modality") or "")
    if modality not in needs.modalities:
        return f"{modality or 'no modality'} instead of {' or '.join(needs.modalities)}"
    if is_localiser(header):
        return "a localiser"
    sop_class_uid = str(header.get("SOPClassUID") or "")
    if sop_class_uid == _SECONDARY_CAPTURE or sop_class_uid.startswith(f"{_SECONDARY_CAPTURE}."):
        return "a secondary capture"
    if is_screenshot(header):
        return "a screenshot"
    body_part = str(header.get("BodyPartExamined") or "").strip().upper()
    return f"images of {body_part}, which this engine does not read" if body_part in needs.not_of else None


def _too_little(candidate: CandidateSeries, header: Dataset, needs: SeriesNeeds) -> str | None:
    """Say what a series of the right kind lacks."""
    images = _images(candidate)
    if images < needs.minimum_slices:
        return f"{images} {'image' if images == 1 else 'images'}, {needs.minimum_slices} are needed"
    thickness = _thickness_mm(header)
    if thickness is not None and thickness > needs.thickest_mm:
        return f"slices of {thickness:.1f} mm, {needs.thickest_mm:.1f} mm or less are needed"
    return None


def _preference(candidate: CandidateSeries) -> tuple[bool, bool, bool, float, bool, int, str]:
    """Order of fitness, the fittest first; the last part makes it the same every time."""
    header = _image_header(candidate.header)
    image_type = [str(value).upper() for value in header.get("ImageType") or []]
    thickness = _thickness_mm(header)
    return (
        not is_axial(header),
        "ORIGINAL" not in image_type,
        thickness is not None and _images(candidate) * thickness < _WHOLE_MM,
        thickness if thickness is not None else float("inf"),
        kernel_sharpness(header) == "sharp",
        -_images(candidate),
        candidate.series_instance_uid,
    )


def is_screenshot(header: Dataset) -> bool:
    """Tell whether an image was saved from a screen: scanners keep such under the SOP Class of true images too.

    Source: PS3.3 C.8.6.1.1 (Conversion Type: it was an image of something else), makers' values of Image Type.
    """
    words = {str(value).upper().replace("_", " ") for value in header.get("ImageType") or []}
    return bool(words & _SCREENS) or str(header.get("ConversionType") or "").strip().upper() in _CONVERTED


def _image_header(header: Dataset) -> Dataset:
    """Give the header as a single-frame image has it: of the first frame where there are several."""
    return frame_headers(header)[0] if is_multi_frame(header) else header


def _images(candidate: CandidateSeries) -> int:
    """Count the images of a series; each frame of a multi-frame image is one."""
    try:
        frames = max(1, int(candidate.header.get("NumberOfFrames") or 1))
    except (TypeError, ValueError):
        frames = 1
    return frames * candidate.number_of_instances


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
