"""Findings, the headers that they refer to, and the runs that they come from; all synthetic."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom import Dataset
from pydicom.uid import CTImageStorage

from inference.engines.protocol import EngineDescription, SeriesNeeds
from inference.findings import (
    Code,
    Findings,
    ImageLocation,
    Measurement,
    MeasurementGroup,
    NotComputed,
    Observed,
    Segment,
    SpaceLocation,
    refusal,
)
from inference.results import codes
from inference.results.pictures import WindowedPictures
from inference.results.run import NodeIdentity, Predecessor, Run, run_key

STUDY = "1.2.826.0.1.3680043.8.498.1"
SERIES = f"{STUDY}.2"
FRAME_OF_REFERENCE = f"{STUDY}.3"
ANALYSED_AT = datetime(2026, 3, 1, 14, 3, 7, 250000, tzinfo=UTC)
NODE = NodeIdentity(name="NODE1", serial_number="site-7", institution_name="Test Hospital", version="0.1.0")

SUMMARY = (
    "RESEARCH USE. Not verified by a physician. Lung measurements by classical image analysis (no AI model), "
    "classical-lung 1.0. Input: series 2 'Thorax', 12 of 12 images, 5.0 mm, kernel B30f. "
    "Segmented lung: total 0.02 L, right 0.01 L, left 0.01 L; mean density -850 HU. "
    "LAA-950, Perc15: not computed: slice thickness 5.0 mm (needs 1.5 mm or less). "
    "No disease was looked for: this says nothing about normality."
)


def ct_headers(
    count: int = 12,
    *,
    rows: int = 64,
    columns: int = 64,
    row_direction: Sequence[float] = (1, 0, 0),
    column_direction: Sequence[float] = (0, 1, 0),
    spacing: Sequence[float] = (0.8, 0.7),
    slice_mm: float = 5.0,
    origin: Sequence[float] = (-20.0, -30.0, -100.0),
    **overrides: Any,
) -> tuple[Dataset, ...]:
    """Headers of an axial (or turned) CT series, in the order of its normal, without pixel data."""
    normal = np.cross(row_direction, column_direction)
    headers = []
    for index in range(count):
        header = Dataset()
        header.SpecificCharacterSet = "ISO_IR 100"
        header.SOPClassUID = CTImageStorage
        header.SOPInstanceUID = f"{SERIES}.{index + 1}"
        header.StudyInstanceUID = STUDY
        header.SeriesInstanceUID = SERIES
        header.FrameOfReferenceUID = FRAME_OF_REFERENCE
        header.PositionReferenceIndicator = ""
        header.Modality = "CT"
        header.Manufacturer = "Test Scanners"
        header.PatientName = "Test^Quiet"
        header.PatientID = "T-0001"
        header.IssuerOfPatientID = "TESTHOSP"
        header.PatientBirthDate = "19500101"
        header.PatientSex = "O"
        header.PatientAge = "076Y"
        header.StudyDate = "20260301"
        header.StudyTime = "135900"
        header.StudyID = "S1"
        header.AccessionNumber = "A-17"
        header.StudyDescription = "Thorax nativ"
        header.ReferringPhysicianName = "Referrer^Test"
        header.SeriesNumber = 2
        header.SeriesDescription = "Thorax"
        header.InstanceNumber = index + 1
        header.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
        header.Rows = rows
        header.Columns = columns
        header.PixelSpacing = [str(value) for value in spacing]
        header.SliceThickness = str(slice_mm)
        header.ImageOrientationPatient = [f"{value:.6g}" for value in (*row_direction, *column_direction)]
        position = np.asarray(origin) + index * slice_mm * normal
        header.ImagePositionPatient = [f"{value:.6g}" for value in position]
        for keyword, value in overrides.items():
            setattr(header, keyword, value)
        headers.append(header)
    return tuple(headers)


def engine(**overrides: Any) -> EngineDescription:
    """Description of a classical engine."""
    values: dict[str, Any] = {
        "name": "classical-lung",
        "version": "1.0",
        "kind": "classical",
        "title": "Lung",
        "manufacturer": "dicom-node",
        "family": codes.HISTOGRAM_ANALYSIS,
        "digest": "0" * 64,
        "reads": SeriesNeeds(modalities=("CT",), minimum_slices=10, thickest_mm=5.0),
        "parameters": (("threshold_hu", "-400"),),
    }
    return EngineDescription(**{**values, **overrides})


def make_run(headers: Sequence[Dataset] | None = None, **overrides: Any) -> Run:
    """First run of the engine on these headers."""
    described = overrides.pop("engine", engine())
    inputs = [(str(header.SOPInstanceUID), "ab" * 32) for header in headers or ct_headers()]
    key = run_key(study_instance_uid=STUDY, inputs=inputs, engine=described, task="segmentation")
    values: dict[str, Any] = {
        "run_key": key,
        "study_instance_uid": STUDY,
        "engine": described,
        "task": "segmentation",
        "revision": 1,
        "analysed_at": ANALYSED_AT,
        "timezone": "Europe/Vienna",
    }
    return Run(**{**values, **overrides})


def second_run(first: Run, sr: Dataset) -> Run:
    """Revision 2, after 12 images arrived later."""
    before = Predecessor(
        sop_class_uid=sr.SOPClassUID,
        sop_instance_uid=sr.SOPInstanceUID,
        series_instance_uid=sr.SeriesInstanceUID,
        analysed_at=first.analysed_at,
    )
    return make_run(
        run_key="f" * 64,
        revision=2,
        analysed_at=first.analysed_at.replace(hour=15),
        predecessor=before,
        revision_reason="12 images arrived later.",
    )


def lung_masks(shape: tuple[int, int, int] = (12, 64, 64)) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Two asymmetric blobs, right and left, that do not touch; some slices hold none, or only one."""
    slices, rows, columns = np.indices(shape)
    middle = shape[2] // 2
    right = ((rows - shape[1] * 0.45) ** 2 / 200 + (columns - middle * 0.5) ** 2 / 60 + (slices - 5) ** 2 / 14) < 1
    left = ((rows - shape[1] * 0.55) ** 2 / 120 + (columns - middle * 1.5) ** 2 / 90 + (slices - 6) ** 2 / 10) < 1
    left &= ~right
    left[6, :20, 40:] = False
    return right, left


