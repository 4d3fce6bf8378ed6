"""Single images that lie nowhere, such as chest X-rays and photographs of skin, and findings on them; all synthetic."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom import Dataset
from pydicom.uid import (
    ComputedRadiographyImageStorage,
    DigitalMammographyXRayImageStorageForPresentation,
    DigitalXRayImageStorageForPresentation,
    SecondaryCaptureImageStorage,
    VLPhotographicImageStorage,
)

from inference.findings import Findings, ImageLocation, Measurement, MeasurementGroup, Segment
from inference.results import codes
from inference.results.pictures import RenderedPictures
from tests.builders.findings import AREA, NODULE, SQUARE_MILLIMETRE, ct_headers, lungs

ROWS, COLUMNS = 61, 43  # of no common factor with a byte
_SPATIAL = (
    *("FrameOfReferenceUID", "PositionReferenceIndicator", "ImagePositionPatient", "ImageOrientationPatient"),
    *("PixelSpacing", "SliceThickness"),
)

#: Attributes by kind of image.
KINDS: Mapping[str, Mapping[str, Any]] = {
    "CR": {
        "SOPClassUID": ComputedRadiographyImageStorage,
        "Modality": "CR",
        "PatientOrientation": ["L", "F"],
        "BodyPartExamined": "CHEST",
        "ImagerPixelSpacing": ["0.2", "0.2"],
    },
    "DX": {
        "SOPClassUID": DigitalXRayImageStorageForPresentation,
        "Modality": "DX",
        "PatientOrientation": ["L", "F"],
        "BodyPartExamined": "CHEST",
        "ImagerPixelSpacing": ["0.15", "0.15"],
        "LossyImageCompression": "00",
    },
    "MG": {
        "SOPClassUID": DigitalMammographyXRayImageStorageForPresentation,
        "Modality": "MG",
        "PatientOrientation": ["A", "R"],
        "BodyPartExamined": "BREAST",
        "ImageLaterality": "R",
        "ImagerPixelSpacing": ["0.07", "0.07"],
        "FrameOfReferenceUID": "1.2.826.0.1.3680043.8.498.1.9",  # some senders give one, and no position in it
    },
    "VL photograph": {
        "SOPClassUID": VLPhotographicImageStorage,
        "Modality": "XC",
        "SamplesPerPixel": 3,
        "LossyImageCompression": "01",
        "LossyImageCompressionRatio": "12.5",
        "LossyImageCompressionMethod": "ISO_10918_1",
    },
    "SC photograph": {"SOPClassUID": SecondaryCaptureImageStorage, "Modality": "XC", "SamplesPerPixel": 3},
}


def grid_header(kind: str, *, rows: int = ROWS, columns: int = COLUMNS) -> Dataset:
    """Header of one image of this kind, without pixel data."""
    (header,) = ct_headers(1, rows=rows, columns=columns)
    for keyword in _SPATIAL:
        del header[keyword]
    header.ImageType = ["ORIGINAL", "PRIMARY"]
    header.StudyDescription = header.SeriesDescription = f"{kind} test image"
    for keyword, value in KINDS[kind].items():
        setattr(header, keyword, value)
    return header


def blob(rows: int = ROWS, columns: int = COLUMNS) -> npt.NDArray[np.bool_]:
    """A mask of one image, (1, rows, columns): an L, equal to none of its mirror images, touching the last pixel."""
    mask = np.zeros((1, rows, columns), dtype=np.bool_)
    mask[0, rows // 6 : rows // 2, columns // 5 : columns // 3] = True
    mask[0, rows // 2 - 6 : rows // 2, columns // 5 : columns * 3 // 4] = True
    mask[0, -1, -1] = True
    return mask


def outlined(header: Dataset, *masks: npt.NDArray[np.bool_]) -> Findings:
    """One or more structures outlined and measured, and a box, on one image."""
    drawn = masks or (blob(int(header.Rows), int(header.Columns)),)
    segments = tuple(
        Segment(f"Area {n}", codes.ANATOMICAL_STRUCTURE, codes.LUNG, None, mask, f"area-{n}", (255, 170, 90 * n % 256))
        for n, mask in enumerate(drawn, 1)
    )
    groups = [
        MeasurementGroup(
            segment.tracking_id,
            NODULE,
            codes.LUNG,
            None,
            (segment.label,),
            (Measurement(AREA, float(segment.mask.sum()) * 0.04, SQUARE_MILLIMETRE),),
        )
        for segment in segments
    ]
    box = ((10.0, 12.0), (20.0, 12.0), (20.0, 30.0), (10.0, 30.0), (10.0, 12.0))
    place = ImageLocation("POLYLINE", box, str(header.SOPInstanceUID))
    figure = Measurement(AREA, 7.2, SQUARE_MILLIMETRE)
    groups.append(MeasurementGroup("box", NODULE, codes.LUNG, None, (), (figure,), location=place))
    said = lungs().summary.replace("Lung measurements", "Measurements of the outlined area")
    return replace(lungs(), summary=said, segments=segments, groups=tuple(groups))


def ramp(header: Dataset) -> RenderedPictures:
    """A picture that grows brighter to the right and downwards, in colour where the image is."""
    across = np.linspace(0, 160, int(header.Columns))[None, :] + np.linspace(0, 90, int(header.Rows))[:, None]
    grey = across.astype(np.uint8)
    if header.get("SamplesPerPixel", 1) == 1:
        return RenderedPictures(lambda _: grey, "full range")
    return RenderedPictures(lambda _: np.stack([grey, grey // 2, 255 - grey], axis=2), "")
