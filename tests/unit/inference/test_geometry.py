"""Where slices lie, and whether they make a volume."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inference.errors import UnsuitableStudy
from inference.geometry import Plane, plane_of, stack
from tests.builders.series import ORIENTATIONS, asymmetric, make_series


def planes(count: int = 6, **overrides: object) -> list[Plane]:
    return [plane_of(each) for each in make_series(asymmetric((count, 8, 10)), **overrides)]  # type: ignore[arg-type]


def moved(plane: Plane, *by: float) -> Plane:
    return replace(plane, position=plane.position + np.asarray(by))


@pytest.mark.parametrize("name", ORIENTATIONS)
def test_an_index_leads_to_its_place_in_the_patient(name: str) -> None:
    row, column = ORIENTATIONS[name]
    lying = planes(row=row, column=column, spacing_mm=(3.0, 0.5, 0.8), origin=(-20, 30, 100))
    order, affine = stack(lying[::-1])
    assert order == [5, 4, 3, 2, 1, 0]
    expected = lying[2].position + 7 * 0.5 * np.asarray(column) + 4 * 0.8 * np.asarray(row)
    assert np.allclose((affine @ [2, 7, 4, 1])[:3], expected, atol=1e-4)


@settings(max_examples=40, deadline=None)
@given(st.permutations(range(6)))
def test_the_order_of_arrival_does_not_matter(arrival: list[int]) -> None:
    lying = planes()
    order, affine = stack([lying[index] for index in arrival])
    assert [arrival[index] for index in order] == list(range(6))
    assert np.array_equal(affine, stack(lying)[1])


def test_one_slice_is_a_volume_as_thick_as_the_slice() -> None:
    order, affine = stack(planes(1), thickness_mm=5.0)
    assert order == [0]
    assert np.linalg.norm(affine[:3, 0]) == 5.0


def test_rounded_table_positions_are_no_gaps() -> None:
    lying = planes(40, spacing_mm=(0.625, 1.0, 1.0))
    rounded = [replace(plane, position=np.round(plane.position, 1)) for plane in lying]
    _, affine = stack(rounded)
    assert np.linalg.norm(affine[:3, 0]) == pytest.approx(0.625, abs=0.01)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (lambda p: [*p[:2], *p[3:]], r"about 1 image is missing: a gap of 5\.00 mm where 2\.50 mm is usual"),
        (lambda p: [p[0], *p[4:], *(moved(p[5], 0, 0, 2.5 * n) for n in range(1, 4))], r"about 3 images are missing"),
        (lambda p: [*p, p[3]], r"1 image lies at the same place"),
        (lambda p: [*p, *p], r"6 images lie at the same place"),
        (lambda p: [*p, moved(p[2], 0, 0, 1.2)], r"images lie 1\.\d\d mm apart where 2\.50 mm is usual"),
        (
            lambda p: [moved(plane, 0, 0.6 * index, 0) for index, plane in enumerate(p)],
            r"the gantry was tilted by 13\.5°",
        ),
        (
            lambda p: [moved(plane, 30.0 if 1 < index < 4 else 0, 0, 0) for index, plane in enumerate(p)],
            r"shifted sideways against each other by up to 30\.0 mm",
        ),
        (
            lambda p: [*p[:5], replace(p[5], row=p[5].column, column=-p[5].row)],
            r"images of different orientation stand in one series \(turned by 90\.0°\)",
        ),
        (lambda p: [*p[:5], replace(p[5], row=-p[5].row, column=-p[5].column)], r"turned by 180\.0°"),
        (lambda p: [*p[:5], replace(p[5], shape=(16, 10))], r"different size stand in one series \(8x10 and 16x10\)"),
        (
            lambda p: [*p[:5], replace(p[5], spacing_mm=(0.8, 0.75))],
            r"different pixel spacing stand in one series \(0\.750 and 0\.800 mm\)",
        ),
    ],
)
def test_slices_that_make_no_volume_are_refused_with_figures(
    wrong: Callable[[list[Plane]], list[Plane]], said: str
) -> None:
    with pytest.raises(UnsuitableStudy, match=said):
        stack(wrong(planes()))


@pytest.mark.parametrize(
    ("keyword", "value", "said"),
    [
        ("ImagePositionPatient", None, "lacks ImagePositionPatient"),
        ("ImageOrientationPatient", None, "lacks ImageOrientationPatient"),
        ("PixelSpacing", None, "lacks PixelSpacing"),
        ("ImagePositionPatient", [0, 0], "position or orientation is no sensible value"),
        ("ImagePositionPatient", ["0", "0", "nan"], "position or orientation is no sensible value"),
        ("ImageOrientationPatient", [1, 0, 0, 1, 0, 0], "not of two unit vectors at right angles"),
        ("ImageOrientationPatient", [2, 0, 0, 0, 2, 0], "not of two unit vectors"),
        ("ImageOrientationPatient", [0, 0, 0, 0, 0, 0], "not of two unit vectors"),
        ("PixelSpacing", ["0", "0.75"], r"8x10 pixels of 0x0\.75 mm makes no volume"),
        ("PixelSpacing", ["nan", "0.75"], r"pixels of nanx0\.75 mm makes no volume"),
        ("PixelSpacing", ["-1", "0.75"], r"pixels of -1x0\.75 mm makes no volume"),
        ("Rows", 0, r"an image of 0x10 pixels"),
    ],
)
def test_a_header_that_says_no_sensible_place_is_refused(keyword: str, value: object, said: str) -> None:
    (header,) = make_series(asymmetric((1, 8, 10)), **{keyword: value})
    with pytest.raises(UnsuitableStudy, match=said):
        plane_of(header)


def test_nearly_unit_vectors_of_a_rounded_header_are_made_unit_vectors() -> None:
    (header,) = make_series(asymmetric((1, 8, 10)), ImageOrientationPatient=[0.999, 0.001, 0, 0, 1.001, 0])
    plane = plane_of(header)
    assert np.linalg.norm(plane.row) == pytest.approx(1)
    assert np.linalg.norm(plane.normal) == pytest.approx(1, abs=1e-5)
