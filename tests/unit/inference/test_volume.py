"""Series as volumes: sorted, in Hounsfield units, or refused with a reason that has figures."""

from __future__ import annotations

import random
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
from pydicom import Dataset, dcmread
from pydicom.uid import UID, ExplicitVRLittleEndian, JPEG2000Lossless, RLELossless

from inference.errors import UnsuitableStudy
from inference.volume import Volume, read_volume
from tests.builders.codecs import LOSSLESS, frame_of, hostile_files, in_syntax, with_frames
from tests.builders.ct import encode, make_ct_instance, make_ct_series
from tests.builders.series import (
    ORIENTATIONS,
    asymmetric,
    folder_sources,
    make_enhanced,
    make_series,
    source,
    sources,
)
from tests.builders.shared_data import shared_data

ARRAY = asymmetric()


def stored(values: npt.NDArray[np.generic], **overrides: object) -> Dataset:
    """One slice of these stored values."""
    rows, columns = values.shape
    return make_ct_instance(**{"Rows": rows, "Columns": columns, "PixelData": values.tobytes()} | overrides)


def values_of(*made: Dataset) -> npt.NDArray[np.generic]:
    return read_volume(sources(made)).array


def same_place(volume: Volume, index: tuple[int, int, int]) -> npt.NDArray[np.float64]:
    return (volume.affine @ [*index, 1])[:3]


@pytest.mark.parametrize("name", ORIENTATIONS)
@pytest.mark.parametrize("kind", ["classic", "enhanced"])
def test_voxels_lie_where_the_images_say_in_any_order_of_arrival(name: str, kind: str) -> None:
    row, column = ORIENTATIONS[name]
    made = make_series(ARRAY, row=row, column=column, spacing_mm=(3.0, 0.5, 0.8), origin=(-20, 30, 100))
    order = list(range(len(made)))
    random.Random(name).shuffle(order)
    shuffled = [made[index] for index in order]
    volume = read_volume(sources([make_enhanced(shuffled)] if kind == "enhanced" else shuffled))
    for index in ((0, 0, 0), (4, 7, 2), (5, 3, 9)):
        assert volume.array[index] == ARRAY[index]
        expected = np.asarray(made[index[0]].ImagePositionPatient, float)
        expected = expected + index[1] * 0.5 * np.asarray(column) + index[2] * 0.8 * np.asarray(row)
        assert np.allclose(same_place(volume, index), expected, atol=1e-3)
    assert volume.spacing_mm == pytest.approx((3.0, 0.5, 0.8), abs=1e-4)


def test_each_slice_knows_its_image_and_its_header() -> None:
    made = make_series(ARRAY)
    volume = read_volume(sources([made[index] for index in (3, 0, 5, 1, 4, 2)]))
    assert [each.sop_instance_uid for each in volume.sources] == [str(each.SOPInstanceUID) for each in made]
    assert [int(header.InstanceNumber) for header in volume.headers] == [1, 2, 3, 4, 5, 6]
    assert volume.frame_numbers == (None,) * 6
    assert [int(header.InstanceNumber) for header in volume.headers[4:]] == [5, 6]
    assert "PixelData" not in volume.headers[0]


def test_each_slice_of_a_multi_frame_image_knows_its_frame() -> None:
    classic = make_series(ARRAY)
    volume = read_volume(sources([make_enhanced(classic[::-1])]))
    assert volume.frame_numbers == (6, 5, 4, 3, 2, 1)
    assert len({each.sop_instance_uid for each in volume.sources}) == 1
    places = [list(header.ImagePositionPatient) for header in volume.headers]
    assert places == [list(each.ImagePositionPatient) for each in classic]
    assert volume.headers[0].ImageType[2] == "VOLUME"
    assert float(volume.headers[0].SliceThickness) == 2.5


def test_several_multi_frame_images_make_one_volume() -> None:
    classic = make_series(ARRAY)
    halves = [make_enhanced(classic[:3]), make_enhanced(classic[3:])]
    halves[1].SOPInstanceUID = f"{halves[1].SOPInstanceUID}.2"
    volume = read_volume(sources(halves[::-1]))
    assert np.array_equal(volume.array, ARRAY)
    assert volume.frame_numbers == (1, 2, 3, 1, 2, 3)