def lungs(shape: tuple[int, int, int] = (12, 64, 64), **overrides: Any) -> Findings:
    """Both lungs outlined and measured, with two figures withheld."""
    right, left = lung_masks(shape)
    segments = (
        _segment("Right lung", codes.RIGHT, right, "lung-right", (90, 170, 255)),
        _segment("Left lung", codes.LEFT, left, "lung-left", (255, 170, 90)),
    )
    groups = (
        _group("lungs", codes.BILATERAL, ("Right lung", "Left lung"), 0.02234567),
        _group("lung-right", codes.RIGHT, ("Right lung",), 0.0121),
        _group("lung-left", codes.LEFT, ("Left lung",), 0.0102),
    )
    values: dict[str, Any] = {
        "summary": SUMMARY,
        "segments": segments,
        "groups": groups,
        "facts": (("airway_voxels", 12), ("touches_border", False)),
    }
    return Findings(**{**values, **overrides})


def refused() -> Findings:
    """An engine that declined."""
    return refusal("classical-lung", "slice thickness is 8.0 mm, at most 5.0 mm can be read.")


NODULE = Code("27925004", "SCT", "Nodule")
AREA = Code("42798000", "SCT", "Area")
LENGTH = Code("410668003", "SCT", "Length")
SQUARE_MILLIMETRE = Code("mm2", "UCUM", "square millimeter")


