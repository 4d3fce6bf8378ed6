"""Small instances with known pixels, in any uncompressed transfer syntax."""

from __future__ import annotations

from io import BytesIO
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom import Dataset, dcmwrite
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage, generate_uid


def make_image(
    array: npt.NDArray[Any],
    *,
    frames: int = 1,
    bits_stored: int | None = None,
    photometric_interpretation: str = "",
    transfer_syntax_uid: str = ExplicitVRLittleEndian,
    **attributes: Any,
) -> bytes:
    """Give a Part 10 file of these pixels: (frames, rows, columns) or (frames, rows, columns, 3)."""
    shape = array.shape[1:] if frames > 1 else array.shape
    bits = array.dtype.itemsize * 8
    image = Dataset()
    image.SOPClassUID, image.SOPInstanceUID = SecondaryCaptureImageStorage, generate_uid()
    image.StudyInstanceUID, image.SeriesInstanceUID = generate_uid(), generate_uid()
    image.PatientName, image.PatientID, image.Modality = "Test^Pixels", "PX1", "OT"
    image.Rows, image.Columns = shape[:2]
    image.SamplesPerPixel = 3 if len(shape) == 3 else 1
    image.PhotometricInterpretation = photometric_interpretation or ("RGB" if len(shape) == 3 else "MONOCHROME2")
    if len(shape) == 3:
        image.PlanarConfiguration = 0
    image.BitsAllocated = bits
    image.BitsStored = bits_stored or bits
    image.HighBit = image.BitsStored - 1
    image.PixelRepresentation = int(array.dtype.kind == "i")
    if frames > 1:
        image.NumberOfFrames = frames
    content = array.tobytes()
    image.PixelData = content + bytes(len(content) % 2)
    image["PixelData"].VR = "OW" if bits > 8 else "OB"
    for keyword, value in attributes.items():
        setattr(image, keyword, value)
    image.file_meta = FileMetaDataset()
    image.file_meta.TransferSyntaxUID = transfer_syntax_uid
    file = BytesIO()
    dcmwrite(file, image, enforce_file_format=True)
    return file.getvalue()


def noise(*shape: int, dtype: str = "uint16", high: int | None = None, seed: int = 1) -> npt.NDArray[Any]:
    """Give pixels that compress badly and differ everywhere."""
    limits = np.iinfo(dtype)
    chance = np.random.default_rng(seed)
    low = 0 if limits.min == 0 else -(high or limits.max)
    return chance.integers(low, high or limits.max, shape, dtype=dtype)