@pytest.mark.parametrize("kind", ["classic", "enhanced"])
@pytest.mark.parametrize("syntax", LOSSLESS, ids=lambda uid: UID(uid).name)
def test_every_lossless_syntax_gives_the_same_volume(syntax: str, kind: str) -> None:
    array = asymmetric((3, 32, 40)) % 3000 - 1000
    made = make_series(array)
    volume = read_volume(sources([make_enhanced(made)] if kind == "enhanced" else made, syntax))
    assert volume.array.dtype == np.int16
    assert np.array_equal(volume.array, array)


def test_int16_is_kept_where_the_rescale_is_integral() -> None:
    assert values_of(*make_series(ARRAY)).dtype == np.int16
    assert values_of(*make_series(ARRAY, RescaleSlope="2")).dtype == np.int16
    assert values_of(*make_series(ARRAY, RescaleSlope="0.5")).dtype == np.float32


def test_slope_and_intercept_of_each_slice_count() -> None:
    made = make_ct_series(3)
    for number, each in enumerate(made, start=1):
        each.RescaleSlope, each.RescaleIntercept = str(number), str(number * 100)
    assert read_volume(sources(made)).array[:, 0, 0].tolist() == [101, 204, 309]
    made[1].RescaleSlope = "0.25"
    array = read_volume(sources(made)).array
    assert array.dtype == np.float32
    assert array[:, 0, 0].tolist() == [101, 200.5, 309]


@pytest.mark.parametrize(
    "syntax", [ExplicitVRLittleEndian, RLELossless, JPEG2000Lossless], ids=["native", "RLE", "J2K"]
)
@pytest.mark.parametrize(
    ("values", "overrides", "expected"),
    [
        (np.array([[0, 4095]], "<u2"), {}, [[-1024, 3071]]),
        (np.array([[0, 65535]], "<u2"), {"BitsStored": 16, "HighBit": 15}, [[-1024, 32767]]),
        (
            np.array([[0, 65535]], "<u2"),
            {"BitsStored": 16, "HighBit": 15, "RescaleIntercept": "-32768"},
            [[-32768, 32767]],
        ),
        (
            np.array([[-1000, 3000]], "<i2"),
            {"PixelRepresentation": 1, "BitsStored": 16, "HighBit": 15, "RescaleIntercept": "0"},
            [[-1000, 3000]],
        ),
        (
            np.array([[-1000, 1000]], "<i2"),
            {"PixelRepresentation": 1, "BitsStored": 16, "HighBit": 15, "RescaleIntercept": "0", "RescaleSlope": "-1"},
            [[1000, -1000]],
        ),
        (np.array([[7, 200]], "u1"), {"BitsAllocated": 8, "BitsStored": 8, "HighBit": 7}, [[-1017, -824]]),
    ],
    ids=["12 bit", "16 bit unsigned", "16 bit, deep intercept", "signed", "negative slope", "8 bit"],
)
def test_stored_values_become_hounsfield_units(
    syntax: str, values: npt.NDArray[np.generic], overrides: dict[str, object], expected: list[list[int]]
) -> None:
    tall = np.repeat(np.repeat(values, 32, axis=0), 32, axis=1)
    volume = read_volume(sources([stored(tall, **overrides)], syntax))
    assert volume.array.dtype == np.int16
    assert volume.array[0, :1, ::32].tolist() == expected


def test_bits_above_those_stored_are_no_part_of_the_value() -> None:
    # Old scanners keep overlays there (PS3.5 8.1.1).
    assert values_of(stored(np.array([[0xF000 | 1100, 24]], "<u2")))[0].tolist() == [[76, -1000]]
    signed = {"PixelRepresentation": 1, "RescaleIntercept": "0"}
    assert values_of(stored(np.array([[0x0FFF, 0x7001]], "<u2"), **signed))[0].tolist() == [[-1, 1]]


def test_monochrome1_changes_no_value() -> None:
    assert np.array_equal(values_of(*make_series(ARRAY, PhotometricInterpretation="MONOCHROME1")), ARRAY)


