"""Pixel data in every transfer syntax that there is an encoder for, and pixel data that lie."""

from __future__ import annotations

import struct
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import gdcm
import numpy as np
import numpy.typing as npt
from PIL import Image
from pydicom import Dataset, dcmread
from pydicom.encaps import encapsulate, generate_frames
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from tests.builders.ct import encode, make_ct_instance

#: Syntaxes that hold 16-bit pixels without loss and that something here can write.
LOSSLESS = (
    *(ImplicitVRLittleEndian, ExplicitVRLittleEndian, DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian),
    *(RLELossless, JPEGLossless, JPEGLosslessSV1, JPEGLSLossless, JPEG2000Lossless),
)
_BY_GDCM = {
    JPEGLossless: gdcm.TransferSyntax.JPEGLosslessProcess14,
    JPEGLosslessSV1: gdcm.TransferSyntax.JPEGLosslessProcess14_1,
}


def in_syntax(made: Dataset, transfer_syntax_uid: str) -> bytes:
    """Give the Part 10 file of an uncompressed instance in another transfer syntax."""
    if transfer_syntax_uid in _BY_GDCM:
        return _by_gdcm(made, transfer_syntax_uid)
    if transfer_syntax_uid == ExplicitVRBigEndian:
        swapped = Dataset(dict(made.items()))
        swapped.PixelData = np.frombuffer(made.PixelData, "<u2").astype(">u2").tobytes()
        swapped["PixelData"].VR = "OW"
        return encode(swapped, transfer_syntax_uid)
    if transfer_syntax_uid in (ImplicitVRLittleEndian, ExplicitVRLittleEndian, DeflatedExplicitVRLittleEndian):
        return encode(made, transfer_syntax_uid)
    packed = dcmread(BytesIO(encode(made)))
    packed.compress(transfer_syntax_uid, generate_instance_uid=False)
    return encode(packed, transfer_syntax_uid)


def _by_gdcm(made: Dataset, transfer_syntax_uid: str) -> bytes:
    with TemporaryDirectory() as folder:
        source, target = Path(folder) / "source", Path(folder) / "target"
        source.write_bytes(encode(made))
        reader = gdcm.ImageReader()
        reader.SetFileName(str(source))
        assert reader.Read()
        change = gdcm.ImageChangeTransferSyntax()
        change.SetTransferSyntax(gdcm.TransferSyntax(_BY_GDCM[transfer_syntax_uid]))
        change.SetInput(reader.GetImage())
        assert change.Change()
        writer = gdcm.ImageWriter()
        writer.SetFileName(str(target))
        writer.SetFile(reader.GetFile())
        writer.SetImage(change.GetOutput())
        assert writer.Write()
        return target.read_bytes()


def jpeg_baseline(pixels: npt.NDArray[np.uint8]) -> bytes:
    """Give the Part 10 file of an 8-bit image as JPEG."""
    buffer = BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=95)
    samples = 1 if pixels.ndim == 2 else 3
    made = make_ct_instance(
        Rows=pixels.shape[0],
        Columns=pixels.shape[1],
        SamplesPerPixel=samples,
        PhotometricInterpretation="MONOCHROME2" if samples == 1 else "YBR_FULL_422",
        BitsAllocated=8,
        BitsStored=8,
        HighBit=7,
        PixelData=encapsulate([buffer.getvalue()]),
    )
    if samples == 3:
        made.PlanarConfiguration = 0
    made["PixelData"].is_undefined_length = True
    return encode(made, JPEGBaseline8Bit)


def frame_of(part10: bytes) -> bytes:
    """Give the first compressed frame of a file."""
    return next(generate_frames(dcmread(BytesIO(part10)).PixelData, number_of_frames=1))


def with_frames(part10: bytes, *frames: bytes, has_bot: bool = False, **overrides: Any) -> bytes:
    """Give the same compressed instance with other frames and other attributes."""
    made = dcmread(BytesIO(part10))
    made.PixelData = encapsulate(list(frames), has_bot=has_bot)
    made["PixelData"].is_undefined_length = True
    for keyword, value in overrides.items():
        setattr(made, keyword, value)
    return encode(made, made.file_meta.TransferSyntaxUID)


def noise(rows: int = 32, columns: int = 32, *, bits: int = 12) -> npt.NDArray[np.uint16]:
    """Pixels that no two rows or columns share."""
    return np.random.default_rng(7).integers(0, 1 << bits, (rows, columns)).astype("<u2")


