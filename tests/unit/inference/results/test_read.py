"""Outlines read back are the outlines that were written."""

from __future__ import annotations

import numpy as np
import pytest
from pydicom import Dataset, dcmread

from inference.errors import UnusableAnswer
from inference.results.read import segments_of
from tests.builders.findings import lungs
from tests.builders.result_sets import lung_set
from tests.builders.shared_data import shared_data


def test_description_of_segments_is_read() -> None:
    right, left = segments_of(lung_set().seg)
    assert (right.number, right.label, left.label) == (1, "Right lung", "Left lung")
    assert right.type == lungs().segments[0].type
    assert left.laterality == lungs().segments[1].laterality
    assert right.tracking_uid != left.tracking_uid


def test_colour_survives_within_a_step() -> None:
    for read, written in zip(segments_of(lung_set().seg), lungs().segments, strict=True):
        assert np.allclose(read.colour, written.colour, atol=2)


def test_frame_of_a_strange_image_is_refused() -> None:
    (right, _) = segments_of(lung_set().seg)
    with pytest.raises(UnusableAnswer, match="names no image"):
        right.stacked(["1.2.3"])


def test_what_is_no_segmentation_is_refused() -> None:
    with pytest.raises(UnusableAnswer, match="unknown"):
        segments_of(Dataset())


def test_damaged_segmentation_is_refused() -> None:
    seg = lung_set().seg
    seg.PixelData = seg.PixelData[:10]
    with pytest.raises(UnusableAnswer):
        segments_of(seg)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(
    ("parts", "labels"),
    [
        (("sr_seg", "dcmqi_seg.dcm"), 1),
        (("sr_seg", "hd_seg_image_ct_binary.dcm"), 1),
        (("sr_seg", "hd_seg_image_ct_binary_overlap.dcm"), 2),
        (("sr_seg", "labelmap_sparse-labelmap-ppv5.dcm"), 1),
        (("ct_abdomen", "dcmqi_liver_seg", "liver.dcm"), 1),
        (("ct_abdomen", "dcmqi_liver_seg", "partial_overlaps.dcm"), 3),
    ],
)
def test_segmentations_of_others_are_read(parts: tuple[str, ...], labels: int) -> None:
    segments = segments_of(dcmread(shared_data(*parts)))
    assert len(segments) >= labels
    assert all(frame.mask.dtype == np.bool_ for segment in segments for frame in segment.frames)
    assert any(frame.mask.any() for segment in segments for frame in segment.frames)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_fractional_segmentations_are_refused_with_their_type() -> None:
    with pytest.raises(UnusableAnswer, match="FRACTIONAL"):
        segments_of(dcmread(shared_data("sr_seg", "hd_seg_image_ct_true_fractional.dcm")))