def test_what_the_scanner_padded_counts_as_air() -> None:
    padded = np.array([[0, 100, 2000]], "<u2")
    assert values_of(stored(padded, PixelPaddingValue=2000))[0].tolist() == [[-1024, -924, -1024]]
    limits = {"PixelPaddingValue": 0, "PixelPaddingRangeLimit": 100, "RescaleIntercept": "0"}
    assert values_of(stored(padded, **limits))[0].tolist() == [[-1024, -1024, 2000]]
    signed = {"PixelRepresentation": 1, "BitsStored": 16, "HighBit": 15, "RescaleIntercept": "0"}
    made = stored(np.array([[-2000, 50]], "<i2"), **signed)
    made.add_new("PixelPaddingValue", "US", 63536)  # -2000, written by a scanner as unsigned
    assert values_of(made)[0].tolist() == [[-1024, 50]]
    made = stored(np.array([[900, 50]], "<i2"), **signed)
    made.add_new("PixelPaddingValue", "SS", 900)
    assert values_of(made)[0].tolist() == [[-1024, 50]]


def test_padding_of_other_modalities_is_left_as_it_is() -> None:
    made = stored(
        np.array([[0, 5]], "<u2"), Modality="MR", PixelPaddingValue=0, RescaleSlope=None, RescaleIntercept=None
    )
    assert values_of(made)[0].tolist() == [[0, 5]]


def test_magnetic_resonance_without_rescale_keeps_its_values() -> None:
    array = values_of(*make_ct_series(3, Modality="MR", RescaleSlope=None, RescaleIntercept=None))
    assert array.dtype == np.int16
    assert array[:, 0, 0].tolist() == [1, 2, 3]


def test_values_that_int16_cannot_hold_become_float() -> None:
    deep = {"BitsStored": 16, "HighBit": 15, "Modality": "MR", "RescaleIntercept": "0"}
    array = values_of(stored(np.array([[0, 60000]], "<u2"), **deep))
    assert array.dtype == np.float32
    assert array[0].tolist() == [[0, 60000]]
    wide = stored(
        np.array([[-5, 70000]], "<i4"), BitsAllocated=32, **deep | {"BitsStored": 32, "PixelRepresentation": 1}
    )
    assert values_of(wide)[0].tolist() == [[-5, 70000]]