def hostile_files() -> dict[str, tuple[bytes, int]]:
    """Instances whose pixel data lie: what is wrong → Part 10 file and the frame index to ask for."""
    made = make_ct_instance(Rows=32, Columns=32, PixelData=noise().tobytes())
    native = encode(made)
    rle, j2k, jls, sv1 = (
        in_syntax(made, each) for each in (RLELossless, JPEG2000Lossless, JPEGLSLossless, JPEGLosslessSV1)
    )
    huge = {"Rows": 65535, "Columns": 65535}
    many = {"NumberOfFrames": 2**31}

    def altered(**overrides: Any) -> bytes:
        made = make_ct_instance(**{"Rows": 32, "Columns": 32, "PixelData": noise().tobytes()} | overrides)
        made["PixelData"].VR = "OW"
        return encode(made)

    return {
        "native, 65535x65535 declared": (altered(**huge), 0),
        "native, 2^31 frames declared, the first": (altered(**many), 0),
        "native, 2^31 frames declared, the last": (altered(**many), 2**31 - 1),
        "native, cut short": (altered(PixelData=noise().tobytes()[:1000]), 0),
        "native, empty": (altered(PixelData=b""), 0),
        "no rows": (altered(Rows=None), 0),
        "no columns": (altered(Columns=None), 0),
        "no bits": (altered(BitsAllocated=None), 0),
        "7 bits": (altered(BitsAllocated=7), 0),
        "65535 samples": (altered(SamplesPerPixel=65535), 0),
        "RLE, 65535x65535 declared": (with_frames(rle, frame_of(rle), **huge), 0),
        "RLE, 2^31 frames declared": (with_frames(rle, frame_of(rle), **many), 2**31 - 1),
        "RLE, cut short": (with_frames(rle, frame_of(rle)[:80]), 0),
        "RLE, offset beyond the frame": (with_frames(rle, _patched(frame_of(rle), 8, "<I", 1 << 30)), 0),
        "RLE, offsets that fall": (with_frames(rle, _patched(frame_of(rle), 4, "<I", 0xFFFF)), 0),
        "RLE, 2^32 - 1 segments": (with_frames(rle, _patched(frame_of(rle), 0, "<I", 0xFFFFFFFF)), 0),
        "RLE, no fragment": (with_frames(rle), 0),
        "JPEG 2000, 2^31 columns": (with_frames(j2k, _patched(frame_of(j2k), 8, ">I", 1 << 31)), 0),
        "JPEG 2000, a tile for each pixel": (with_frames(j2k, _patched(frame_of(j2k), 24, ">II", 1, 1), **huge), 0),
        "JPEG 2000, cut short": (with_frames(j2k, frame_of(j2k)[:70]), 0),
        "JPEG 2000, noise after the header": (with_frames(j2k, frame_of(j2k)[:60] + noise().tobytes()), 0),
        "JPEG 2000, no JPEG 2000": (with_frames(j2k, b"\0" * 500), 0),
        "JPEG-LS, 65535x65535": (with_frames(jls, _patched(frame_of(jls), _size_at(jls), ">HH", 65535, 65535)), 0),
        "JPEG lossless, 65535x65535": (
            with_frames(sv1, _patched(frame_of(sv1), _size_at(sv1), ">HH", 65535, 65535)),
            0,
        ),
        "JPEG lossless, cut short": (with_frames(sv1, frame_of(sv1)[:40]), 0),
        "offset table that points beyond": (
            with_frames(rle, frame_of(rle), frame_of(rle), has_bot=True, NumberOfFrames=2).replace(
                struct.pack("<I", len(frame_of(rle)) + 8), struct.pack("<I", 1 << 30)
            ),
            1,
        ),
        "declared compressed, but native": (
            native.replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.5\0"),
            0,
        ),
        "frames that are no number": (altered(NumberOfFrames=1234).replace(b"1234", b"12Z4"), 0),
    }


def _patched(frame: bytes, at: int, form: str, *values: int) -> bytes:
    patch = struct.pack(form, *values)
    return frame[:at] + patch + frame[at + len(patch) :]


def _size_at(part10: bytes) -> int:
    """Where a JPEG frame header holds its rows."""
    frame = frame_of(part10)
    return next(frame.index(bytes((0xFF, marker))) + 5 for marker in (0xC3, 0xF7) if bytes((0xFF, marker)) in frame)
