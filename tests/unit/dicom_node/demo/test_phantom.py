from __future__ import annotations

from pathlib import Path

import numpy as np
from pydicom import dcmread

from dicom_node.demo.phantom import LEFT, RIGHT, ChestPhantom, write_phantom_study


def test_the_same_seed_draws_the_same_chest_and_another_seed_another() -> None:
    first, again, other = (
        ChestPhantom(slices=8, spacing_mm=37.5, size=128, seed=seed).slice(4)[0] for seed in (3, 3, 4)
    )
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_lungs_hold_air_and_the_patients_right_is_on_the_left_of_the_image() -> None:
    image, lungs = ChestPhantom(slices=8, spacing_mm=37.5, size=128).slice(4)
    columns = np.arange(128)[None, :].repeat(128, axis=0)
    assert columns[lungs == RIGHT].mean() < 64 < columns[lungs == LEFT].mean()
    assert -900 < image[lungs > 0].mean() < -750
    assert image[64, 64] > -100  # between the lungs is no air


def test_a_study_is_one_series_on_an_even_grid_of_a_synthetic_patient(tmp_path: Path) -> None:
    told: list[int] = []
    files = write_phantom_study(
        tmp_path, slices=3, spacing_mm=100.0, seed=5, on_slice=lambda done, _: told.append(done)
    )
    slices = [dcmread(path) for path in files]
    assert told == [1, 2, 3]
    assert len({each.SOPInstanceUID for each in slices}) == 3
    assert len({(each.StudyInstanceUID, each.SeriesInstanceUID, each.FrameOfReferenceUID) for each in slices}) == 1
    assert [float(each.ImagePositionPatient[2]) for each in slices] == [0.0, -100.0, -200.0]
    assert {str(each.PatientName) for each in slices} == {"Phantom^Chest"}
    hounsfield = slices[1].pixel_array.astype(int) * int(slices[1].RescaleSlope) + int(slices[1].RescaleIntercept)
    assert hounsfield.min() < -950
    assert hounsfield.max() > 200