def test_localisers_are_left_out_and_counted() -> None:
    made = make_series(ARRAY)
    scouts = [
        make_ct_instance(90 + n, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"], PixelSpacing=None) for n in (1, 2)
    ]
    volume = read_volume(sources([scouts[0], *made, scouts[1]]))
    assert volume.left_out == 2
    assert np.array_equal(volume.array, ARRAY)


def test_headers_with_large_private_values_and_open_sequences_are_read() -> None:
    inner, outer = Dataset(), Dataset()
    inner.CodeValue = "1"
    outer.ProcedureCodeSequence = [inner]
    outer["ProcedureCodeSequence"].is_undefined_length = True
    made = make_series(ARRAY)
    for each in made:
        each.add_new(0x00290010, "LO", "TEST")
        each.add_new(0x00291010, "OB", bytes(300_000))
        each.ReferencedStudySequence = [outer]
        each["ReferencedStudySequence"].is_undefined_length = True
        outer.is_undefined_length_sequence_item = True
    for syntax in ("1.2.840.10008.1.2", ExplicitVRLittleEndian):
        assert np.array_equal(read_volume(sources(made, syntax)).array, ARRAY)


def test_values_padded_with_nul_are_read() -> None:
    made = make_series(ARRAY)
    part10 = [encode(each).replace(b"0\\0\\2.5 ", b"0\\0\\2.5\0") for each in made]
    assert sum(each.count(b"\\2.5\0") for each in part10) == 1
    assert np.array_equal(read_volume([source(each) for each in part10]).array, ARRAY)


def _cut_short(made: list[Dataset]) -> list[Dataset]:
    made[3].PixelData = made[3].PixelData[:100]
    return made


def _second(made: list[Dataset], **changes: object) -> list[Dataset]:
    for keyword, value in changes.items():
        if value is None:
            delattr(made[1], keyword)
        else:
            setattr(made[1], keyword, value)
    return made


Series = list[Dataset]
FAULTS: dict[str, tuple[Callable[[Series], Series], str]] = {
    "nothing": (lambda _: [], "there are no images"),
    "only localisers": (lambda _: [make_ct_instance(ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])], "but localisers"),
    "one missing": (lambda m: [*m[:2], *m[3:]], r"about 1 image is missing: a gap of 5\.00 mm where 2\.50 mm"),
    "one twice": (lambda m: [*m, m[2]], "1 image lies at the same place"),
    "all twice": (lambda m: [*m, *m], "6 images lie at the same place"),
    "tilted": (
        lambda m: make_tilted(m, 15),
        r"the gantry was tilted by 15\.0°",
    ),
    "one turned": (
        lambda m: _second(m, ImageOrientationPatient=[0, 1, 0, 0, 0, -1]),
        r"different orientation .* \(turned by 90\.0°\)",
    ),
    "two series": (lambda m: _second(m, SeriesInstanceUID="1.2.3"), "images of 2 series are mixed"),
    "two frames of reference": (lambda m: _second(m, FrameOfReferenceUID="1.2.3"), "2 frames of reference are mixed"),
    "two kernels": (
        lambda m: _second([set_kernel(each, "B30f") for each in m], ConvolutionKernel="B70f"),
        r"2 kernels are mixed \(B30f, B70f\)",
    ),
    "another size": (
        lambda m: _second(m, Rows=4, Columns=20),
        r"different size stand in one series \(8x10 and 4x20\)",
    ),
    "another spacing": (lambda m: _second(m, PixelSpacing=[0.5, 0.5]), r"pixel spacing .* \(0\.750 and 0\.500 mm\)"),
    "no position": (lambda m: _second(m, ImagePositionPatient=None), "lacks ImagePositionPatient"),
    "no orientation": (lambda m: _second(m, ImageOrientationPatient=None), "lacks ImageOrientationPatient"),
    "no rescale": (lambda m: _second(m, RescaleSlope=None), "says nothing of its rescale"),
    "slope of zero": (lambda m: _second(m, RescaleSlope="0"), "rescale is no sensible value"),
    "other units": (lambda m: _second(m, RescaleType="Z_EFF"), "values are Z_EFF, no Hounsfield units"),
    "colour": (
        lambda m: _second(m, SamplesPerPixel=3, PhotometricInterpretation="RGB", PlanarConfiguration=0),
        "the images are in colour",
    ),
    "pixels cut short": (_cut_short, "cut short: 100 bytes where 160 are announced"),
    "no pixels": (lambda m: _second(m, PixelData=None), "an image has no pixel data"),
    "no bits": (lambda m: _second(m, BitsStored=99), "99 of 16 bits are no pixel"),
    "huge": (
        lambda m: [_huge(each) for each in m],
        r"65535x65535 pixels is larger than any",
    ),
    "multi-frame without places": (
        lambda m: [_second([m[0], m[0]], NumberOfFrames=6)[1]],
        "a multi-frame image of 6 frames says of none of them where they lie",
    ),
    "multi-frame with too few places": (
        lambda m: [make_enhanced(m, change=lambda e: setattr(e, "NumberOfFrames", 9))],
        "of 9 frames says of 6 of them",
    ),
    "multi-frame, 2^31 announced": (
        lambda m: [make_enhanced(m, change=lambda e: setattr(e, "NumberOfFrames", 2**31))],
        "of 2147483648 frames says of 6 of them",
    ),
    "multi-frame, cut short": (
        lambda m: [make_enhanced(m, change=lambda e: setattr(e, "PixelData", e.PixelData[:500]))],
        "cut short: 500 bytes where 640 are announced",
    ),
}


def make_tilted(made: Series, degrees: float) -> Series:
    for index, each in enumerate(made):
        x, y, z = each.ImagePositionPatient
        each.ImagePositionPatient = [x, f"{y + np.tan(np.radians(degrees)) * 2.5 * index:.6f}", z]
    return made


def set_kernel(made: Dataset, kernel: str) -> Dataset:
    made.ConvolutionKernel = kernel
    return made


def _huge(made: Dataset) -> Dataset:
    made.Rows = made.Columns = 65535
    return made


@pytest.mark.parametrize("name", FAULTS)
def test_a_series_that_makes_no_volume_is_refused_with_its_reason(name: str) -> None:
    wrong, said = FAULTS[name]
    made = wrong(make_series(ARRAY))
    with pytest.raises(UnsuitableStudy, match=said):
        read_volume(sources(made))


@pytest.mark.parametrize("name", hostile_files())
def test_pixel_data_that_lie_make_no_volume(name: str) -> None:
    part10, _ = hostile_files()[name]
    with pytest.raises(UnsuitableStudy):
        read_volume([source(part10, "1.2.3")])


