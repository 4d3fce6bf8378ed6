"""The segmentation: on the source's grid, referring to all of it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from inference.errors import UnusableAnswer
from inference.findings import Findings
from tests.builders.findings import ct_headers, lungs, make_run
from tests.builders.result_sets import built, lung_set


def with_mask(findings: Findings, index: int, mask: np.ndarray) -> Findings:  # type: ignore[type-arg]
    segments = list(findings.segments)
    segments[index] = replace(segments[index], mask=mask)
    return replace(findings, segments=tuple(segments))


def test_all_source_instances_are_referenced_in_one_series() -> None:
    result = lung_set()
    (series,) = result.seg.ReferencedSeriesSequence
    assert series.SeriesInstanceUID == result.evidence[0].SeriesInstanceUID
    told = [item.ReferencedSOPInstanceUID for item in series.ReferencedInstanceSequence]
    assert told == [header.SOPInstanceUID for header in result.evidence]


def test_every_frame_names_its_source_image_and_lies_in_its_plane() -> None:
    result = lung_set()
    positions = {header.SOPInstanceUID: header.ImagePositionPatient for header in result.evidence}
    for item in result.seg.PerFrameFunctionalGroupsSequence:
        (derivation,) = item.DerivationImageSequence
        (source,) = derivation.SourceImageSequence
        assert derivation.DerivationCodeSequence[0].CodeValue == "113076"
        assert item.PlanePositionSequence[0].ImagePositionPatient == positions[source.ReferencedSOPInstanceUID]


def test_grid_and_frame_of_reference_are_those_of_the_source() -> None:
    result = lung_set()
    source, seg = result.evidence[0], result.seg
    shared = seg.SharedFunctionalGroupsSequence[0]
    assert seg.FrameOfReferenceUID == source.FrameOfReferenceUID
    assert (seg.Rows, seg.Columns) == (source.Rows, source.Columns)
    assert shared.PixelMeasuresSequence[0].PixelSpacing == source.PixelSpacing
    assert shared.PlaneOrientationSequence[0].ImageOrientationPatient == source.ImageOrientationPatient


def test_slices_without_an_outline_have_no_frame() -> None:
    findings = lungs()
    drawn = sum(int(segment.mask.any(axis=(1, 2)).sum()) for segment in findings.segments)
    assert built(findings).seg.NumberOfFrames == drawn < 24


def test_segments_say_what_they_are() -> None:
    right, left = lung_set().seg.SegmentSequence
    assert (right.SegmentNumber, right.SegmentLabel, left.SegmentLabel) == (1, "Right lung", "Left lung")
    for segment, side in ((right, "24028007"), (left, "7771000")):
        kind = segment.SegmentedPropertyTypeCodeSequence[0]
        assert kind.CodeValue == "39607008"
        assert kind.SegmentedPropertyTypeModifierCodeSequence[0].CodeValue == side
        assert segment.SegmentAlgorithmType == "AUTOMATIC"
        algorithm = segment.SegmentationAlgorithmIdentificationSequence[0]
        assert algorithm.AlgorithmFamilyCodeSequence[0].CodeValue == "123105"
        assert (algorithm.AlgorithmName, algorithm.AlgorithmVersion) == ("classical-lung", "1.0")
        assert all((segment.TrackingID, segment.TrackingUID, segment.RecommendedDisplayCIELabValue))


def test_object_says_that_it_is_research_and_what_it_holds() -> None:
    seg = lung_set().seg
    assert seg.ContentQualification == "RESEARCH"
    assert seg.SeriesDescription == "RESEARCH Lung outlines (classical, not AI)"
    assert seg.ContentLabel == "LUNG_OUTLINES"
    assert seg.SegmentsOverlap == "NO"
    assert (seg.SeriesNumber, seg.InstanceNumber) == (9003, 1)


def test_distance_of_slices_is_that_of_their_positions() -> None:
    headers = ct_headers(SpacingBetweenSlices="99")
    measures = built(lungs(), evidence=headers).seg.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    assert measures.SpacingBetweenSlices == 5.0


def test_orientations_that_differ_in_their_last_digit_are_one() -> None:
    headers = ct_headers()
    headers[3].ImageOrientationPatient = ["1", "0.000001", "0", "0", "1", "0"]
    assert built(lungs(), evidence=headers).seg.NumberOfFrames


def test_slice_thickness_that_is_missing_is_taken_from_the_positions() -> None:
    headers = ct_headers(SliceThickness=None)
    measures = built(lungs(), evidence=headers).seg.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    assert measures.SliceThickness == 5.0


def test_single_slice_can_be_outlined() -> None:
    findings = lungs()
    findings = with_mask(with_mask(findings, 0, findings.segments[0].mask[5:6]), 1, findings.segments[1].mask[5:6])
    seg = built(findings, evidence=ct_headers(1)).seg
    assert seg.NumberOfFrames == 2


def test_single_segment_can_be_outlined() -> None:
    findings = replace(lungs(), segments=lungs().segments[:1])
    assert len(built(findings).seg.SegmentSequence) == 1


def test_rows_and_columns_that_are_no_multiple_of_eight_are_packed_without_gaps() -> None:
    headers = ct_headers(7, rows=13, columns=11)
    findings = lungs((7, 13, 11))
    mask = np.zeros((7, 13, 11), dtype=np.bool_)
    mask[2:5, 3:9, 1:4] = True
    other = np.zeros_like(mask)
    other[3, 12, 10] = True
    findings = with_mask(with_mask(findings, 0, mask), 1, other)
    assert built(findings, evidence=headers).seg.NumberOfFrames == 4


def test_mask_of_another_shape_is_refused() -> None:
    findings = lungs()
    with pytest.raises(UnusableAnswer, match="the series is"):
        built(with_mask(findings, 1, findings.segments[1].mask[:, :, :-1]))


@pytest.mark.parametrize("keyword", ["FrameOfReferenceUID", "ImagePositionPatient", "PixelSpacing"])
def test_outlines_on_images_without_a_place_are_refused(keyword: str) -> None:
    headers = ct_headers()
    del headers[4][keyword]
    with pytest.raises(UnusableAnswer, match="no position"):
        built(lungs(), evidence=headers)


def test_revision_is_the_instance_number_of_the_same_series() -> None:
    first = built(lungs(), run=make_run()).seg
    second = built(lungs(), run=make_run(run_key="e" * 64, revision=2)).seg
    assert second.SeriesInstanceUID == first.SeriesInstanceUID
    assert second.InstanceNumber == 2
    assert second.SOPInstanceUID != first.SOPInstanceUID
