"""The embedded engine on real scans, and on the demo's phantom, read from their files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dicom_node.demo.phantom import ChestPhantom, write_phantom_study
from inference.engines.lung import ClassicalLung
from inference.errors import UnsuitableStudy
from inference.findings import Findings
from inference.overlay import overlay_png
from inference.results import codes
from inference.volume import Volume, read_volume
from tests.builders.series import folder_sources
from tests.builders.shared_data import shared_data


def analyse(folder: Path) -> tuple[Volume, Findings]:
    volume = read_volume(folder_sources(folder))
    return volume, ClassicalLung().analyse(volume)


def dark_litres(volume: Volume, findings: Findings) -> float:
    """Voxels below -400 HU inside the masks plus the airways that were removed."""
    facts = dict(findings.facts)
    lungs = findings.segments[0].mask | findings.segments[1].mask
    dark = int(((volume.array < -400) & lungs).sum()) + facts["airway_voxels_removed"]
    return float(dark * facts["voxel_ml"] / 1000)


def centre(volume: Volume, mask: np.ndarray) -> np.ndarray:
    return (volume.affine @ [*(float(index.mean()) for index in np.nonzero(mask)), 1.0])[:3]


@pytest.mark.parametrize(
    ("name", "litres", "withheld"),
    [
        # A plain threshold, airways included, measured when the data were collected.
        ("philips_64x5mm_kernelB", 5.47, r"slice thickness 5\.0 mm"),
        ("siemens_30x8mm_B40f", 2.66, r"slice thickness 8\.0 mm"),
    ],
)
def test_real_lungs_have_the_known_volume_and_are_on_their_sides(name: str, litres: float, withheld: str) -> None:
    volume, findings = analyse(shared_data("ct_chest", name))
    assert dark_litres(volume, findings) == pytest.approx(litres, rel=0.05)
    right, left = (centre(volume, segment.mask) for segment in findings.segments)
    # LPS: x rises to the patient's left (PS3.3 C.7.6.2.1.1).
    assert right[0] < -30 < 30 < left[0]
    assert abs(right[2] - left[2]) < 40
    (both,) = [group for group in findings.groups if group.laterality == codes.BILATERAL]
    assert [each.reason.startswith(withheld.replace("\\", "")) for each in both.not_computed] == [True, True]


def test_real_lungs_are_outlined_where_the_picture_is_dark() -> None:
    volume, findings = analyse(shared_data("ct_chest", "philips_64x5mm_kernelB"))
    segments = [(each.label, each.mask, each.colour) for each in findings.segments]
    for plane in ("axial", "coronal", "sagittal"):
        png = overlay_png(volume, segments, plane, engine="classical-lung")
        assert png.startswith(b"\x89PNG")
    lungs = segments[0][1] | segments[1][1]
    assert np.percentile(volume.array[lungs], 90) < -600


def test_a_real_abdomen_is_declined_as_not_covering_the_lungs() -> None:
    with pytest.raises(UnsuitableStudy, match=r"lungs not covered: \d+ cm2 of lung lie in the upper end slice"):
        analyse(shared_data("ct_abdomen", "acrin_flt_37x4.25mm"))


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        (("mr", "tcga_lihc_haste_cor_30"), "MR instead of CT"),
        (("other", "ct_head_negative.dcm"), "1 images make a volume, 10 are needed"),
        (("other", "pet_acrin_1.dcm"), "PT instead of CT"),
        (("enhanced", "legacy_converted_ct_3f.dcm"), "3 images make a volume, 10 are needed"),
        (("enhanced", "philips_emr_8f.dcm"), "MR instead of CT"),
        (("ct_abdomen", "dcmqi_liver_ct_3slice"), "3 images make a volume, 10 are needed"),
    ],
)
def test_other_real_images_are_declined_with_their_reason(parts: tuple[str, ...], said: str) -> None:
    with pytest.raises(UnsuitableStudy, match=said):
        analyse(shared_data(*parts))


def test_the_phantom_of_the_demo_is_measured_as_it_was_drawn(tmp_path: Path) -> None:
    slices, spacing_mm = 60, 5.0
    write_phantom_study(tmp_path, slices=slices, spacing_mm=spacing_mm, seed=5)
    _, findings = analyse(tmp_path)
    drawn = ChestPhantom(slices=slices, spacing_mm=spacing_mm, seed=5)
    labels = np.stack([drawn.slice(index)[1] for index in reversed(range(slices))])  # from the feet upwards
    for segment, label in zip(findings.segments, (1, 2), strict=True):
        truth = labels == label
        overlap = 2 * (segment.mask & truth).sum() / (segment.mask.sum() + truth.sum())
        assert overlap > 0.97, segment.label


def test_overlays_hang_as_a_radiologist_hangs_them(tmp_path: Path) -> None:
    write_phantom_study(tmp_path, slices=40, spacing_mm=7.5, seed=5)
    volume, findings = analyse(tmp_path)
    segments = [(each.label, each.mask, each.colour) for each in findings.segments]
    for plane in ("axial", "coronal"):
        path = tmp_path / f"{plane}.png"
        path.write_bytes(overlay_png(volume, segments, plane, engine="classical-lung"))
        colours = np.asarray(Image.open(path)).astype(int)
        red = np.argwhere((colours == findings.segments[0].colour).all(axis=2))
        blue = np.argwhere((colours == findings.segments[1].colour).all(axis=2))
        assert red[:, 1].mean() < colours.shape[1] / 2 < blue[:, 1].mean()  # the patient's right is on the left
