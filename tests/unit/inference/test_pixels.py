"""Single frames: as stored, decoded, rendered, and refused."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from io import BytesIO

import numpy as np
import pytest
from pydicom import Dataset
from pydicom.uid import (
    UID,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)

from inference.pixels import (
    NoSuchFrame,
    UnreadablePixels,
    Window,
    decode_frame,
    native_frame,
    render_frame,
    stored_frame,
)
from tests.builders.codecs import (
    LOSSLESS,
    frame_of,
    hostile_files,
    in_syntax,
    jpeg_baseline,
    noise,
    with_frames,
)
from tests.builders.ct import encode, make_ct_instance
from tests.builders.shared_data import shared_data

HOSTILE = hostile_files()


def image(**overrides: object) -> Dataset:
    return make_ct_instance(**{"Rows": 32, "Columns": 32, "PixelData": noise().tobytes()} | overrides)


def grey(values: list[list[int]], **overrides: object) -> bytes:
    pixels = np.asarray(values, "<u2")
    rows, columns = pixels.shape
    return encode(make_ct_instance(**{"Rows": rows, "Columns": columns, "PixelData": pixels.tobytes()} | overrides))


@pytest.mark.parametrize("syntax", LOSSLESS, ids=lambda uid: UID(uid).name)
def test_lossless_syntaxes_decode_to_the_pixels_that_went_in(syntax: str) -> None:
    assert np.array_equal(decode_frame(BytesIO(in_syntax(image(), syntax)), 0), noise())


def test_signed_pixels_stay_signed() -> None:
    pixels = noise().astype("<i2") - 2048
    made = image(PixelRepresentation=1, BitsStored=16, HighBit=15, PixelData=pixels.tobytes())
    for syntax in (ExplicitVRLittleEndian, RLELossless, JPEG2000Lossless, JPEGLSLossless):
        assert np.array_equal(decode_frame(BytesIO(in_syntax(made, syntax)), 0), pixels), syntax


def test_jpeg_gives_grey_and_colour_back_nearly() -> None:
    smooth = np.add.outer(np.arange(64), np.arange(48)).astype(np.uint8)
    assert abs(decode_frame(BytesIO(jpeg_baseline(smooth)), 0).astype(int) - smooth).max() <= 4
    red = np.zeros((64, 48, 3), np.uint8)
    red[..., 0] = 200
    decoded = decode_frame(BytesIO(jpeg_baseline(red)), 0).astype(int)
    assert decoded.shape == (64, 48, 3)
    assert abs(decoded - red).max() <= 4


def test_the_same_real_slice_decodes_alike_in_every_lossless_syntax() -> None:
    folder = shared_data("syntaxes", "ctimage_same_slice_all")
    lossy = (".4.50.dcm", ".4.51.dcm", ".4.81.dcm", ".4.91.dcm")
    paths = [path for path in folder.iterdir() if not path.name.endswith(lossy)]
    decoded = [decode_frame(BytesIO(path.read_bytes()), 0) for path in paths]
    assert len(decoded) == 9
    assert all(np.array_equal(array, decoded[0]) for array in decoded)


def test_high_throughput_jpeg_2000_is_decoded() -> None:
    for name in ("HTJ2KLossless_08_RGB.dcm", "HTJ2K_08_RGB.dcm"):
        with shared_data("syntaxes", name).open("rb") as file:
            assert decode_frame(file, 0).shape == (480, 640, 3)


def test_twelve_bit_jpeg_is_refused_with_its_name() -> None:
    (path,) = shared_data("syntaxes", "ctimage_same_slice_all").glob("*1.2.4.51.dcm")
    with path.open("rb") as file, pytest.raises(UnreadablePixels, match="JPEG Extended"):
        decode_frame(file, 0)


@pytest.mark.parametrize("name", HOSTILE, ids=HOSTILE)
def test_pixel_data_that_lie_end_in_a_typed_error_at_once(name: str) -> None:
    part10, index = HOSTILE[name]
    began = time.monotonic()
    for read in (decode_frame, render_frame):
        with pytest.raises((UnreadablePixels, NoSuchFrame)):
            read(BytesIO(part10), index)
    assert time.monotonic() - began < 5


def test_pixel_data_that_lie_take_no_memory() -> None:
    script = (
        "import json, resource, sys\n"
        "from io import BytesIO\n"
        "from tests.builders.codecs import hostile_files\n"
        "from inference.pixels import NoSuchFrame, UnreadablePixels, decode_frame, render_frame, stored_frame\n"
        "files = hostile_files()\n"
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024\n"
        "before = peak()\n"
        "for part10, index in files.values():\n"
        "    for read in (decode_frame, stored_frame, render_frame):\n"
        "        try:\n"
        "            read(BytesIO(part10), index)\n"
        "        except (UnreadablePixels, NoSuchFrame):\n"
        "            pass\n"
        "print(json.dumps([before, peak()]))\n"
    )
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", script], capture_output=True, text=True, check=True)
    before, after = json.loads(done.stdout)
    assert after - before < 64, f"{before:.0f} MB before, {after:.0f} MB after"


def test_a_frame_that_says_another_size_than_its_header_is_named_with_both() -> None:
    j2k = in_syntax(image(), JPEG2000Lossless)
    other = with_frames(j2k, frame_of(j2k), Rows=16)
    with pytest.raises(UnreadablePixels, match=r"32x32 pixels of 1 samples, the header 16x32"):
        decode_frame(BytesIO(other), 0)


def test_a_frame_that_is_not_there_is_said_to_be_missing() -> None:
    for index in (-1, 1):
        with pytest.raises(NoSuchFrame, match="has 1 frames"):
            decode_frame(BytesIO(encode(image())), index)
    bare = image()
    del bare.PixelData
    with pytest.raises(NoSuchFrame, match="no pixel data"):
        decode_frame(BytesIO(encode(bare)), 0)


def test_stored_frames_are_given_as_they_are() -> None:
    rle = in_syntax(image(), RLELossless)
    assert stored_frame(BytesIO(rle), 0) == (frame_of(rle), RLELossless)
    assert stored_frame(BytesIO(encode(image())), 0) == (noise().tobytes(), ExplicitVRLittleEndian)


def test_frames_of_a_multi_frame_image_are_told_apart() -> None:
    frames = np.stack([noise() + index for index in range(3)]).astype("<u2")
    made = image(NumberOfFrames=3, PixelData=frames.tobytes())
    for part10 in (encode(made), in_syntax(made, RLELossless)):
        for index in range(3):
            assert np.array_equal(decode_frame(BytesIO(part10), index), frames[index])


def test_native_frames_are_little_endian() -> None:
    for syntax in ("1.2.840.10008.1.2.2", RLELossless):
        assert native_frame(BytesIO(in_syntax(image(), syntax)), 0) == noise().tobytes()


def test_a_window_makes_values_beside_it_black_and_white() -> None:
    # Stored 1024 is 0 HU. Window 40/400: from -160 to 240 HU.
    part10 = grey([[0, 1024 + 40, 4000]], WindowCenter=40, WindowWidth=400)
    for window in (None, Window(40, 400)):
        assert render_frame(BytesIO(part10), 0, window=window).tolist() == [[0, 128, 255]]


def test_the_window_of_the_header_is_not_stretched_to_what_the_image_holds() -> None:
    part10 = grey([[1024 - 60, 1024 + 40]], WindowCenter=40, WindowWidth=400)
    dark, middle = render_frame(BytesIO(part10), 0)[0].tolist()
    assert (dark, middle) == (64, 128)


def test_monochrome1_is_drawn_the_other_way_round() -> None:
    part10 = grey([[0, 100]], PhotometricInterpretation="MONOCHROME1", RescaleIntercept="0")
    assert render_frame(BytesIO(part10), 0).tolist() == [[255, 0]]


def test_values_go_through_the_tables_of_the_instance() -> None:
    modality, voi = Dataset(), Dataset()
    modality.LUTDescriptor, modality.ModalityLUTType, modality.LUTData = [4, 0, 16], "US", [0, 10, 20, 30]
    voi.LUTDescriptor, voi.LUTData = [31, 0, 8], [*range(30), 255]
    made = make_ct_instance(Rows=1, Columns=4, PixelData=np.arange(4, dtype="<u2").tobytes())
    del made.RescaleSlope, made.RescaleIntercept
    for table in (modality, voi):
        for element in table:
            element.VR = "US" if element.keyword != "ModalityLUTType" else "LO"
    made.ModalityLUTSequence, made.VOILUTSequence = [modality], [voi]
    assert render_frame(BytesIO(encode(made)), 0).tolist() == [[0, 10, 20, 255]]


def test_a_wrong_table_is_a_typed_error() -> None:
    made = image(PhotometricInterpretation="PALETTE COLOR")
    with pytest.raises(UnreadablePixels, match="lookup table"):
        render_frame(BytesIO(encode(made)), 0)


@pytest.mark.filterwarnings("ignore")
def test_every_odd_real_file_is_drawn_or_refused_with_a_typed_error() -> None:
    drawn = 0
    for folder in ("enhanced", "malformed", "odd", "other", "syntaxes", "us"):
        for path in sorted(shared_data(folder).rglob("*")):
            if not path.is_file():
                continue
            try:
                with path.open("rb") as file:
                    drawn += render_frame(file, 0).dtype == np.uint8
            except (UnreadablePixels, NoSuchFrame):
                continue
    assert drawn > 60
