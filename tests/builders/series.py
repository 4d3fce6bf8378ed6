"""Series in memory as an engine's node would hand them over."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom import Dataset, dcmread
from pydicom.uid import EnhancedCTImageStorage, ExplicitVRLittleEndian

from inference.volume import SourceInstance
from tests.builders.codecs import in_syntax
from tests.builders.ct import make_ct_instance, uid

#: Twelve ways to lie in a scanner: direction of rows, of columns (LPS), and what it is called.
ORIENTATIONS: dict[str, tuple[tuple[float, float, float], tuple[float, float, float]]] = {
    "axial, head first supine": ((1, 0, 0), (0, 1, 0)),
    "axial, head first prone": ((-1, 0, 0), (0, -1, 0)),
    "axial, rows upwards": ((1, 0, 0), (0, -1, 0)),
    "axial, columns leftwards": ((-1, 0, 0), (0, 1, 0)),
    "axial, decubitus": ((0, 1, 0), (-1, 0, 0)),
    "coronal": ((1, 0, 0), (0, 0, -1)),
    "coronal, head down": ((1, 0, 0), (0, 0, 1)),
    "coronal, from behind": ((-1, 0, 0), (0, 0, -1)),
    "sagittal": ((0, 1, 0), (0, 0, -1)),
    "sagittal, from the right": ((0, -1, 0), (0, 0, -1)),
    "sagittal, head down": ((0, 1, 0), (0, 0, 1)),
    "oblique": ((0.8, 0.6, 0), (-0.36, 0.48, 0.8)),
}


def source(part10: bytes, sop_instance_uid: str = "") -> SourceInstance:
    """Give a file as a kept instance."""
    named = sop_instance_uid or str(dcmread(BytesIO(part10), stop_before_pixels=True, force=True).get("SOPInstanceUID"))
    return SourceInstance(
        sop_instance_uid=named,
        sop_class_uid="1.2.840.10008.5.1.4.1.1.2",
        sha256=hashlib.sha256(part10).hexdigest(),
        open=partial(BytesIO, part10),
    )


def sources(made: Iterable[Dataset], syntax: str = ExplicitVRLittleEndian) -> list[SourceInstance]:
    """Give data sets as kept instances."""
    return [source(in_syntax(each, syntax)) for each in made]


def folder_sources(folder: Path) -> list[SourceInstance]:
    """Give real files as kept instances."""
    files = [folder] if folder.is_file() else sorted(path for path in folder.rglob("*") if path.is_file())
    return [source(path.read_bytes()) for path in files]


def make_series(
    array: npt.NDArray[Any],
    *,
    row: Sequence[float] = (1, 0, 0),
    column: Sequence[float] = (0, 1, 0),
    spacing_mm: tuple[float, float, float] = (2.5, 0.75, 0.75),
    origin: Sequence[float] = (0.0, 0.0, 0.0),
    **overrides: Any,
) -> list[Dataset]:
    """Make single-frame CT images of an array (slices, rows, columns) of HU, in the order of their normal."""
    normal = np.cross(row, column)
    made = []
    for index, cut in enumerate(array):
        stored = np.clip(np.rint(cut) + 1024, 0, 4095).astype("<u2")
        position = np.asarray(origin) + index * spacing_mm[0] * normal
        values = {
            "Rows": cut.shape[0],
            "Columns": cut.shape[1],
            "PixelData": stored.tobytes(),
            "PixelSpacing": [f"{spacing_mm[1]:.6g}", f"{spacing_mm[2]:.6g}"],
            "SliceThickness": f"{spacing_mm[0]:.6g}",
            "ImageOrientationPatient": [f"{value:.8g}" for value in (*row, *column)],
            "ImagePositionPatient": [f"{value:.8g}" for value in position],
        }
        made.append(make_ct_instance(index + 1, **(values | overrides)))
    return made


def make_enhanced(classic: Sequence[Dataset], *, change: Callable[[Dataset], None] | None = None) -> Dataset:
    """Make one Enhanced CT image of single-frame ones, a frame each, in their order."""
    made = Dataset(dict(classic[0].items()))
    made.SOPClassUID, made.SOPInstanceUID = EnhancedCTImageStorage, uid(9, 9, 1)
    made.NumberOfFrames = len(classic)
    made.PixelData = b"".join(each.PixelData for each in classic)
    shared = Dataset()
    shared.PixelMeasuresSequence = [_only(classic[0], "PixelSpacing", "SliceThickness")]
    shared.PlaneOrientationSequence = [_only(classic[0], "ImageOrientationPatient")]
    shared.PixelValueTransformationSequence = [_only(classic[0], "RescaleIntercept", "RescaleSlope")]
    frame_type = Dataset()
    frame_type.FrameType = ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]
    shared.CTImageFrameTypeSequence = [frame_type]
    made.SharedFunctionalGroupsSequence = [shared]
    made.PerFrameFunctionalGroupsSequence = [_frame(each) for each in classic]
    for keyword in (
        *("PixelSpacing", "SliceThickness", "ImageOrientationPatient", "ImagePositionPatient"),
        *("RescaleIntercept", "RescaleSlope"),
    ):
        del made[keyword]
    if change is not None:
        change(made)
    return made


def _frame(classic: Dataset) -> Dataset:
    item = Dataset()
    item.PlanePositionSequence = [_only(classic, "ImagePositionPatient")]
    return item


def _only(classic: Dataset, *keywords: str) -> Dataset:
    item = Dataset()
    for keyword in keywords:
        item[keyword] = classic[keyword]
    return item


def asymmetric(shape: tuple[int, int, int] = (6, 8, 10)) -> npt.NDArray[np.int16]:
    """An array of HU in which no voxel equals another."""
    return (np.arange(np.prod(shape)).reshape(shape) - 400).astype(np.int16)
