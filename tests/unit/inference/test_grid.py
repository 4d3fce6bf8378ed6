"""Single images without a place in a patient."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from inference.errors import UnsuitableStudy
from inference.grid import PixelGrid, read_grid
from tests.builders.codecs import frame_of, in_syntax, jpeg_baseline, with_frames
from tests.builders.ct import encode, make_ct_instance
from tests.builders.series import folder_sources, source
from tests.builders.shared_data import shared_data


def grey(values: list[list[int]], **overrides: Any) -> PixelGrid:
    pixels = np.asarray(values, "<u2")
    said = {"Rows": pixels.shape[0], "Columns": pixels.shape[1], "PixelData": pixels.tobytes(), "RescaleIntercept": "0"}
    return read_grid(source(encode(make_ct_instance(**said | overrides))))


def test_grey_values_are_those_after_the_modality_lut() -> None:
    grid = grey([[0, 10], [20, 30]], RescaleSlope="2", RescaleIntercept="-5")
    assert grid.array.dtype == np.float32
    assert grid.array.tolist() == [[-5, 15], [35, 55]]
    assert grid.frame_number is None
    assert "PixelData" not in grid.header


def test_monochrome1_is_turned_so_that_larger_is_brighter() -> None:
    assert grey([[0, 10, 40]], PhotometricInterpretation="MONOCHROME1").array.tolist() == [[40, 30, 0]]


def test_photographs_are_rgb_of_eight_bit() -> None:
    red = np.zeros((64, 48, 3), np.uint8)
    red[..., 0] = 200
    grid = read_grid(source(jpeg_baseline(red)))
    assert grid.array.dtype == np.uint8
    assert abs(grid.array.astype(int) - red).max() <= 4


def test_a_frame_of_several_is_named_by_its_number() -> None:
    frames = np.arange(12, dtype="<u2").reshape(3, 2, 2)
    made = make_ct_instance(Rows=2, Columns=2, NumberOfFrames=3, PixelData=frames.tobytes(), RescaleIntercept="0")
    grid = read_grid(source(encode(made)), 2)
    assert grid.frame_number == 2
    assert grid.array.tolist() == frames[1].tolist()


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ({"PixelSpacing": [0.2, 0.3]}, (0.2, 0.3)),
        ({"PixelSpacing": None}, None),
        ({"PixelSpacing": None, "ImagerPixelSpacing": [0.2, 0.2]}, None),
        (
            {"PixelSpacing": None, "ImagerPixelSpacing": [0.2, 0.4], "EstimatedRadiographicMagnificationFactor": "2"},
            (0.1, 0.2),
        ),
        ({"PixelSpacing": ["0", "0.3"]}, None),
        ({"PixelSpacing": ["nan", "0.3"]}, None),
    ],
)
def test_spacing_is_that_in_the_patient_or_unknown(
    header: dict[str, Any], expected: tuple[float, float] | None
) -> None:
    assert grey([[1, 2]], **header).spacing_mm == expected


@pytest.mark.parametrize(
    ("part10", "frame", "said"),
    [
        (b"no DICOM at all", 1, "no sound DICOM instance"),
        (encode(make_ct_instance()), 2, "has 1 frames"),
        (encode(make_ct_instance(PhotometricInterpretation="PALETTE COLOR")), 1, "PALETTE COLOR, neither grey nor RGB"),
        (encode(make_ct_instance(Rows=60000, Columns=60000)), 1, "60000x60000 pixels is larger than any"),
        (encode(make_ct_instance(Rows=99)), 1, "cannot be decoded"),
    ],
    ids=["text", "no such frame", "palette", "huge", "cut short"],
)
def test_what_is_no_grid_is_refused_with_its_reason(part10: bytes, frame: int, said: str) -> None:
    with pytest.raises(UnsuitableStudy, match=said):
        read_grid(source(part10, "1.2.3"), frame)


def test_a_frame_that_announces_another_size_is_refused() -> None:
    rle = in_syntax(make_ct_instance(), "1.2.840.10008.1.2.5")
    with pytest.raises(UnsuitableStudy, match="RLE header"):
        read_grid(source(with_frames(rle, frame_of(rle)[:40])))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("parts", "shape"),
    [
        (("cxr", "nih_pa_no_finding.dcm"), (1024, 1024)),
        (("cxr", "nema_RG1_thorax_J2KI.dcm"), (1955, 1841)),
        (("cxr", "gdcm_CR-MONO1-10-chest.dcm"), (440, 440)),
        (("derm", "intraoral_photo_jpegext_8bit.dcm"), (445, 795, 3)),
    ],
)
def test_real_images_are_read(parts: tuple[str, ...], shape: tuple[int, ...]) -> None:
    (made,) = folder_sources(shared_data(*parts))
    grid = read_grid(made)
    assert grid.array.shape == shape
    if parts[0] == "cxr":  # the middle (spine, heart) is brighter than the lungs beside it, however it is stored
        rows, columns = shape[:2]
        middle = grid.array[rows // 2 : rows * 3 // 4, columns * 9 // 20 : columns * 11 // 20].mean()
        beside = grid.array[rows // 3 : rows // 2, columns // 4 : columns // 3].mean()
        assert middle > beside
