"""The embedded engine for chest CT: lung outlines, volumes, densities. Classical image analysis, no AI."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import numpy as np
from pydicom import Dataset

from inference.engines.lung_figures import (
    LungFigures,
    end_areas_cm2,
    figures_of,
    why_no_indices,
)
from inference.engines.lung_masks import AIR_BELOW_HU, LARGEST_ML, SMALLEST_ML, LungMasks, find_lungs
from inference.engines.orientation import Orientation
from inference.engines.protocol import EngineDescription, SeriesNeeds
from inference.errors import UnsuitableStudy
from inference.findings import Code, Findings, Measurement, MeasurementGroup, NotComputed, Segment
from inference.kernels import kernel_name, kernel_sharpness
from inference.results import codes
from inference.volume import Volume

NAME = "classical-lung"
VERSION = "1.0.0"

#: One lung's share of both: beyond it, one of them is not what it seems.
_LEAST_SHARE = 0.1

_PARAMETERS = (
    ("threshold_hu", str(AIR_BELOW_HU)),
    ("volume_limits_ml", f"{SMALLEST_ML:.0f}-{LARGEST_ML:.0f}"),
    ("indices", "LAA-950, Perc15"),
)

_RIGHT_COLOUR, _LEFT_COLOUR = (240, 110, 100), (90, 160, 245)
_LIMITS = (
    "Follows air-filled lung: consolidation, masses, effusion and collapse may be left out, so volume may be too "
    "small; it depends on depth of breath. No disease was looked for: this says nothing about normality."
)
_KERNEL_CAUTION = "The kernel's sharpness is not known to this software; a sharp one changes the figure much."

#: Parts of the body without lungs, as scanners name them. Source: PS3.16 Annex L (Body Part Examined).
_OTHER_PARTS = (
    *("HEAD", "BRAIN", "SKULL", "FACE", "ORBIT", "SINUS", "PARANASALSINUS", "EAR", "IAC", "JAW", "MANDIBLE", "TEETH"),
    *("PELVIS", "HIP", "KNEE", "LEG", "THIGH", "FEMUR", "CALF", "ANKLE", "FOOT", "TOE", "ARM", "HUMERUS", "ELBOW"),
    *("FOREARM", "WRIST", "HAND", "FINGER", "SACRUM", "SIJOINT", "LSPINE", "PROSTATE", "BLADDER"),
)


class ClassicalLung:
    """Outlines both lungs by threshold and connectivity, and measures them."""

    @property
    def description(self) -> EngineDescription:
        """Who it is."""
        return EngineDescription(
            name=NAME,
            version=VERSION,
            kind="classical",
            title="Lung",
            manufacturer="dicom-node",
            family=codes.HISTOGRAM_ANALYSIS,
            digest=hashlib.sha256(json.dumps([NAME, VERSION, _PARAMETERS]).encode()).hexdigest(),
            reads=SeriesNeeds(modalities=("CT",), minimum_slices=10, thickest_mm=10.0, not_of=_OTHER_PARTS),
            parameters=_PARAMETERS,
        )

    def analyse(self, volume: Volume) -> Findings:
        """Outline and measure both lungs of an axial chest CT.

        Raises
        ------
        UnsuitableStudy
            The lungs are not covered, or what was found cannot be two lungs.
        """
        header = volume.headers[0]
        _check_needs(volume, header, self.description.reads)
        orientation = Orientation.of_axial(volume.affine)
        array = orientation.apply(volume.array)
        masks = find_lungs(array, orientation.spacing_mm)
        voxel_ml = float(np.prod(orientation.spacing_mm)) / 1000
        _check_plausible(masks, voxel_ml)
        right = figures_of(array, masks.right, voxel_ml)
        left = figures_of(array, masks.left, voxel_ml)
        lungs = masks.right | masks.left
        both = figures_of(array, lungs, voxel_ml)
        thickness_mm = _thickness_mm(header, orientation.spacing_mm[0])
        withheld = why_no_indices(header, thickness_mm, end_areas_cm2(lungs, orientation.spacing_mm))
        return Findings(
            summary=_summary(volume, thickness_mm, (right, left, both), withheld),
            segments=(
                _segment("Right lung", codes.RIGHT, orientation.undo(masks.right), _RIGHT_COLOUR),
                _segment("Left lung", codes.LEFT, orientation.undo(masks.left), _LEFT_COLOUR),
            ),
            groups=(
                _group("right lung", codes.RIGHT, ("Right lung",), _basic(right)),
                _group("left lung", codes.LEFT, ("Left lung",), _basic(left)),
                _both_group(both, header, withheld),
            ),
            facts=(
                ("airway_voxels_removed", masks.airway_voxels),
                ("voxel_ml", voxel_ml),
                ("images_left_out", volume.left_out),
            ),
        )


def _check_needs(volume: Volume, header: Dataset, needs: SeriesNeeds) -> None:
    modality = str(header.get("Modality") or "no modality")
    if modality not in needs.modalities:
        raise UnsuitableStudy(f"{modality} instead of {' or '.join(needs.modalities)}.")
    if len(volume.array) < needs.minimum_slices:
        raise UnsuitableStudy(f"{len(volume.array)} images make a volume, {needs.minimum_slices} are needed.")
    thickness_mm = _thickness_mm(header, volume.spacing_mm[0])
    if thickness_mm > needs.thickest_mm:
        raise UnsuitableStudy(f"slices of {thickness_mm:.1f} mm, {needs.thickest_mm:.1f} mm or less are needed.")


def _check_plausible(masks: LungMasks, voxel_ml: float) -> None:
    right_ml, left_ml = float(masks.right.sum()) * voxel_ml, float(masks.left.sum()) * voxel_ml
    total_ml = right_ml + left_ml
    if not SMALLEST_ML <= total_ml <= LARGEST_ML:
        raise UnsuitableStudy(
            f"lungs not covered: {total_ml / 1000:.2f} L of lung were found, "
            f"{SMALLEST_ML / 1000:.0f} to {LARGEST_ML / 1000:.0f} L are plausible."
        )
    if min(right_ml, left_ml) < _LEAST_SHARE * total_ml:
        raise UnsuitableStudy(
            f"the lungs found are too unlike each other (right {right_ml / 1000:.2f} L, left {left_ml / 1000:.2f} L)."
        )


def _thickness_mm(header: Dataset, distance_mm: float) -> float:
    """Slice thickness; the distance of slices where the header has none, or where it is larger than that."""
    try:
        return max(float(header.SliceThickness), distance_mm)
    except (AttributeError, TypeError, ValueError):
        return distance_mm


def _segment(label: str, side: Code, mask: Any, colour: tuple[int, int, int]) -> Segment:
    return Segment(
        label=label,
        category=codes.ANATOMICAL_STRUCTURE,
        type=codes.LUNG,
        laterality=side,
        mask=np.ascontiguousarray(mask),
        tracking_id=label.lower(),
        colour=colour,
    )


def _group(
    tracking_id: str,
    side: Code,
    segments: tuple[str, ...],
    measurements: tuple[Measurement, ...],
    not_computed: tuple[NotComputed, ...] = (),
) -> MeasurementGroup:
    return MeasurementGroup(
        tracking_id=tracking_id,
        finding=codes.LUNG,
        site=codes.LUNG,
        laterality=side,
        segments=segments,
        measurements=measurements,
        not_computed=not_computed,
    )


def _basic(figures: LungFigures) -> tuple[Measurement, ...]:
    return (
        Measurement(codes.VOLUME, round(figures.volume_ml, 1), codes.CUBIC_CENTIMETRE, method=codes.VOXEL_SUM),
        Measurement(codes.ATTENUATION, round(figures.mean_hu, 1), codes.HOUNSFIELD, derivation=codes.MEAN),
    )


def _both_group(both: LungFigures, header: Dataset, withheld: str) -> MeasurementGroup:
    measurements = _basic(both)
    not_computed: tuple[NotComputed, ...] = ()
    if withheld:
        not_computed = (
            NotComputed(codes.LOW_ATTENUATION_AREA, codes.PERCENT, withheld),
            NotComputed(codes.PERCENTILE_15, codes.HOUNSFIELD, withheld),
        )
    else:
        caution = _KERNEL_CAUTION if kernel_sharpness(header) == "unknown" else ""
        measurements += (
            Measurement(codes.LOW_ATTENUATION_AREA, round(both.below_950_percent, 2), codes.PERCENT, caution=caution),
            Measurement(codes.PERCENTILE_15, round(both.percentile_15_hu, 1), codes.HOUNSFIELD, caution=caution),
        )
    return _group("both lungs", codes.BILATERAL, ("Right lung", "Left lung"), measurements, not_computed)


def _summary(
    volume: Volume, thickness_mm: float, figures: tuple[LungFigures, LungFigures, LungFigures], withheld: str
) -> str:
    """The words that a reader must find first."""
    right, left, both = figures
    header = volume.headers[0]
    used = len(volume.sources)
    sentences = [
        "RESEARCH USE. Not verified by a physician.",
        f"Lung measurements by classical image analysis (no AI model), {NAME} {VERSION}.",
        f"Input: series {header.get('SeriesNumber') or '-'} '{header.get('SeriesDescription', '')}', "
        f"{used} of {used + volume.left_out} images, {thickness_mm:.1f} mm, kernel {kernel_name(header)}.",
        f"Segmented lung: total {both.volume_ml / 1000:.2f} L, right {right.volume_ml / 1000:.2f} L, "
        f"left {left.volume_ml / 1000:.2f} L; mean density {both.mean_hu:.0f} HU.",
    ]
    if withheld:
        sentences.append(f"LAA-950, Perc15: not computed: {withheld}.")
    else:
        sentences.append(f"LAA-950 {both.below_950_percent:.1f} %, Perc15 {both.percentile_15_hu:.0f} HU.")
        if kernel_sharpness(header) == "unknown":
            sentences.append(_KERNEL_CAUTION)
    return " ".join([*sentences, _LIMITS])
