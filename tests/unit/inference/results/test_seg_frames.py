"""Frames written as bytes: the same data set as highdicom's own, read back by two readers alike."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import Any

import highdicom as hd
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import Dataset, dcmread
from pydicom.uid import ExplicitVRLittleEndian

from inference.errors import UnusableAnswer
from inference.findings import Findings
from inference.results.evidence import Evidence
from inference.results.forms import Form
from inference.results.frames import frame_facts
from inference.results.read import segments_of
from inference.results.references import stand_in
from inference.results.seg import make_seg
from inference.results.seg_frames import packed
from tests.builders.findings import NODE, ct_headers, lungs, make_run
from tests.builders.result_sets import built

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")

#: What differs on purpose, or by chance in highdicom's: UIDs, times, and what `make_seg` replaces.
OWN = {
    *("SOPInstanceUID", "SeriesInstanceUID", "DimensionOrganizationUID", "ContentDate", "ContentTime", "TrackingUID"),
    *("InstanceCreationDate", "InstanceCreationTime", "ContentCreatorName", "ReferencedSeriesSequence"),
    *("SeriesDate", "SeriesTime", "ContributionDateTime"),
}
OBLIQUE = {"column_direction": (0, 0.8, 0.6)}
TURNED = {"row_direction": (0, 1, 0), "column_direction": (0, 0, -1)}


def of_highdicom(findings: Findings, evidence: tuple[Dataset, ...], kind: str) -> Dataset:
    """The segmentation as highdicom makes it from all source images and the whole label map."""
    ours = make_seg(findings.segments, Evidence.of(evidence), make_run(evidence), NODE, Form(kind, "none"))  # type: ignore[arg-type]
    assert ours is not None
    labels = np.zeros(findings.segments[0].mask.shape, dtype=np.uint8)
    for number, segment in enumerate(findings.segments, 1):
        labels[segment.mask] = number
    sources = []
    for header in evidence:
        source = stand_in(header)
        for keyword in ("Rows", "Columns", "FrameOfReferenceUID", "PositionReferenceIndicator", "PixelSpacing"):
            setattr(source, keyword, header[keyword].value)
        for keyword in ("ImageOrientationPatient", "ImagePositionPatient", "SliceThickness"):
            setattr(source, keyword, header[keyword].value)
        source.SpacingBetweenSlices = 5.0
        sources.append(source)
    described = [hd.seg.SegmentDescription.from_dataset(item) for item in ours.SegmentSequence]
    made = hd.seg.Segmentation(
        source_images=sources,
        pixel_array=labels,
        segmentation_type=kind.upper(),
        segment_descriptions=described,
        series_instance_uid=ours.SeriesInstanceUID,
        series_number=ours.SeriesNumber,
        sop_instance_uid=ours.SOPInstanceUID,
        instance_number=1,
        manufacturer=NODE.manufacturer,
        manufacturer_model_name=NODE.model_name,
        software_versions=NODE.version,
        device_serial_number=NODE.serial_number,
        transfer_syntax_uid=ExplicitVRLittleEndian,
        content_label=ours.ContentLabel,
        content_description=ours.ContentDescription,
        series_description=ours.SeriesDescription,
        content_qualification="RESEARCH",
    )
    if kind == "labelmap":
        made.SegmentSequence = made.SegmentSequence[1:]  # the background that ours has no segment for
    return made


def plain(dataset: Dataset) -> dict[str, Any]:
    """Values by keyword, sequences as lists, without what differs on purpose."""
    said: dict[str, Any] = {}
    for element in dataset:
        if element.keyword in OWN or element.tag.group == 2:
            continue
        if element.VR == "SQ":
            said[element.keyword] = [plain(item) for item in element.value]
        elif element.VR == "DS":
            values = element.value if element.VM > 1 else [element.value]
            said[element.keyword] = [float(value) for value in values]
        else:
            said[element.keyword] = element.value
    return said


def read_back(dataset: Dataset) -> Dataset:
    target = io.BytesIO()
    dataset.save_as(target, implicit_vr=False, little_endian=True, enforce_file_format=False)
    return dcmread(io.BytesIO(target.getvalue()), force=True)


@pytest.mark.parametrize("geometry", [{}, TURNED, OBLIQUE], ids=["axial", "sagittal", "oblique"])
@pytest.mark.parametrize("kind", ["binary", "labelmap"])
@pytest.mark.parametrize("count", [1, 2])
def test_data_set_is_that_of_highdicom_element_for_element(kind: str, count: int, geometry: dict[str, Any]) -> None:
    evidence = ct_headers(**geometry)
    findings = lungs(segments=lungs().segments[:count])
    ours = make_seg(findings.segments, Evidence.of(evidence), make_run(evidence), NODE, Form(kind, "none"))  # type: ignore[arg-type]
    assert ours is not None
    theirs = of_highdicom(findings, evidence, kind)
    assert plain(ours) == plain(theirs)


@pytest.mark.parametrize("kind", ["binary", "labelmap"])
def test_masks_come_back_bit_for_bit(kind: str) -> None:
    made = built(lungs(), form=Form(kind, "none"))  # type: ignore[arg-type]
    uids = [str(header.SOPInstanceUID) for header in made.evidence]
    for segment, read in zip(lungs().segments, segments_of(made.seg), strict=True):
        assert read.label == segment.label
        assert np.array_equal(read.stacked(uids), segment.mask)


def test_label_map_names_its_background_by_a_value_and_not_by_a_segment() -> None:
    seg = built(lungs(), form=Form("labelmap", "comprehensive-3d")).seg
    assert seg.SOPClassUID == "1.2.840.10008.5.1.4.1.1.66.7"
    assert seg.PixelPaddingValue == 0
    assert [item.SegmentNumber for item in seg.SegmentSequence] == [1, 2]
    assert np.unique(seg.pixel_array).tolist() == [0, 1, 2]


def test_segments_that_overlap_stay_whole_in_binary() -> None:
    one, other = lungs().segments
    wide = replace(other, mask=other.mask | np.roll(one.mask, 3, axis=2))
    seg = built(lungs(segments=(one, wide))).seg
    assert seg.SegmentsOverlap == "YES"
    uids = [str(header.SOPInstanceUID) for header in ct_headers()]
    assert all(
        np.array_equal(read.stacked(uids), segment.mask)
        for read, segment in zip(segments_of(seg), (one, wide), strict=True)
    )


def test_segments_that_overlap_are_refused_in_a_label_map() -> None:
    one, other = lungs().segments
    wide = replace(other, mask=other.mask | one.mask)
    with pytest.raises(UnusableAnswer, match="share voxels"):
        built(lungs(segments=(one, wide)), form=Form("labelmap", "none"))


def test_more_than_255_segments_take_sixteen_bits() -> None:
    segments = []
    for number in range(300):
        mask = np.zeros((12, 64, 64), dtype=np.bool_)
        mask[number % 12, number // 12, :3] = True
        segments.append(replace(lungs().segments[0], label=f"Part {number}", tracking_id=f"part-{number}", mask=mask))
    seg = built(lungs(segments=tuple(segments), groups=()), form=Form("labelmap", "none")).seg
    assert (seg.BitsAllocated, int(seg.pixel_array.max())) == (16, 300)


def test_frames_read_from_bytes_are_those_read_from_the_data_set() -> None:
    made = built(lungs()).seg
    quick = frame_facts(made)
    list(made.PerFrameFunctionalGroupsSequence)  # decodes it: from here on the other reader works
    assert frame_facts(made) == quick
    assert len(quick) == made.NumberOfFrames
    assert {frame.segment_number for frame in quick} == {1, 2}


def test_frames_with_undefined_lengths_are_read_too() -> None:
    made = built(lungs()).seg
    quick = frame_facts(made)
    made["PerFrameFunctionalGroupsSequence"].is_undefined_length = True
    for item in made.PerFrameFunctionalGroupsSequence:
        item.is_undefined_length_sequence_item = True
    again = read_back(made)
    assert again.get_item(0x52009230).is_undefined_length or again.get_item(0x52009230).VR == "SQ"
    assert frame_facts(again) == quick


@given(st.lists(st.lists(st.booleans(), min_size=15, max_size=15), min_size=1, max_size=9))
def test_bits_are_packed_without_gaps_whatever_the_size_of_a_frame(frames: list[list[bool]]) -> None:
    masks = [np.array(frame, dtype=np.bool_).reshape(3, 5) for frame in frames]
    content = packed(masks)
    assert len(content) % 2 == 0
    bits = np.unpackbits(np.frombuffer(content, dtype=np.uint8), count=15 * len(masks), bitorder="little")
    assert np.array_equal(bits.reshape(-1, 3, 5).astype(np.bool_), np.array(masks))
