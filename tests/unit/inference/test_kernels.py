"""Kernels as their makers name them."""

from __future__ import annotations

import pytest
from pydicom import Dataset

from inference.kernels import kernel_name, kernel_sharpness


def header(maker: str | None, kernel: object) -> Dataset:
    made = Dataset()
    made.Manufacturer, made.ConvolutionKernel = maker, kernel
    return made


@pytest.mark.parametrize(
    ("maker", "kernel", "expected"),
    [
        ("SIEMENS", "B30f", "smooth"),
        ("SIEMENS", "B40f", "smooth"),
        ("SIEMENS", "B70f", "sharp"),
        ("Siemens Healthineers", ["Br40f", "3"], "smooth"),
        ("Siemens Healthineers", ["Bl57f", "3"], "sharp"),
        ("GE MEDICAL SYSTEMS", "STANDARD", "smooth"),
        ("GE MEDICAL SYSTEMS", "LUNG", "sharp"),
        ("GE MEDICAL SYSTEMS", "BONEPLUS", "sharp"),
        ("Philips", "B", "smooth"),
        ("Philips", "YC", "sharp"),
        ("TOSHIBA", "FC08", "smooth"),
        ("Canon Medical Systems", "FC52", "sharp"),
        ("GE MEDICAL SYSTEMS", "SOMETHING", "unknown"),
        ("Somebody", "LUNG", "unknown"),
        (None, None, "unknown"),
        ("SIEMENS", "", "unknown"),
    ],
)
def test_kernels_are_told_apart_as_far_as_their_names_say(maker: str | None, kernel: object, expected: str) -> None:
    assert kernel_sharpness(header(maker, kernel)) == expected


def test_kernels_are_named_as_the_scanner_names_them() -> None:
    assert kernel_name(header("SIEMENS", ["Br40f", "3"])) == "Br40f/3"
    assert kernel_name(header("Philips", "B")) == "B"
    assert kernel_name(Dataset()) == "unknown"