@pytest.mark.parametrize(
    "part10",
    [b"", b"no DICOM at all", encode(make_ct_instance())[:600], encode(make_ct_instance())[:140]],
    ids=["empty", "text", "cut in its header", "cut in its meta header"],
)
def test_what_is_no_dicom_makes_no_volume(part10: bytes) -> None:
    with pytest.raises(UnsuitableStudy, match=r"an image (cannot be read|has no pixel data|lacks)"):
        read_volume([source(part10, "1.2.3")])


def test_more_voxels_than_can_be_held_are_refused_before_memory_is_taken() -> None:
    tiny = in_syntax(make_ct_instance(), RLELossless)
    made = [
        with_frames(tiny, frame_of(tiny), Rows=16000, Columns=16000, ImagePositionPatient=[0, 0, z]) for z in range(10)
    ]
    with pytest.raises(UnsuitableStudy, match="10 images of 16000x16000 pixels are more than can be read"):
        read_volume([source(each, f"1.2.{index}") for index, each in enumerate(made)])


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        (("odd", "gantry_tilt_4"), r"tilted by 14\.0°"),
        (("odd", "missing_slice_4"), r"about 1 image is missing: a gap of 1\.50 mm"),
        (("mr", "dicom2nifti_rgb_sc_4"), "in colour"),
        (("us", "examples_palette.dcm"), "lacks ImagePositionPatient"),
        (("other", "nm_heart_13f.dcm"), "13 frames says of none"),
        (("other", "xa_cath_75f.dcm"), "75 frames says of none"),
        (("cxr",), "lacks ImagePositionPatient"),
        (("derm", "intraoral_photo_jpegext_8bit.dcm"), "lacks ImagePositionPatient"),
        (("other", "waveform_ecg.dcm"), "no pixel data|lacks ImagePositionPatient"),
        (("other", "mg_nema_MG1_J2KI.dcm"), "lacks ImagePositionPatient"),
    ],
)
def test_real_series_that_make_no_volume_are_refused(parts: tuple[str, ...], said: str) -> None:
    with pytest.raises(UnsuitableStudy, match=said):
        read_volume(folder_sources(shared_data(*parts)))


@pytest.mark.parametrize(
    ("parts", "shape", "dtype"),
    [
        (("ct_abdomen", "dcmqi_liver_ct_3slice"), (3, 512, 512), "int16"),
        (("mr", "tcga_lihc_haste_cor_30"), (30, 256, 256), "int16"),
        (("mr", "dicom2nifti_j2k_axial_4"), (4, 256, 256), "int16"),
        (("other", "ct_head_negative.dcm"), (1, 512, 512), "int16"),
        (("enhanced", "legacy_converted_ct_3f.dcm"), (3, 38, 23), "int16"),
        (("enhanced", "philips_emr_8f.dcm"), (8, 256, 256), "float32"),
    ],
)
def test_real_series_are_read_as_the_general_decoder_reads_them(
    parts: tuple[str, ...], shape: tuple[int, int, int], dtype: str
) -> None:
    folder = shared_data(*parts)
    volume = read_volume(folder_sources(folder))
    assert volume.array.shape == shape
    assert volume.array.dtype == dtype
    files = [folder] if folder.is_file() else sorted(folder.rglob("*.dcm"))
    truth = {}
    for path in files:
        whole = dcmread(path)
        for frame, pixels in enumerate(whole.pixel_array.reshape(-1, *shape[1:]), start=1):
            truth[str(whole.SOPInstanceUID), frame] = pixels
    for index, (image, number) in enumerate(zip(volume.sources, volume.frame_numbers, strict=True)):
        header = volume.headers[index]
        slope, intercept = float(header.get("RescaleSlope") or 1), float(header.get("RescaleIntercept") or 0)
        expected = truth[image.sop_instance_uid, number or 1].astype(np.float64) * slope + intercept
        if header.Modality == "CT" and "PixelPaddingValue" in header:
            expected[truth[image.sop_instance_uid, number or 1] == header.PixelPaddingValue] = -1024
        assert np.allclose(volume.array[index], expected, rtol=1e-6)


def test_a_series_in_several_syntaxes_is_one_volume() -> None:
    array = asymmetric((len(LOSSLESS), 32, 40)) % 3000 - 1000
    made = [source(in_syntax(each, syntax)) for each, syntax in zip(make_series(array), LOSSLESS, strict=True)]
    assert np.array_equal(read_volume(made).array, array)
