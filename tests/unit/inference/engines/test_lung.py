"""Lungs outlined and measured on chests that nobody has, and refusals with figures."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from pydicom import Dataset

from inference.engines.lung import ClassicalLung
from inference.engines.lung_figures import why_no_indices
from inference.errors import UnsuitableStudy
from inference.findings import Findings
from inference.results import codes
from inference.volume import Volume
from tests.builders.chests import LAID, LEFT, RIGHT, Array, Chest, axial, laid
from tests.builders.series import ORIENTATIONS

CHEST = Chest()
#: Thin slices over the lungs alone: what densitometry asks for.
THIN = Chest(slice_mm=1.5, pixel_mm=5.0, span_mm=(-114.0, 114.0), couch=False)


def analyse(chest: Chest, **header: Any) -> tuple[Findings, Array, Volume]:
    volume, labels = axial(chest, **header)
    return ClassicalLung().analyse(volume), labels, volume


def dice(mask: Array, truth: Array) -> float:
    return float(2 * (mask & truth).sum() / (mask.sum() + truth.sum()))


def numbers(findings: Findings, group: str = "both lungs") -> dict[str, float]:
    (found,) = [each for each in findings.groups if each.tracking_id == group]
    return {each.name.value: each.value for each in found.measurements}


def withheld(findings: Findings) -> dict[str, str]:
    return {each.name.value: each.reason for group in findings.groups for each in group.not_computed}


def check_sides(findings: Findings, labels: Array) -> None:
    right, left = findings.segments
    assert (right.label, right.laterality) == ("Right lung", codes.RIGHT)
    assert (left.label, left.laterality) == ("Left lung", codes.LEFT)
    assert right.mask.shape == left.mask.shape == labels.shape
    assert not (right.mask & left.mask).any()
    assert dice(right.mask, labels == RIGHT) > 0.98
    assert dice(left.mask, labels == LEFT) > 0.98


@pytest.mark.parametrize("name", LAID)
def test_sides_are_told_apart_however_the_scan_was_laid(name: str) -> None:
    volume, labels = laid(CHEST, *LAID[name])
    check_sides(ClassicalLung().analyse(volume), labels)


def test_sides_are_told_apart_in_slices_from_head_to_feet() -> None:
    volume, labels = axial(CHEST)
    # The same voxels from the other end: the affine says so, and nothing else does.
    affine = volume.affine.copy()
    affine[:3, 3] += affine[:3, 0] * (len(labels) - 1)
    affine[:3, 0] *= -1
    flipped = replace(volume, array=volume.array[::-1], affine=affine)
    check_sides(ClassicalLung().analyse(flipped), labels[::-1])


def test_volumes_and_density_are_those_of_the_drawing() -> None:
    findings, labels, volume = analyse(CHEST)
    ml = float(np.prod(volume.spacing_mm)) / 1000
    for group, truth in (
        ("right lung", labels == RIGHT),
        ("left lung", labels == LEFT),
        ("both lungs", labels > 0),
    ):
        said = numbers(findings, group)
        assert said[codes.VOLUME.value] == pytest.approx(truth.sum() * ml, rel=0.02)
        assert said[codes.ATTENUATION.value] == pytest.approx(-860, abs=3)


@pytest.mark.parametrize(
    "chest",
    [
        Chest(couch=False),
        Chest(windpipe=False),
        Chest(bowel=True),
        Chest(arms=True),
        Chest(touching=True),
        Chest(consolidated=True),
        Chest(left=((75, 20, 20), (30, 45, 70))),
        Chest(right=((-80, 10, -20), (40, 60, 80)), left=((70, -5, 10), (52, 78, 110))),
        Chest(pixel_mm=1.1, slice_mm=10.0, couch=False),
        Chest(noise_hu=45.0),
    ],
    ids=[
        "no couch",
        "no windpipe",
        "bowel gas",
        "arms",
        "touching",
        "consolidated",
        "small left",
        "small right",
        "fine pixels",
        "noise",
    ],
)
def test_nothing_but_lung_is_outlined(chest: Chest) -> None:
    findings, labels, volume = analyse(chest)
    check_sides(findings, labels)
    outside = (findings.segments[0].mask | findings.segments[1].mask) & (labels == 0)
    assert outside.sum() * np.prod(volume.spacing_mm) / 1000 < 30  # ml


def test_the_windpipe_is_left_out_and_counted() -> None:
    findings, _, volume = analyse(CHEST)
    without = analyse(replace(CHEST, windpipe=False))[0]
    removed_ml = dict(findings.facts)["airway_voxels_removed"] * float(np.prod(volume.spacing_mm)) / 1000
    assert 20 < removed_ml < 60  # drawn: a tube of 9 mm over 130 mm, and two bronchi
    assert dict(without.facts)["airway_voxels_removed"] == 0


def test_a_chest_that_the_field_of_view_cuts_is_still_read() -> None:
    volume, labels = axial(CHEST)
    cut = slice(None), slice(None), slice(20, 77)  # through the outer part of both lungs
    affine = volume.affine.copy()
    affine[:3, 3] += affine[:3, 2] * 20
    assert (labels[:, :, 20] > 0).any()
    assert (labels[:, :, 76] > 0).any()
    findings = ClassicalLung().analyse(replace(volume, array=volume.array[cut], affine=affine))
    check_sides(findings, labels[cut])


def test_indices_are_those_of_known_densities() -> None:
    findings, labels, _ = analyse(replace(THIN, emphysema=0.12, noise_hu=2.0))
    said = numbers(findings)
    assert (labels > 0).any()
    # 12 % at -980 HU, the rest at -860: the 15th percentile lies in the lower flank of the rest.
    assert said[codes.LOW_ATTENUATION_AREA.value] == pytest.approx(12, abs=0.7)
    assert said[codes.PERCENTILE_15.value] == pytest.approx(-863.6, abs=1.5)
    assert not withheld(findings)
    assert f"LAA-950 {said[codes.LOW_ATTENUATION_AREA.value]:.1f} %, Perc15 -86" in findings.summary


def test_an_unknown_kernel_is_said_beside_the_indices() -> None:
    findings, _, _ = analyse(THIN, ConvolutionKernel="HOUSE")
    (both,) = [each for each in findings.groups if each.tracking_id == "both lungs"]
    cautions = {each.name.value: each.caution for each in both.measurements}
    assert "kernel" in cautions[codes.LOW_ATTENUATION_AREA.value]
    assert not cautions[codes.VOLUME.value]
    assert "kernel's sharpness is not known" in findings.summary


def _agent() -> Dataset:
    agent = Dataset()
    agent.CodeValue, agent.CodingSchemeDesignator, agent.CodeMeaning = "109219", "DCM", "Iodine"
    return agent


@pytest.mark.parametrize(
    ("header", "thickness_mm", "said"),
    [
        ({}, 1.5, ""),
        ({}, 1.6, "slice thickness 1.6 mm (needs 1.5 mm or less)"),
        ({"ConvolutionKernel": "LUNG"}, 1.0, "sharp kernel LUNG"),
        ({"ContrastBolusAgent": "Iomeprol"}, 1.0, "contrast was given"),
        ({"ContrastBolusAgentSequence": [_agent()]}, 1.0, "contrast was given"),
        ({"ContrastBolusVolume": "80"}, 1.0, "contrast was given"),
        ({"ContrastBolusAgent": "NONE"}, 1.0, ""),
        ({"ContrastBolusAgent": "no"}, 1.0, ""),
        ({"ContrastBolusVolume": "0"}, 1.0, ""),
        (
            {"ConvolutionKernel": "LUNG", "ContrastBolusAgent": "Iomeprol"},
            5.0,
            "slice thickness 5.0 mm (needs 1.5 mm or less); sharp kernel LUNG; contrast was given",
        ),
    ],
)
def test_conditions_of_the_indices_are_named(header: dict[str, Any], thickness_mm: float, said: str) -> None:
    made = Dataset()
    for keyword, value in ({"Manufacturer": "GE", "ConvolutionKernel": "STANDARD"} | header).items():
        setattr(made, keyword, value)
    assert why_no_indices(made, thickness_mm, (0.0, 2.9)) == said


def test_indices_are_withheld_with_their_reason() -> None:
    findings, _, _ = analyse(CHEST, ConvolutionKernel="LUNG")
    reasons = withheld(findings)
    assert reasons == dict.fromkeys(
        (codes.LOW_ATTENUATION_AREA.value, codes.PERCENTILE_15.value),
        "slice thickness 5.0 mm (needs 1.5 mm or less); sharp kernel LUNG",
    )
    assert f"LAA-950, Perc15: not computed: {reasons[codes.PERCENTILE_15.value]}." in findings.summary
    assert codes.LOW_ATTENUATION_AREA.value not in numbers(findings)


def test_indices_are_withheld_where_the_scan_misses_an_end_of_the_lungs() -> None:
    findings, _, _ = analyse(replace(CHEST, span_mm=(-90.0, 140.0)))
    assert "the lower end of the lungs is not covered" in withheld(findings)[codes.PERCENTILE_15.value]
    findings, _, _ = analyse(replace(CHEST, span_mm=(-140.0, 90.0)))
    assert "the upper end of the lungs is not covered" in withheld(findings)[codes.PERCENTILE_15.value]


def test_the_summary_says_first_what_a_reader_must_know() -> None:
    findings, _, _ = analyse(CHEST, SeriesNumber=3, SeriesDescription="Thorax", ConvolutionKernel="B")
    said = findings.summary
    assert said.startswith(
        "RESEARCH USE. Not verified by a physician. Lung measurements by classical image analysis (no AI model), "
        "classical-lung 1."
    )
    assert "Input: series 3 'Thorax', 57 of 57 images, 5.0 mm, kernel B." in said
    litres = [
        numbers(findings, group)[codes.VOLUME.value] / 1000 for group in ("both lungs", "right lung", "left lung")
    ]
    assert (
        "Segmented lung: total {:.2f} L, right {:.2f} L, left {:.2f} L; mean density -860 HU.".format(*litres) in said
    )
    assert said.endswith(
        "Follows air-filled lung: consolidation, masses, effusion and collapse may be left out, so volume may be too "
        "small; it depends on depth of breath. No disease was looked for: this says nothing about normality."
    )


REFUSED: dict[str, tuple[Chest | None, dict[str, Any], str]] = {
    "upper part only": (
        Chest(span_mm=(20.0, 140.0)),
        {},
        r"lungs not covered: \d+ cm2 of lung lie in the lower end slice of the scan \(widest slice: \d+ cm2\)",
    ),
    "lower part only": (
        Chest(span_mm=(-140.0, 20.0)),
        {},
        r"lungs not covered: \d+ cm2 of lung lie in the upper end slice",
    ),
    "abdomen": (Chest(span_mm=(-180.0, -60.0), bowel=True), {}, "lungs not covered: "),
    "pelvis": (
        Chest(right=None, left=None, windpipe=False, bowel=True),
        {},
        "lungs not covered: there is no air-filled",
    ),
    "nothing scanned": (
        None,
        {},
        "lungs not covered: there is no body in the images",
    ),
    "a head with its sinuses": (
        Chest(right=((-20, -60, 0), (15, 15, 15)), left=((20, -60, 0), (15, 15, 15)), windpipe=False),
        {"BodyPartExamined": "HEAD"},
        r"lungs not covered: 0\.03 L of air-filled lung",
    ),
    "a small animal": (
        Chest(right=((-60, 0, 0), (40, 45, 60)), left=((60, 0, 0), (40, 45, 60)), windpipe=False),
        {},
        r"lungs not covered: 0\.\d+ L of (air-filled )?lung were found, 1 to 9 L are plausible",
    ),
    "one lung": (Chest(left=None), {}, r"only one lung was found \(1\.\d\d L\)"),
    "one lung and a rest": (
        Chest(left=((75, 0, 0), (22, 30, 40))),
        {},
        r"only one lung was found|too unlike each other \(right 1\.\d\d L, left 0\.1\d L\)",
    ),
    "nine slices": (Chest(span_mm=(-120.0, -80.0)), {}, "9 images make a volume, 10 are needed"),
    "thick slices": (Chest(slice_mm=14.0), {}, r"slices of 14\.0 mm, 10\.0 mm or less are needed"),
    "gaps between thin slices": (
        Chest(slice_mm=14.0),
        {"SliceThickness": "1"},
        r"slices of 14\.0 mm, 10\.0 mm or less are needed",
    ),
    "no CT": (CHEST, {"Modality": "MR"}, "MR instead of CT"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_two_lungs_is_refused_with_figures(name: str) -> None:
    chest, header, said = REFUSED[name]
    volume, _ = axial(chest or CHEST, **header)
    if chest is None:
        volume = replace(volume, array=np.full_like(volume.array, -1000))
    with pytest.raises(UnsuitableStudy, match=said):
        ClassicalLung().analyse(volume)


@pytest.mark.parametrize("name", [name for name in ORIENTATIONS if not name.startswith("axial")])
def test_slices_that_are_not_axial_are_refused(name: str) -> None:
    volume, _ = axial(CHEST)
    row, column = ORIENTATIONS[name]
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 1], affine[:3, 2] = np.cross(row, column), column, row
    with pytest.raises(UnsuitableStudy, match=r"not axial \(turned by \d+°"):
        ClassicalLung().analyse(replace(volume, affine=affine))
