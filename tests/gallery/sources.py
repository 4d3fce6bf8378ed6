"""Five kinds of source, drawn: what a scanner or a camera would send, and findings on it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom.uid import EnhancedMRImageStorage, LegacyConvertedEnhancedCTImageStorage

from inference.engines.protocol import EngineDescription
from inference.findings import Code, Findings, ImageLocation, Measurement, MeasurementGroup, Observed, Segment
from inference.results import codes
from inference.results.evidence import Evidence
from inference.results.pictures import Pictures, RenderedPictures, WindowedPictures
from tests.builders.findings import LENGTH, NODULE, ct_headers, engine, lungs
from tests.builders.grids import grid_header
from tests.builders.multi_frame import multi_frame

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Source:
    """What results are made of."""

    title: str
    evidence: Evidence
    findings: Findings
    pictures: Pictures
    engine: EngineDescription = field(default_factory=engine)


def _grid(shape: tuple[int, ...]) -> list[npt.NDArray[Any]]:
    """Coordinates from -1 to 1 along each axis."""
    return list(np.meshgrid(*(np.linspace(-1, 1, size) for size in shape), indexing="ij"))


def _chest(shape: tuple[int, int, int]) -> tuple[npt.NDArray[np.float32], Mask, Mask]:
    """A chest in HU: body, two lungs of different size, spine, a nodule in the right lung."""
    z, y, x = _grid(shape)
    air = np.full(shape, -1000, dtype=np.float32)
    air[(y / 0.72) ** 2 + (x / 0.92) ** 2 < 1] = 40
    narrower = 1 - 0.35 * np.abs(z)
    right = ((y + 0.05) / (0.5 * narrower)) ** 2 + ((x + 0.42) / (0.3 * narrower)) ** 2 < 1
    left = ((y + 0.05) / (0.46 * narrower)) ** 2 + ((x - 0.44) / (0.26 * narrower)) ** 2 < 1
    left &= ~((y > -0.1) & (y < 0.25) & (x < 0.36))  # where the heart lies
    air[right | left] = -850
    air[((y - 0.5) / 0.14) ** 2 + (x / 0.12) ** 2 < 1] = 300
    nodule = ((y + 0.1) / 0.08) ** 2 + ((x + 0.4) / 0.08) ** 2 + (z / 0.3) ** 2 < 1
    air[nodule] = 30
    noise = np.random.default_rng(7).normal(0, 25, shape)
    return (air + noise).astype(np.float32), right, left


def _of_volume(right: Mask, left: Mask, header_uid: str, *, frame_number: int | None, scale: float) -> Findings:
    segments = lungs().segments
    drawn = tuple(replace(segment, mask=mask) for segment, mask in zip(segments, (right, left), strict=True))
    line = ImageLocation("POLYLINE", ((24 * scale, 58 * scale), (44 * scale, 58 * scale)), header_uid, frame_number)
    nodule = MeasurementGroup(
        "nodule", NODULE, codes.LUNG, codes.RIGHT, (), (Measurement(LENGTH, 12.3, codes.MILLIMETRE),), location=line
    )
    observed = (Observed(NODULE, "present", "nodule-looked-for", codes.LUNG, codes.RIGHT),)
    return lungs(segments=drawn, groups=(*lungs().groups, nodule), observed=observed)


def classic_ct() -> Source:
    """A series of single-frame CT images."""
    array, right, left = _chest((12, 128, 128))
    evidence = Evidence(ct_headers(12, rows=128, columns=128))
    findings = _of_volume(right, left, str(evidence[6].SOPInstanceUID), frame_number=None, scale=1.0)
    return Source("Classic CT", evidence, findings, WindowedPictures(array, -600, 1500))


def _frames(title: str, sop_class: str, window: tuple[float, float], **overrides: Any) -> Source:
    array, right, left = _chest((12, 128, 128))
    slices = ct_headers(12, rows=128, columns=128, **overrides)
    order = [7, 2, 11, 0, 5, 9, 1, 10, 3, 8, 6, 4]
    image = multi_frame(order, sop_class, slices=slices)
    evidence = Evidence.of_frames([image] * 12, [order.index(index) + 1 for index in range(12)])
    number = evidence.frame_numbers[6]
    findings = _of_volume(right, left, str(image.SOPInstanceUID), frame_number=number, scale=1.0)
    return Source(title, evidence, findings, WindowedPictures(array, *window))


def enhanced_mr() -> Source:
    """One enhanced MR image of several frames, coronal, its frames in no order."""
    return _frames(
        "Enhanced MR, multi-frame",
        EnhancedMRImageStorage,
        (-400, 1400),
        Modality="MR",
        row_direction=(1, 0, 0),
        column_direction=(0, 0, -1),
    )


def legacy_converted() -> Source:
    """Single-frame images that a PACS put into one."""
    return _frames("Legacy-converted CT", LegacyConvertedEnhancedCTImageStorage, (-600, 1500))


def radiograph() -> Source:
    """A frontal chest radiograph."""
    header = grid_header("DX", rows=900, columns=800)
    y, x = _grid((900, 800))
    right = ((y + 0.05) / 0.62) ** 2 + ((x + 0.4) / 0.3) ** 2 < 1
    left = (((y + 0.05) / 0.6) ** 2 + ((x - 0.42) / 0.27) ** 2 < 1) & ~((y > 0.05) & (x < 0.38))
    grey = np.full((900, 800), 150.0)
    grey[right | left] = 60
    grey[np.abs(x) < 0.08] += 70
    grey += 18 * np.cos(y * 30 + np.abs(x) * 9) * (np.abs(x) < 0.85)  # ribs
    grey[((y - 0.1) / 0.06) ** 2 + ((x + 0.38) / 0.06) ** 2 < 1] += 60
    shown = np.clip(grey + np.random.default_rng(3).normal(0, 6, grey.shape), 0, 255).astype(np.uint8)
    findings = _of_image(header.SOPInstanceUID, {"Right lung": right, "Left lung": left}, codes.LUNG, _box(900, 800))
    return Source(
        "Chest radiograph (DX)", Evidence([header]), findings, RenderedPictures(lambda _: shown, "full range")
    )


def skin() -> Source:
    """A photograph of skin."""
    header = grid_header("VL photograph", rows=600, columns=800)
    y, x = _grid((600, 800))
    lesion = (y / 0.42 + 0.2 * np.sin(4 * x)) ** 2 + (x / 0.34) ** 2 < 1
    photograph = np.empty((600, 800, 3))
    photograph[:] = (224, 172, 150)
    photograph[lesion] = (112, 66, 52)
    photograph += np.random.default_rng(5).normal(0, 7, photograph.shape)
    shown = np.clip(photograph, 0, 255).astype(np.uint8)
    findings = _of_image(header.SOPInstanceUID, {"Outlined area": lesion}, NODULE, None)
    said = (
        "RESEARCH USE. Not verified by a physician. Measurements of the outlined area by classical image analysis "
        "(no AI model). Not a test for melanoma or any disease."
    )
    return Source(
        "Photograph of skin (VL)",
        Evidence([header]),
        replace(findings, summary=said),
        RenderedPictures(lambda _: shown, ""),
        engine(name="classical-skin", title="Skin"),
    )


def _box(rows: int, columns: int) -> tuple[tuple[float, float], ...]:
    left, right, upper, lower = 0.27 * columns, 0.35 * columns, 0.51 * rows, 0.59 * rows
    return ((left, upper), (right, upper), (right, lower), (left, lower), (left, upper))


def _of_image(uid: str, areas: dict[str, Mask], kind: Code, box: tuple[tuple[float, float], ...] | None) -> Findings:
    colours = ((90, 170, 255), (255, 170, 90))
    segments = tuple(
        Segment(name, codes.ANATOMICAL_STRUCTURE, kind, None, mask[None], name.lower().replace(" ", "-"), colour)
        for (name, mask), colour in zip(areas.items(), colours, strict=False)
    )
    groups = []
    if box is not None:
        place = ImageLocation("POLYLINE", box, uid)
        figure = Measurement(LENGTH, 12.3, codes.MILLIMETRE)
        groups.append(MeasurementGroup("nodule", NODULE, codes.LUNG, None, (), (figure,), location=place))
    return lungs(segments=segments, groups=tuple(groups))


SOURCES: dict[str, Callable[[], Source]] = {
    "classic-ct": classic_ct,
    "enhanced-mr": enhanced_mr,
    "radiograph": radiograph,
    "skin": skin,
    "legacy-converted": legacy_converted,
}
