"""CT instances made in memory: synthetic, small, and sound."""

from __future__ import annotations

from io import BytesIO
from typing import Any

import numpy as np
from pydicom import Dataset, dcmwrite
from pydicom.dataset import FileMetaDataset
from pydicom.uid import UID, CTImageStorage, ExplicitVRLittleEndian

ROOT = "1.2.826.0.1.3680043.8.498.77"


def uid(*parts: int) -> str:
    """A UID of the tests, the same for the same numbers."""
    return ".".join([ROOT, *(str(part) for part in parts)])


def make_ct_instance(number: int = 1, *, study: int = 1, series: int = 1, **overrides: Any) -> Dataset:
    """Make one axial slice, 16x16; slice `number` lies at z = 2.5 mm x number. `overrides` by keyword."""
    made = Dataset()
    made.SpecificCharacterSet = "ISO_IR 192"
    made.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    made.SOPClassUID = CTImageStorage
    made.SOPInstanceUID = uid(study, series, number)
    made.StudyDate, made.StudyTime = "20260102", "101500"
    made.AccessionNumber = f"ACC{study}"
    made.Modality = "CT"
    made.StudyDescription, made.SeriesDescription = "Test chest", f"Series {series}"
    made.PatientName, made.PatientID = "Test^Quiet", "TEST-1"
    made.PatientBirthDate, made.PatientSex = "19700101", "O"
    made.SliceThickness = "2.5"
    made.StudyInstanceUID, made.SeriesInstanceUID = uid(study), uid(study, series)
    made.StudyID, made.SeriesNumber, made.InstanceNumber = str(study), series, number
    made.ImagePositionPatient = [0, 0, 2.5 * number]
    made.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    made.FrameOfReferenceUID = uid(study, 0)
    made.SamplesPerPixel, made.PhotometricInterpretation = 1, "MONOCHROME2"
    made.Rows = made.Columns = 16
    made.PixelSpacing = [0.75, 0.75]
    made.BitsAllocated, made.BitsStored, made.HighBit, made.PixelRepresentation = 16, 12, 11, 0
    made.RescaleIntercept, made.RescaleSlope = "-1024", "1"
    made.PixelData = np.full((16, 16), number, dtype=np.uint16).tobytes()
    for keyword, value in overrides.items():
        if value is None:
            delattr(made, keyword)
        else:
            setattr(made, keyword, value)
    return made


def make_ct_series(count: int, *, study: int = 1, series: int = 1, **overrides: Any) -> list[Dataset]:
    """Make a sound series of `count` slices."""
    return [make_ct_instance(number, study=study, series=series, **overrides) for number in range(1, count + 1)]


def encode(dataset: Dataset, transfer_syntax_uid: str = ExplicitVRLittleEndian) -> bytes:
    """Give the Part 10 file of an instance."""
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = UID(transfer_syntax_uid)
    dataset.file_meta.MediaStorageSOPClassUID = dataset.get("SOPClassUID", CTImageStorage)
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.get("SOPInstanceUID", "1.2.3")
    buffer = BytesIO()
    dcmwrite(buffer, dataset, enforce_file_format=True)
    return buffer.getvalue()
