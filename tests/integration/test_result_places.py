"""Outlines lie where they were drawn: twelve orientations, oblique, anisotropic, in single images and in frames."""

from __future__ import annotations

import io
from dataclasses import replace

import highdicom as hd
import numpy as np
import numpy.typing as npt
import pytest
from pydicom import Dataset
from pydicom.uid import EnhancedCTImageStorage, EnhancedMRImageStorage, LegacyConvertedEnhancedMRImageStorage

from inference.results.build import build_results
from inference.results.evidence import Evidence
from inference.results.forms import Form
from inference.results.read import segments_of
from inference.results.result import Result
from tests.builders.findings import NODE, ct_headers, lungs, make_run
from tests.builders.multi_frame import multi_frame
from tests.builders.series import ORIENTATIONS

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")

SHAPE = (10, 24, 32)
SHUFFLED = [3, 9, 0, 6, 1, 8, 4, 7, 2, 5]
ORDERS = {"ascending": list(range(10)), "descending": list(range(9, -1, -1)), "shuffled": SHUFFLED}
SOURCES = {
    "classic": "",
    "enhanced CT": EnhancedCTImageStorage,
    "enhanced MR": EnhancedMRImageStorage,
    "legacy-converted": LegacyConvertedEnhancedMRImageStorage,
}
SPACINGS = {"usual": ((0.8, 0.7), 2.5), "anisotropic": ((0.4, 2.1), 6.3)}


def phantom() -> npt.NDArray[np.bool_]:
    """An L with a foot: equal to none of its mirror images."""
    mask = np.zeros(SHAPE, dtype=np.bool_)
    mask[2:8, 3:17, 5:9] = True
    mask[2:4, 13:17, 5:25] = True
    mask[7, 3:6, 5:14] = True
    return mask


def slices_of(orientation: str, spacing: str) -> tuple[Dataset, ...]:
    row, column = ORIENTATIONS[orientation]
    pixels, slice_mm = SPACINGS[spacing]
    return ct_headers(
        10, rows=24, columns=32, row_direction=row, column_direction=column, spacing=pixels, slice_mm=slice_mm
    )


def evidence_of(slices: tuple[Dataset, ...], source: str, order: list[int]) -> Evidence:
    """The slices in this order; as frames of one image: that image's frames are in this order, the masks' are not."""
    if not SOURCES[source]:
        return Evidence([slices[index] for index in order])
    image = multi_frame(order, SOURCES[source], slices=slices)
    return Evidence.of_frames([image] * 10, [order.index(index) + 1 for index in range(10)])


def place(header: Dataset, row: float, column: float) -> npt.NDArray[np.float64]:
    """Where a voxel's centre lies, patient mm, by the source's own attributes."""
    cosines = np.array([float(value) for value in header.ImageOrientationPatient])
    down, across = (float(value) for value in header.PixelSpacing)
    start = np.array([float(value) for value in header.ImagePositionPatient])
    return np.asarray(start + column * across * cosines[:3] + row * down * cosines[3:])


def written(mask: npt.NDArray[np.bool_], evidence: Evidence, outlines: str) -> Result:
    segment = replace(lungs().segments[0], mask=mask)
    foot = np.zeros_like(mask)
    foot[5, 20:23, 28:31] = True
    other = replace(lungs().segments[1], mask=foot)
    findings = replace(lungs(), segments=(segment, other), groups=())
    (seg,) = build_results(findings, evidence, make_run(evidence), NODE, Form.of(f"{outlines}+none"))
    return seg


@pytest.mark.parametrize("outlines", ["binary", "labelmap"])
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_phantom_lies_where_it_was_drawn(orientation: str, source: str, order: str, outlines: str) -> None:
    check(slices_of(orientation, "usual"), source, order, outlines, voxel_mm=0.7)


@pytest.mark.parametrize("outlines", ["binary", "labelmap"])
@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_phantom_of_anisotropic_voxels_lies_where_it_was_drawn(orientation: str, source: str, outlines: str) -> None:
    check(slices_of(orientation, "anisotropic"), source, "shuffled", outlines, voxel_mm=0.4)


def check(slices: tuple[Dataset, ...], source: str, order: str, outlines: str, *, voxel_mm: float) -> None:
    """Hold a segmentation, as another reader understands it by position alone, against where its mask was drawn."""
    evidence = evidence_of(slices, source, ORDERS[order])
    mask = phantom() if SOURCES[source] else phantom()[ORDERS[order]]
    seg = written(mask, evidence, outlines)

    read = segments_of(seg.dataset)[0]
    uids = [str(header.SOPInstanceUID) for header in evidence]
    assert np.array_equal(read.stacked(uids, evidence.frame_numbers), mask)

    drawn = [place(evidence[index], row, column) for index, row, column in np.argwhere(mask)]
    volume = hd.seg.segread(io.BytesIO(seg.part10)).get_volume(segment_numbers=[1])
    found = np.argwhere(volume.array[..., 0])
    points = volume.map_indices_to_reference(found)
    assert len(points) == len(drawn)
    assert np.linalg.norm(points.mean(axis=0) - np.mean(drawn, axis=0)) <= 0.5 * voxel_mm
    # Not the centre alone: every voxel lies at the place of a drawn one.
    ours, theirs = (np.array(sorted(map(tuple, np.round(each, 2) + 0.0))) for each in (points, np.array(drawn)))
    assert np.allclose(ours, theirs, atol=0.1)
