"""Outlines as a Segmentation: BINARY, one frame per segment and slice, on the source's own grid."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import highdicom as hd
import numpy as np
import numpy.typing as npt
from highdicom.seg import SegmentAlgorithmTypeValues, SegmentationTypeValues, SegmentDescription
from pydicom import Dataset
from pydicom.uid import ExplicitVRLittleEndian

from inference.errors import UnusableAnswer
from inference.findings import Segment
from inference.results import codes, words
from inference.results.elements import numbers, text_of
from inference.results.forms import CANONICAL, Form
from inference.results.references import referenced_series, stand_in
from inference.results.run import (
    NodeIdentity,
    Run,
    result_uid,
    series_number,
    series_uid,
    tracking_uid,
)

_GEOMETRY = (("ImagePositionPatient", 3), ("ImageOrientationPatient", 6), ("PixelSpacing", 2))


def make_seg(
    segments: Sequence[Segment], evidence: Sequence[Dataset], run: Run, node: NodeIdentity, form: Form = CANONICAL
) -> Dataset | None:
    """Make the segmentation of one run; None where nothing is outlined.

    Empty masks are left out: their absence is said in the report, not by a segment without frames.

    Parameters
    ----------
    evidence
        Headers of the source instances, in the order of the masks' slices.

    Raises
    ------
    UnusableAnswer
        Masks overlap, have another shape than the series, or the series has no geometry to point at.
    """
    drawn = [segment for segment in segments if segment.mask.any()]
    if not drawn:
        return None
    labels = label_map(drawn, _shape(evidence))
    seg = hd.seg.Segmentation(
        source_images=_sources(evidence),
        pixel_array=labels,
        segmentation_type=SegmentationTypeValues.BINARY,
        segment_descriptions=[_describe(number, segment, run) for number, segment in enumerate(drawn, 1)],
        series_instance_uid=series_uid(run.study_instance_uid, run.engine.name, "seg", str(form)),
        series_number=series_number(run, "seg"),
        sop_instance_uid=result_uid(run.run_key, str(form), "seg"),
        instance_number=run.revision,
        manufacturer=node.manufacturer,
        manufacturer_model_name=node.model_name,
        software_versions=node.version,
        device_serial_number=node.serial_number,
        transfer_syntax_uid=ExplicitVRLittleEndian,
        content_label=words.content_label(run.engine),
        content_description=words.description(run.engine, "seg"),
        omit_empty_frames=True,
        series_description=words.description(run.engine, "seg"),
        content_qualification="RESEARCH",
    )
    # highdicom references the images that it was given and draws the dimension organization by chance.
    seg.ContentCreatorName = f"{run.engine.name}^"  # a name of one component, and no retired form
    seg.ReferencedSeriesSequence = [referenced_series(evidence)]
    dimensions = result_uid(run.run_key, str(form), "seg/dimensions")
    seg.DimensionOrganizationSequence[0].DimensionOrganizationUID = dimensions
    for item in seg.DimensionIndexSequence:
        item.DimensionOrganizationUID = dimensions
    return seg


def label_map(segments: Sequence[Segment], shape: tuple[int, int, int]) -> npt.NDArray[Any]:
    """Join masks that do not overlap into one array: 0 background, n the n-th segment.

    Raises
    ------
    UnusableAnswer
        A mask has another shape, or two masks share a voxel.
    """
    labels = np.zeros(shape, dtype=np.uint8 if len(segments) < 256 else np.uint16)
    for number, segment in enumerate(segments, 1):
        if segment.mask.shape != shape or segment.mask.dtype != np.bool_:
            raise UnusableAnswer(f"mask of {segment.label!r} is {segment.mask.shape}, the series is {shape}")
        if number > 1 and np.any(labels[segment.mask]):
            raise UnusableAnswer(f"{segment.label!r} shares voxels with another segment")
        labels[segment.mask] = number
    return labels


def _describe(number: int, segment: Segment, run: Run) -> SegmentDescription:
    engine = run.engine
    described = SegmentDescription(
        segment_number=number,
        segment_label=segment.label,
        segmented_property_category=codes.concept(segment.category),
        segmented_property_type=codes.concept(segment.type),
        algorithm_type=SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=hd.AlgorithmIdentificationSequence(
            name=engine.name,
            family=codes.concept(engine.family),
            version=engine.version,
            source=engine.manufacturer or None,
        ),
        tracking_uid=tracking_uid(run.study_instance_uid, engine.name, segment.tracking_id),
        tracking_id=segment.tracking_id,
        display_color=hd.color.CIELabColor.from_rgb(*segment.colour),
    )
    if segment.laterality is not None:
        kind = described.SegmentedPropertyTypeCodeSequence[0]
        kind.SegmentedPropertyTypeModifierCodeSequence = [codes.concept(segment.laterality)]
    return described


def _shape(evidence: Sequence[Dataset]) -> tuple[int, int, int]:
    return len(evidence), int(evidence[0].Rows), int(evidence[0].Columns)


def _sources(evidence: Sequence[Dataset]) -> list[Dataset]:
    """Stand-ins of the source images with their geometry.

    Orientation and spacing are those of the first image for all: headers of one series differ in their
    last digits. The distance of slices is that of their positions, which Spacing Between Slices often
    contradicts.
    """
    for header in evidence:
        for keyword, count in _GEOMETRY:
            if numbers(header, keyword, count) is None or not text_of(header, "FrameOfReferenceUID"):
                raise UnusableAnswer(
                    "a source image has no position in a frame of reference, so that nothing can be outlined on it",
                    sop_instance_uid=str(header.SOPInstanceUID),
                )
    first = evidence[0]
    thickness = numbers(first, "SliceThickness", 1)
    distance = slice_spacing(evidence)
    sources = []
    for header in evidence:
        source = stand_in(header)
        source.Rows, source.Columns = first.Rows, first.Columns
        source.FrameOfReferenceUID = text_of(first, "FrameOfReferenceUID")
        source.PositionReferenceIndicator = ""
        source.PixelSpacing = first.PixelSpacing
        source.ImageOrientationPatient = first.ImageOrientationPatient
        source.ImagePositionPatient = header.ImagePositionPatient
        source.SliceThickness = thickness[0] if thickness and thickness[0] > 0 else (distance or 1.0)
        if distance:
            source.SpacingBetweenSlices = round(distance, 6)
        for keyword in ("LossyImageCompression", "LossyImageCompressionRatio", "LossyImageCompressionMethod"):
            if header.get(keyword):
                setattr(source, keyword, header[keyword].value)
        sources.append(source)
    return sources


def slice_spacing(evidence: Sequence[Dataset]) -> float | None:
    """Mean distance of neighbouring slices along the normal, mm; None for a single slice."""
    if len(evidence) < 2:
        return None
    first, last = (np.array(numbers(evidence[end], "ImagePositionPatient", 3) or (0, 0, 0)) for end in (0, -1))
    along = numbers(evidence[0], "ImageOrientationPatient", 6) or (1, 0, 0, 0, 1, 0)
    normal = np.cross(along[:3], along[3:])
    return abs(float(np.dot(last - first, normal))) / (len(evidence) - 1)
