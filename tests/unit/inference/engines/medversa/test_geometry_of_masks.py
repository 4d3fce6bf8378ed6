"""What is done to images on their way in is undone for their masks."""

from __future__ import annotations

from itertools import permutations, product

import numpy as np
import numpy.typing as npt
import pytest

from inference.engines.medversa.postprocess import (
    largest_component,
    mask_of_image,
    mask_of_volume,
    resized_image_mask,
)
from inference.engines.medversa.preprocess import (
    foreground,
    image_pixels,
    nearest_along,
    normalised_volume,
    volume_voxels,
)
from inference.engines.medversa.trained_axes import TrainedAxes, towards

Bools = npt.NDArray[np.bool_]


def dice(one: Bools, other: Bools) -> float:
    return float(2 * (one & other).sum() / (one.sum() + other.sum()))


def ellipse(rows: int, columns: int) -> Bools:
    row, column = np.mgrid[:rows, :columns]
    return (((row - 0.3 * rows) / (0.2 * rows)) ** 2 + ((column - 0.6 * columns) / (0.15 * columns)) ** 2) < 1


@pytest.mark.parametrize("shape", [(97, 131), (512, 300), (2000, 2500), (40, 224)])
def test_an_outline_of_an_image_lies_where_it_was_seen(shape: tuple[int, int]) -> None:
    there = ellipse(*shape)
    image = np.repeat(there[:, :, None], 3, axis=2).astype(np.uint8) * 255
    seen = image_pixels(image, 224)[0]
    middle = (seen.max() + seen.min()) / 2
    back = mask_of_image(seen - middle, shape)
    assert back.shape == shape
    assert dice(back, there) > 0.97
    middles = [np.argwhere(mask).mean(axis=0) for mask in (back, there)]
    assert np.abs(middles[0] - middles[1]).max() < 0.02 * max(shape) / 2


def test_every_pixel_of_an_even_mask_comes_back() -> None:
    assert mask_of_image(np.ones((224, 224), np.float32), (33, 517)).all()
    assert not mask_of_image(-np.ones((224, 224), np.float32), (33, 517)).any()


def patient_phantom(letters: str) -> tuple[npt.NDArray[np.int16], npt.NDArray[np.float64]]:
    """One thing in the patient's left upper front, stored in axes that rise towards the given sides."""
    size, step = {0: 30, 1: 24, 2: 18}, {0: 1.0, 1: 1.5, 2: 3.0}
    axes = towards(letters)
    affine = np.eye(4)
    affine[:3, :3] = 0
    array = np.full([size[world] for world, _ in axes], -100, np.int16)
    for axis, (world, sign) in enumerate(axes):
        affine[world, axis] = sign * step[world]
        affine[world, 3] = 0 if sign > 0 else (size[world] - 1) * step[world]
    place = np.indices(array.shape).reshape(3, -1)
    world_mm = (affine[:3, :3] @ place + affine[:3, 3:]).reshape(3, *array.shape)
    left, front, upper = world_mm[0] > 22, world_mm[1] < 10, world_mm[2] > 33
    array[left & front & upper] = 200
    return array, affine


EVERY_ORIENTATION = ["".join(letters) for order in permutations(("LR", "PA", "SI")) for letters in product(*order)]


@pytest.mark.parametrize("stored", EVERY_ORIENTATION)
def test_a_volume_is_seen_in_the_trained_axes_however_it_is_stored(stored: str) -> None:
    array, affine = patient_phantom(stored)
    axes = TrainedAxes.of(affine, "LAS")
    seen = axes.apply(array)
    assert seen.shape == (30, 24, 18)
    assert np.array_equal(seen, patient_phantom("LAS")[0])
    assert np.array_equal(axes.undo(seen), array)


def test_another_training_order_is_one_setting() -> None:
    array, affine = patient_phantom("SPL")
    assert np.array_equal(TrainedAxes.of(affine, "RAI").apply(array), patient_phantom("RAI")[0])


def test_an_oblique_axis_counts_as_the_nearest() -> None:
    array, affine = patient_phantom("SPL")
    tilt = np.radians(20)
    turn = np.array([[1, 0, 0], [0, np.cos(tilt), -np.sin(tilt)], [0, np.sin(tilt), np.cos(tilt)]])
    tilted = affine.copy()
    tilted[:3, :3] = turn @ affine[:3, :3]
    assert TrainedAxes.of(tilted) == TrainedAxes.of(affine)
    assert TrainedAxes.of(affine).apply(array).shape == (30, 24, 18)


@pytest.mark.parametrize("letters", ["LA", "LRS", "XAS", "LASS", "las"])
def test_letters_that_are_no_order_are_refused(letters: str) -> None:
    with pytest.raises(ValueError, match="no order of axes"):
        towards(letters)


@pytest.mark.parametrize("stored", ["SPL", "SAR", "IPL", "LPS", "PSR"])
@pytest.mark.parametrize("grid", [(64, 192, 192), (32, 64, 48)])
def test_an_outline_of_a_volume_lies_where_it_was_seen(stored: str, grid: tuple[int, int, int]) -> None:
    array, affine = patient_phantom(stored)
    axes = TrainedAxes.of(affine)
    hu = axes.apply(array)
    logits = volume_voxels(hu, grid).astype(np.float32) - 50
    first, second, depth = hu.shape
    mask = np.moveaxis(mask_of_volume(logits, (depth, first, second)), 0, -1)
    assert dice(axes.undo(mask), array > 50) > 0.93


def test_first_and_last_voxels_meet_first_and_last() -> None:
    for had, wanted in ((5, 64), (600, 64), (64, 64), (1, 3)):
        places = nearest_along(had, wanted)
        assert (places[0], places[-1], len(places)) == (0, had - 1, wanted)
    assert nearest_along(7, 1).tolist() == [0]


def test_an_even_volume_has_numbers() -> None:
    for value in (0, -1000, 55):
        assert np.isfinite(normalised_volume(np.full((4, 5, 6), value, np.int16))).all()
    one = np.zeros((4, 5, 6), np.int16)
    one[0, 0, 0] = 9
    assert foreground(one) == (9.0, 1.0)


def test_the_largest_part_is_kept_and_corners_join() -> None:
    mask = np.zeros((6, 8), bool)
    mask[0, 0] = mask[1, 1] = mask[2, 2] = True
    mask[5, 6:] = True
    kept = largest_component(mask)
    assert np.argwhere(kept).tolist() == [[0, 0], [1, 1], [2, 2]]
    assert not largest_component(np.zeros((3, 3), bool)).any()
    assert resized_image_mask(mask, (3, 4)).shape == (3, 4)