def marked() -> Findings:
    """Lungs, things that were looked for, and marks: a box, a line, a point in an image, a point in space."""
    first = f"{SERIES}.4"
    box = ((10.0, 12.0), (20.0, 12.0), (20.0, 30.0), (10.0, 30.0), (10.0, 12.0))
    places = (
        ("box", ImageLocation("POLYLINE", box, first), Measurement(AREA, 100.8, SQUARE_MILLIMETRE)),
        (
            "line",
            ImageLocation("POLYLINE", ((10.0, 10.0), (20.0, 10.0)), f"{SERIES}.5"),
            Measurement(LENGTH, 7.0, codes.MILLIMETRE),
        ),
        ("point", ImageLocation("POINT", ((40.5, 20.5),), f"{SERIES}.5"), None),
        ("space", SpaceLocation("POINT", ((1.0, 2.0, -80.0),), FRAME_OF_REFERENCE), None),
    )
    groups = tuple(
        MeasurementGroup(name, NODULE, codes.LUNG, codes.RIGHT, (), (figure,) if figure else (), location=place)
        for name, place, figure in places
    )
    pneumothorax = Code("36118008", "SCT", "Pneumothorax")
    observed = (
        Observed(pneumothorax, "absent", "pneumothorax", codes.LUNG, codes.RIGHT, 0.03, 0.5),
        Observed(NODULE, "present", "nodule"),
        Observed(Code("60046008", "SCT", "Pleural effusion"), "indeterminate", "effusion", score=0.5),
    )
    return lungs(groups=(*lungs().groups, *groups), observed=observed, narrative=("A first paragraph.", "A second."))


def pictures(count: int = 12, rows: int = 64, columns: int = 64) -> WindowedPictures:
    """Slices of a grey ramp, brighter from slice to slice, in a lung window."""
    ramp = np.linspace(-1200, 100, columns, dtype=np.float32)
    array = np.broadcast_to(ramp, (count, rows, columns)) + np.arange(count)[:, None, None] * 10
    return WindowedPictures(array.astype(np.int16), centre=-600.0, width=1500.0)


def in_many_scripts() -> Findings:
    """Lungs with text in several scripts and with the signs that get lost in transit."""
    lines = (
        "Volume \u2265 0.01 L \u00b1 5 \u00b5L \u2013 \u201cquoted\u201d",
        "\u80ba\u6c17\u816b\u306e\u6240\u898b\u306a\u3057",
        "\u0631\u0626\u0629 \u064a\u0645\u0646\u0649",
        "\u041f\u0440\u0430\u0432\u043e\u0435 \u043b\u0451\u0433\u043a\u043e\u0435",
        "\uc624\ub978\ucabd \ud3d0",
    )
    return lungs(narrative=lines)


def _segment(label: str, side: codes.Code, mask: npt.NDArray[np.bool_], tracking: str, colour: Any) -> Segment:
    return Segment(
        label=label,
        category=codes.ANATOMICAL_STRUCTURE,
        type=codes.LUNG,
        laterality=side,
        mask=mask,
        tracking_id=tracking,
        colour=colour,
    )


def _group(tracking: str, side: codes.Code, segments: tuple[str, ...], litres: float) -> MeasurementGroup:
    reason = "slice thickness 5.0 mm (needs 1.5 mm or less)."
    return MeasurementGroup(
        tracking_id=tracking,
        finding=codes.LUNG,
        site=codes.LUNG,
        laterality=side,
        segments=segments,
        measurements=(
            Measurement(codes.VOLUME, litres, codes.LITRE, method=codes.VOXEL_SUM),
            Measurement(
                codes.ATTENUATION,
                -849.6,
                codes.HOUNSFIELD,
                derivation=codes.MEAN,
                caution="Kernel unknown: densities depend on it.",
            ),
        ),
        not_computed=(
            NotComputed(codes.LOW_ATTENUATION_AREA, codes.PERCENT, reason),
            NotComputed(codes.PERCENTILE_15, codes.HOUNSFIELD, reason),
        ),
    )


def write(folder: Path, name: str, part10: bytes) -> Path:
    """Write an encoded object for a tool to look at."""
    path = folder / f"{name}.dcm"
    path.write_bytes(part10)
    return path
