"""What a segmentation must be before it is kept: on the source's grid, referring to all of it, loadable."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

import numpy as np
from pydicom import Dataset
from pydicom.uid import UID

from inference.results import codes
from inference.results.elements import first_of, items_of, numbers, text_of
from inference.results.evidence import Evidence
from inference.results.forms import SEGMENTATIONS
from inference.results.frames import FrameFacts, SourceFrame, frame_facts

#: Largest difference of a position, mm, and of a direction cosine that is still the same.
POSITION_TOLERANCE_MM = 1e-3
COSINE_TOLERANCE = 1e-4

_BINARY = {"SegmentationType": "BINARY", "BitsAllocated": 1, "BitsStored": 1, "HighBit": 0}
#: Background has a value of its own and is no segment. Source: PS3.3 C.8.20.2 (Pixel Padding Value of label maps).
_LABEL_MAP = {"SegmentationType": "LABELMAP", "SegmentsOverlap": "NO", "PixelPaddingValue": 0}
_LABEL = re.compile(r"[A-Z0-9_ ]{1,16}")


def segmentation_problems(seg: Dataset, evidence: Sequence[Dataset]) -> Iterator[str]:
    """Name every broken rule of a segmentation."""
    facts = frame_facts(seg)
    yield from _image(seg, evidence)
    yield from _pixels(seg, len(facts))
    yield from _referenced_series(seg, evidence)
    yield from _segment_sequence(seg)
    if Evidence.of(evidence).lies_nowhere:
        yield from _no_geometry(seg, facts)
    else:
        yield from _shared_geometry(seg, evidence)
    yield from _frames(seg, facts, evidence)
    yield from _codes(facts)
    yield from _dimensions(seg, facts)


def _image(seg: Dataset, evidence: Sequence[Dataset]) -> Iterator[str]:
    """Type, grid and pixel data (PS3.3 C.8.20.2)."""
    expected = {
        **(_LABEL_MAP if _is_label_map(seg) else _BINARY),
        "SamplesPerPixel": 1,
        "PixelRepresentation": 0,
        "PhotometricInterpretation": "MONOCHROME2",
        "LossyImageCompression": text_of(evidence[0], "LossyImageCompression") or "00",
    }
    for keyword, value in expected.items():
        if seg.get(keyword) != value:
            yield f"{keyword} is not {value}"
    if seg.get("SegmentsOverlap") not in ("YES", "NO"):
        yield "it does not say whether segments overlap"
    if not _LABEL.fullmatch(str(seg.get("ContentLabel", ""))):
        yield "Content Label is not at most 16 of A-Z, 0-9, _ and space"
    if not seg.get("ContentCreatorName"):
        yield "Content Creator's Name is missing"
    rows, columns = seg.get("Rows"), seg.get("Columns")
    if any((header.get("Rows"), header.get("Columns")) != (rows, columns) for header in evidence):
        yield "the grid is not that of the source (Weasis refuses it)"


def _pixels(seg: Dataset, frames: int) -> Iterator[str]:
    """As many pixels as frames."""
    if seg.get("NumberOfFrames", 0) != frames:
        yield "Number of Frames is not that of the per-frame groups"
    bits = frames * int(seg.get("Rows") or 0) * int(seg.get("Columns") or 0) * int(seg.get("BitsAllocated") or 0)
    length = (bits + 7) // 8
    if not bits or len(seg.get("PixelData", b"")) != length + length % 2:
        yield "Pixel Data has another length than its frames"


def _referenced_series(seg: Dataset, evidence: Sequence[Dataset]) -> Iterator[str]:
    """One series with all its instances; OHIF refuses a segmentation without, and warns of several."""
    series = items_of(seg, "ReferencedSeriesSequence")
    if len(series) != 1:
        yield f"{len(series)} series are referenced at the top level (OHIF wants one)"
        return
    if series[0].get("SeriesInstanceUID") != evidence[0].SeriesInstanceUID:
        yield "the referenced series is not the source"
    told = {
        str(item.get("ReferencedSOPInstanceUID")): str(item.get("ReferencedSOPClassUID"))
        for item in items_of(series[0], "ReferencedInstanceSequence")
    }
    if told != {str(header.SOPInstanceUID): str(header.SOPClassUID) for header in evidence}:
        yield "the referenced instances are not all those of the source"


def _segment_sequence(seg: Dataset) -> Iterator[str]:
    segments = items_of(seg, "SegmentSequence")
    if [item.get("SegmentNumber") for item in segments] != list(range(1, len(segments) + 1)) or not segments:
        yield "segments are not numbered from 1 without gaps"
    for keyword in ("SegmentLabel", "TrackingID", "TrackingUID"):
        values = [str(item.get(keyword, "")) for item in segments]
        if len(set(values)) != len(values):
            yield f"two segments share a {keyword}"
        if not all(values):
            yield f"a segment has no {keyword}"
    for item in segments:
        yield from (f"segment {item.get('SegmentNumber')}: {problem}" for problem in _segment(item))


def _segment(item: Dataset) -> Iterator[str]:
    if len(str(item.get("SegmentLabel", ""))) > 64:
        yield "its label is longer than 64 characters"
    if not UID(str(item.get("TrackingUID", ""))).is_valid:
        yield "its Tracking UID is no UID"
    if item.get("SegmentAlgorithmType") != "AUTOMATIC" or not item.get("SegmentAlgorithmName"):
        yield "it does not say by which algorithm it was made automatically"
    for keyword in ("SegmentedPropertyCategoryCodeSequence", "SegmentedPropertyTypeCodeSequence"):
        if len(items_of(item, keyword)) != 1:
            yield f"{keyword} is missing"
    colour = item.get("RecommendedDisplayCIELabValue")
    if colour is None or len(colour) != 3 or not all(0 <= int(value) <= 65535 for value in colour):
        yield "it has no display colour"
    for algorithm in items_of(item, "SegmentationAlgorithmIdentificationSequence"):
        if algorithm.get("AlgorithmName") and algorithm.get("AlgorithmVersion"):
            return
    yield "its algorithm has no name and version"


def _shared_geometry(seg: Dataset, evidence: Sequence[Dataset]) -> Iterator[str]:
    """Frame of reference, spacing and orientation are those of every source image."""
    frame = seg.get("FrameOfReferenceUID")
    if not frame or any(header.get("FrameOfReferenceUID") != frame for header in evidence):
        yield "Frame of Reference UID is not that of the source"
    shared = first_of(seg, "SharedFunctionalGroupsSequence")
    for sequence, keyword, count, tolerance in (
        ("PixelMeasuresSequence", "PixelSpacing", 2, POSITION_TOLERANCE_MM),
        ("PlaneOrientationSequence", "ImageOrientationPatient", 6, COSINE_TOLERANCE),
    ):
        item = first_of(shared, sequence)
        ours = numbers(item, keyword, count)
        if ours is None or not all(_near(ours, numbers(header, keyword, count), tolerance) for header in evidence):
            yield f"{keyword} is not that of the source"


def _no_geometry(seg: Dataset, facts: Sequence[FrameFacts]) -> Iterator[str]:
    """What was drawn on an image that lies nowhere lies nowhere: no spatial attribute is invented."""
    if seg.get("FrameOfReferenceUID"):
        yield "it has a frame of reference, and its source lies in none"
    if "PatientOrientation" not in seg:
        yield "Patient Orientation is missing (type 2C)"
    shared = first_of(seg, "SharedFunctionalGroupsSequence")
    for keyword in ("PixelMeasuresSequence", "PlaneOrientationSequence", "PlanePositionSequence"):
        if keyword in shared:
            yield f"it has a {keyword}, and its source lies nowhere"
    if any(frame.position is not None for frame in facts):
        yield "a frame has a position, and its source has none"


def _frames(seg: Dataset, facts: Sequence[FrameFacts], evidence: Sequence[Dataset]) -> Iterator[str]:
    """Each frame lies where the one image lies that it was drawn on (Weasis fails on an empty derivation)."""
    used = Evidence.of(evidence)
    headers = {
        (str(header.SOPInstanceUID), number): header for header, number in zip(used, used.frame_numbers, strict=True)
    }
    numbered = {item.get("SegmentNumber") for item in items_of(seg, "SegmentSequence")}
    shared = first_of(first_of(seg, "SharedFunctionalGroupsSequence"), "SegmentIdentificationSequence")
    drawn = set()
    for index, frame in enumerate(facts, 1):
        drawn.add(shared.get("ReferencedSegmentNumber") if frame.segment_number is None else frame.segment_number)
        sources = _sources(frame)
        source = sources[0] if len(sources) == 1 else None
        header = headers.get((source.sop_instance_uid, source.frame_number)) if source is not None else None
        if source is None or header is None or source.sop_class_uid != header.SOPClassUID:
            yield f"frame {index} does not name the one source image that it was drawn on"
        elif not used.lies_nowhere and not _near(
            frame.position, numbers(header, "ImagePositionPatient", 3), POSITION_TOLERANCE_MM
        ):
            yield f"frame {index} lies elsewhere than its source image"
    if not _is_label_map(seg) and drawn != numbered:
        yield "frames and segments do not belong together"


def _sources(frame: FrameFacts) -> list[SourceFrame]:
    """Source images of a frame, of segmentation derivations alone (113076)."""
    kind = codes.SEGMENTATION_DERIVATION.value
    return [
        source
        for derivation in frame.derivations
        if any(code is not None and code.value == kind for code in derivation.codes)
        for source in derivation.sources
    ]


def _codes(facts: Sequence[FrameFacts]) -> Iterator[str]:
    """Codes within the frames are known too."""
    seen = {code for frame in facts for each in frame.derivations for code in (*each.codes, *each.purposes)}
    for code in seen:
        if code is None:
            yield "a code item is incomplete"
        elif not codes.is_known(code):
            yield f"code ({code.value}, {code.scheme}, {code.meaning!r}) is not known"


def _dimensions(seg: Dataset, facts: Sequence[FrameFacts]) -> Iterator[str]:
    """Every frame has its own place in the dimensions (PS3.3 C.7.6.17)."""
    indexes = items_of(seg, "DimensionIndexSequence")
    organizations = {item.get("DimensionOrganizationUID") for item in items_of(seg, "DimensionOrganizationSequence")}
    if not indexes or {item.get("DimensionOrganizationUID") for item in indexes} != organizations:
        yield "the dimension index names another organization"
    places = [frame.dimensions for frame in facts]
    if any(len(place) != len(indexes) for place in places) or len(set(places)) != len(places):
        yield "frames have no place of their own in the dimensions"


def _is_label_map(seg: Dataset) -> bool:
    return str(seg.get("SOPClassUID", "")) == SEGMENTATIONS["labelmap"]


def _near(ours: Sequence[float] | None, theirs: Sequence[float] | None, tolerance: float) -> bool:
    return ours is not None and theirs is not None and bool(np.allclose(ours, theirs, rtol=0.0, atol=tolerance))
