"""Outlines read back are the outlines that were written."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from pydicom import Dataset, dcmread

from inference.errors import UnusableAnswer
from inference.results.read import segments_of
from tests.builders.findings import ct_headers, lungs
from tests.builders.result_sets import built, lung_set
from tests.builders.shared_data import shared_data

X, Y, Z = np.eye(3)
#: Axial, coronal and sagittal, each in two mirrored and two turned forms.
ORIENTATIONS = [
    (sign * row, other * column)
    for row, column in ((X, Y), (X, -Z), (Y, -Z))
    for sign, other in itertools.product((1, -1), repeat=2)
]
OBLIQUE = (np.array([0.936, 0.352, 0.0]), np.array([-0.247, 0.657, 0.712]))


def phantom(shape: tuple[int, int, int] = (10, 24, 32)) -> np.ndarray:  # type: ignore[type-arg]
    """An L with a foot: equal to none of its mirror images."""
    mask = np.zeros(shape, dtype=np.bool_)
    mask[2:8, 3:17, 5:9] = True
    mask[2:4, 13:17, 5:25] = True
    mask[7, 3:6, 5:14] = True
    return mask


def centre(mask: np.ndarray, headers: tuple[Dataset, ...]) -> np.ndarray:  # type: ignore[type-arg]
    """Mean position of the voxels of a mask, patient mm, by the source's geometry."""
    found = []
    for index, row, column in np.argwhere(mask):
        found.append(place(headers[index], row, column))
    return np.mean(found, axis=0)


def place(header: Dataset, row: float, column: float) -> np.ndarray:  # type: ignore[type-arg]
    cosines = np.array([float(value) for value in header.ImageOrientationPatient])
    down, across = (float(value) for value in header.PixelSpacing)
    start = np.array([float(value) for value in header.ImagePositionPatient])
    return start + column * across * cosines[:3] + row * down * cosines[3:]


@pytest.mark.parametrize("order", ["ascending", "descending"])
@pytest.mark.parametrize("turned", [*ORIENTATIONS, OBLIQUE], ids=lambda pair: "/".join(map(str, pair[0].round(1))))
def test_phantom_lies_where_it_was_drawn(turned: tuple[np.ndarray, np.ndarray], order: str) -> None:  # type: ignore[type-arg]
    row, column = turned
    headers = ct_headers(10, rows=24, columns=32, row_direction=row, column_direction=column, slice_mm=2.5)
    mask = phantom()
    if order == "descending":
        headers, mask = headers[::-1], mask[::-1].copy()
    findings = replace(lungs(), segments=(replace(lungs().segments[0], mask=mask),), groups=())
    (read,) = segments_of(built(findings, evidence=headers).seg)

    assert np.array_equal(read.stacked([header.SOPInstanceUID for header in headers]), mask)
    points = []
    for frame in read.frames:
        assert frame.position is not None
        header = Dataset()
        header.ImagePositionPatient = list(frame.position)
        header.ImageOrientationPatient = headers[0].ImageOrientationPatient
        header.PixelSpacing = headers[0].PixelSpacing
        points.extend(place(header, row, column) for row, column in np.argwhere(frame.mask))
    assert np.linalg.norm(np.mean(points, axis=0) - centre(mask, headers)) <= 0.5 * 0.7


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
