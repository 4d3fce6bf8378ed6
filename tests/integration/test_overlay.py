"""Pictures of masks on their source."""

from __future__ import annotations

from io import BytesIO
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from inference.errors import UnsuitableStudy
from inference.findings import Mask
from inference.overlay import Plane, overlay_png
from inference.volume import Volume
from tests.builders.chests import LAID, LEFT, RIGHT, Chest, axial, laid

CHEST = Chest(slice_mm=10.0)
RED, BLUE = (240, 110, 100), (90, 160, 245)


def draw(volume: Volume, labels: npt.NDArray[Any], plane: Plane, **how: Any) -> npt.NDArray[np.int64]:
    segments: list[tuple[str, Mask, tuple[int, int, int]]] = [
        ("Right lung", labels == RIGHT, RED),
        ("Left lung", labels == LEFT, BLUE),
    ]
    png = overlay_png(volume, segments, plane, engine="classical-lung", **how)
    return np.asarray(Image.open(BytesIO(png)).convert("RGB")).astype(np.int64)


def outline(picture: npt.NDArray[np.int64], colour: tuple[int, int, int]) -> npt.NDArray[np.int64]:
    """Row and column of each pixel of an outline, away from the legend."""
    found = np.argwhere((picture == colour).all(axis=2))
    return found[found[:, 0] < len(picture) - 60]


@pytest.mark.parametrize("name", LAID)
@pytest.mark.parametrize("plane", ["axial", "coronal"])
def test_the_right_of_the_patient_is_on_the_left_however_the_scan_was_laid(plane: Plane, name: str) -> None:
    volume, labels = laid(CHEST, *LAID[name])
    picture = draw(volume, labels, plane)
    middle = picture.shape[1] / 2
    assert outline(picture, RED)[:, 1].mean() < middle < outline(picture, BLUE)[:, 1].mean()


@pytest.mark.parametrize("name", LAID)
def test_the_same_chest_gives_the_same_pictures_however_it_was_laid(name: str) -> None:
    usual, labels = axial(CHEST)
    volume, turned = laid(CHEST, *LAID[name])
    for plane in ("axial", "coronal", "sagittal"):
        difference = abs(draw(usual, labels, plane, index=20) - draw(volume, turned, plane, index=20))
        assert difference.mean() < 1.0, plane


def test_head_is_up_and_front_is_up() -> None:
    # The apex of a lung is narrower than its base, and the spine lies at the back.
    half = Chest(slice_mm=10.0, span_mm=(-40.0, 140.0))
    volume, labels = axial(half)
    rows = outline(draw(volume, labels, "coronal"), RED)
    upper, lower = rows[rows[:, 0] < rows[:, 0].mean()], rows[rows[:, 0] >= rows[:, 0].mean()]
    assert np.ptp(upper[:, 1]) < np.ptp(lower[:, 1]) * 1.05
    bright = draw(*axial(CHEST), "axial").sum(axis=2)
    middle = bright[:, bright.shape[1] // 2]
    assert middle[len(middle) * 3 // 4] > middle[len(middle) // 10]


def test_proportions_are_those_of_the_patient() -> None:
    volume, labels = axial(CHEST)
    height, width, _ = draw(volume, labels, "coronal").shape
    slices, _, columns = volume.array.shape
    assert height / width == pytest.approx(slices * 10.0 / (columns * CHEST.pixel_mm), rel=0.01)


def test_an_index_beyond_the_volume_gives_its_last_slice() -> None:
    volume, labels = axial(CHEST)
    last = len(volume.array) - 1
    assert np.array_equal(draw(volume, labels, "axial", index=999), draw(volume, labels, "axial", index=last))


def test_letters_are_read_on_bright_tissue() -> None:
    volume, labels = axial(Chest(slice_mm=10.0, right=None, left=None, windpipe=False))
    picture = draw(volume, labels, "coronal", index=30)
    place = picture[:24, picture.shape[1] // 2 - 12 : picture.shape[1] // 2 + 12].sum(axis=2)
    assert place.max() - place.min() > 500  # the letter H has a dark rim


def test_volumes_that_are_not_axial_are_not_drawn() -> None:
    volume, labels = axial(CHEST)
    affine = volume.affine[:, [1, 0, 2, 3]]
    with pytest.raises(UnsuitableStudy, match="not axial"):
        overlay_png(
            Volume(volume.array, affine, volume.headers, volume.sources, volume.frame_numbers),
            [("Right lung", labels == RIGHT, RED)],
            "axial",
            engine="classical-lung",
        )
