"""Outlines as a Segmentation on the source's own grid: BINARY, one frame per segment and slice, or LABELMAP.

On an image that lies in no frame of reference (a projection, a photograph) the grid is its pixels: the object
has no spatial attribute and says by reference what it was drawn on.

The object is highdicom's, made for one frame; the frames are put in as bytes.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import highdicom as hd
import numpy as np
import numpy.typing as npt
from highdicom.seg import SegmentAlgorithmTypeValues, SegmentationTypeValues, SegmentDescription
from pydicom import Dataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, SecondaryCaptureImageStorage

from inference.errors import UnusableAnswer
from inference.findings import Segment
from inference.results import codes, words
from inference.results.elements import numbers, text_of
from inference.results.evidence import Evidence
from inference.results.forms import CANONICAL, Form
from inference.results.references import instance_reference, referenced_series, stand_in
from inference.results.run import NodeIdentity, Run, result_uid, series_number, series_uid, tracking_uid
from inference.results.seg_frames import PER_FRAME_GROUPS, Frame, packed, per_frame_groups
from inference.results.source_planes import SourcePlane, evenly_spaced, planes_of, sorted_planes

#: Frame Label of the one frame of a label map that lies nowhere.
FRAME_LABEL = "Frame"
_KINDS = {"binary": SegmentationTypeValues.BINARY, "labelmap": SegmentationTypeValues.LABELMAP}


def make_seg(
    segments: Sequence[Segment], evidence: Evidence, run: Run, node: NodeIdentity, form: Form = CANONICAL
) -> Dataset | None:
    """Make the segmentation of one run; None where nothing is outlined.

    Empty masks are left out: their absence is said in the report, not by a segment without frames.

    Parameters
    ----------
    evidence
        Headers of the source instances, in the order of the masks' slices.
    form
        Its outlines are `binary`, whose segments may overlap, or `labelmap`.

    Raises
    ------
    UnusableAnswer
        Masks have another shape than the series, overlap in a label map, or lie on several images of which nothing
        says how they lie to each other.
    """
    drawn = [segment for segment in segments if segment.outlined.any()]
    if not drawn:
        return None
    planes = planes_of(evidence)
    _check_shapes(drawn, _shape(evidence))
    seg = _without_frames(drawn, evidence, run, node, form)
    cosines = () if evidence.lies_nowhere else numbers(evidence[0], "ImageOrientationPatient", 6) or ()
    order = sorted_planes(planes, cosines) if cosines else list(range(len(planes)))
    order = [index for index in order if any(segment.outlined[index] for segment in drawn)]
    if not cosines and len(order) > 1:
        raise UnusableAnswer(f"{len(order)} images without a frame of reference are outlined in one answer")
    if form.outlines == "labelmap":
        _put_label_map(seg, drawn, planes, order)
    else:
        _put_binary(seg, drawn, planes, order)
    several = form.outlines == "binary" and len(drawn) > 1
    if cosines and not several and evenly_spaced([planes[i] for i in order], cosines):
        seg.DimensionOrganizationType = "3D"
    return seg


def _put_binary(seg: Dataset, drawn: Sequence[Segment], planes: Sequence[SourcePlane], order: Sequence[int]) -> None:
    place = {index: number for number, index in enumerate(order, 1)}
    alone = len(drawn) == 1  # its number stands in the shared groups
    frames = [
        (
            Frame(index, _dimensions(number, place[index], planes[index]), None if alone else number),
            segment.mask[index],
        )
        for number, segment in enumerate(drawn, 1)
        for index in order
        if segment.outlined[index]
    ]
    seg.SegmentsOverlap = "YES" if _overlap(drawn) else "NO"
    seg.NumberOfFrames = len(frames)
    seg[PER_FRAME_GROUPS] = per_frame_groups([frame for frame, _ in frames], planes)
    seg.PixelData = packed(mask for _, mask in frames)


def _dimensions(number: int, place: int, plane: SourcePlane) -> tuple[int, ...]:
    """Index values by segment and by place; what lies nowhere is told by its segment alone."""
    return (number,) if plane.position is None else (number, place)


def _put_label_map(seg: Dataset, drawn: Sequence[Segment], planes: Sequence[SourcePlane], order: Sequence[int]) -> None:
    """One frame for each slice; 0 is no segment and is named by Pixel Padding Value alone.

    A segment called background would shift the labels in readers that count segments from one.
    """
    if _overlap(drawn):
        raise UnusableAnswer("segments share voxels, which no label map can hold")
    dtype = np.uint8 if len(drawn) < 256 else np.uint16
    pixels = b"".join(label_plane(drawn, index, dtype).tobytes() for index in order)
    seg.SegmentSequence = seg.SegmentSequence[1:]
    seg.SegmentsOverlap = "NO"
    seg.NumberOfFrames = len(order)
    # Where no position can be the dimension, the label is: it is the same for the one frame.
    frames = [
        Frame(index, (number,), None, "" if planes[index].position else FRAME_LABEL)
        for number, index in enumerate(order, 1)
    ]
    seg[PER_FRAME_GROUPS] = per_frame_groups(frames, planes)
    seg.PixelData = pixels + bytes(len(pixels) % 2)


def label_plane(drawn: Sequence[Segment], index: int, dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    """Give one slice as a label map: the first segment is 1, what is no segment 0."""
    labels = np.zeros(drawn[0].mask.shape[1:], dtype=dtype)
    for number, segment in enumerate(drawn, 1):
        if segment.outlined[index]:
            box = segment.box[1:]
            labels[box][segment.mask[index][box]] = number
    return labels


def _overlap(drawn: Sequence[Segment]) -> bool:
    """Tell whether two segments share a voxel."""
    for one, other in itertools.combinations(drawn, 2):
        common = tuple(
            slice(max(a.start, b.start), min(a.stop, b.stop)) for a, b in zip(one.box, other.box, strict=True)
        )
        if all(part.start < part.stop for part in common) and (one.mask[common] & other.mask[common]).any():
            return True
    return False


def _check_shapes(drawn: Sequence[Segment], shape: tuple[int, int, int]) -> None:
    for segment in drawn:
        if segment.mask.shape != shape:
            raise UnusableAnswer(f"mask of {segment.label!r} is {segment.mask.shape}, the series is {shape}")


def _without_frames(drawn: Sequence[Segment], evidence: Evidence, run: Run, node: NodeIdentity, form: Form) -> Dataset:
    """Make all of the object but its frames, from one slice that has a voxel of each segment."""
    first = evidence[0]
    made = hd.seg.Segmentation(
        source_images=[_source(evidence)],
        pixel_array=_one_slice(len(drawn), int(first.Rows), int(first.Columns)),
        segmentation_type=_KINDS[form.outlines],
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
    seg = Dataset(made)
    # highdicom references the images that it was given and draws the dimension organization by chance.
    seg.ContentCreatorName = f"{run.engine.name}^"  # a name of one component, and no retired form
    seg.ReferencedSeriesSequence = [referenced_series(evidence.instances)]
    if "SourceImageSequence" in seg:
        seg.SourceImageSequence = [instance_reference(header) for header in evidence.instances]
    dimensions = result_uid(run.run_key, str(form), "seg/dimensions")
    seg.DimensionOrganizationSequence[0].DimensionOrganizationUID = dimensions
    for item in seg.DimensionIndexSequence:
        item.DimensionOrganizationUID = dimensions
    return seg


def _one_slice(count: int, rows: int, columns: int) -> npt.NDArray[Any]:
    """One slice with a voxel of each segment."""
    if count > rows * columns:
        raise UnusableAnswer("there are more segments than a slice has pixels")
    labels = np.zeros(rows * columns, dtype=np.uint8 if count < 256 else np.uint16)
    labels[:count] = np.arange(1, count + 1)
    return labels.reshape(1, rows, columns)


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


def _shape(evidence: Evidence) -> tuple[int, int, int]:
    return len(evidence), int(evidence[0].Rows), int(evidence[0].Columns)


def _source(evidence: Evidence) -> Dataset:
    """Stand-in of the first source image with the geometry of the series.

    Orientation and spacing are those of the first image for all: headers of one series differ in their
    last digits. The distance of slices is that of their positions, which Spacing Between Slices often
    contradicts.
    """
    first = evidence[0]
    source = stand_in(first)
    if evidence.frame_numbers[0] is not None:
        # highdicom would look for functional groups; the class is named in the frames, which are put in later.
        source.SOPClassUID = SecondaryCaptureImageStorage if evidence.lies_nowhere else CTImageStorage
    source.Rows, source.Columns = first.Rows, first.Columns
    for keyword in ("LossyImageCompression", "LossyImageCompressionRatio", "LossyImageCompressionMethod"):
        if first.get(keyword):
            setattr(source, keyword, first[keyword].value)
    if evidence.lies_nowhere:
        return source
    source.FrameOfReferenceUID = text_of(first, "FrameOfReferenceUID")
    source.PositionReferenceIndicator = ""
    source.PixelSpacing = first.PixelSpacing
    source.ImageOrientationPatient = first.ImageOrientationPatient
    source.ImagePositionPatient = first.ImagePositionPatient
    thickness, distance = numbers(first, "SliceThickness", 1), slice_spacing(evidence)
    source.SliceThickness = thickness[0] if thickness and thickness[0] > 0 else (distance or 1.0)
    if distance:
        source.SpacingBetweenSlices = round(distance, 6)
    return source


def slice_spacing(evidence: Evidence) -> float | None:
    """Mean distance of neighbouring slices along the normal, mm, whatever their order; None for a single slice."""
    if len(evidence) < 2:
        return None
    along = numbers(evidence[0], "ImageOrientationPatient", 6) or (1, 0, 0, 0, 1, 0)
    normal = np.cross(along[:3], along[3:])
    positions = [numbers(header, "ImagePositionPatient", 3) or (0, 0, 0) for header in evidence]
    depths = np.array(positions, dtype=float) @ normal
    return float(np.ptp(depths)) / (len(evidence) - 1)
