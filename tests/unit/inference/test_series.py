"""Which series of a study an engine gets."""

from __future__ import annotations

from typing import Any

import pytest
from pydicom import dcmread

from inference.engines.lung import ClassicalLung
from inference.engines.protocol import SeriesNeeds
from inference.errors import UnsuitableStudy
from inference.series import CandidateSeries, choose_series
from tests.builders.ct import make_ct_instance
from tests.builders.series import asymmetric, make_enhanced, make_series
from tests.builders.shared_data import shared_data

NEEDS = SeriesNeeds(modalities=("CT",), minimum_slices=10, thickest_mm=10.0, not_of=("HEAD", "KNEE"))


def candidate(name: str, images: int = 200, **overrides: Any) -> CandidateSeries:
    values = {"ConvolutionKernel": "STANDARD", "Manufacturer": "GE MEDICAL SYSTEMS", "SeriesNumber": 7}
    return CandidateSeries(name, make_ct_instance(**values | overrides), images)


@pytest.mark.parametrize(
    ("fitter", "other"),
    [
        ({"SliceThickness": "1"}, {"SliceThickness": "5"}),
        ({}, {"ConvolutionKernel": "LUNG"}),
        (
            {"Manufacturer": "SIEMENS", "ConvolutionKernel": "B31f"},
            {"Manufacturer": "SIEMENS", "ConvolutionKernel": "B70f"},
        ),
        ({"images": 300}, {}),
        ({}, {"ImageOrientationPatient": [1, 0, 0, 0, 0, -1], "SliceThickness": "1"}),
        ({}, {"ImageType": ["DERIVED", "SECONDARY", "AXIAL"], "SliceThickness": "1"}),
        ({"SliceThickness": "3", "images": 100}, {"SliceThickness": "1", "images": 30}),  # gaps, or a part only
        ({}, {"SliceThickness": None}),
    ],
    ids=["thin", "smooth", "smooth by number", "more images", "axial", "original", "whole", "thickness known"],
)
def test_the_fitter_series_is_chosen_wherever_it_stands(fitter: dict[str, Any], other: dict[str, Any]) -> None:
    one, two = candidate("1.1", **fitter), candidate("1.2", **other)
    assert choose_series([one, two], NEEDS) is one
    assert choose_series([two, one], NEEDS) is one
    named_last = CandidateSeries("1.9", one.header, one.number_of_instances)
    assert choose_series([named_last, two], NEEDS) is named_last


def test_equal_series_are_chosen_the_same_way_every_time() -> None:
    one, two = candidate("1.1"), candidate("1.2")
    assert choose_series([two, one], NEEDS).series_instance_uid == "1.1"


@pytest.mark.parametrize(
    ("overrides", "reason"),
    [
        ({"Modality": "MR"}, "MR instead of CT"),
        ({"Modality": None}, "no modality instead of CT"),
        ({"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}, "a localiser"),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.7"}, "a secondary capture"),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.7.4"}, "a secondary capture"),
        ({"ImageType": ["DERIVED", "SECONDARY", "SCREEN SAVE"]}, "a screenshot"),
        ({"ImageType": ["DERIVED", "SECONDARY", "SCREEN_CAPTURE"]}, "a screenshot"),
        ({"ConversionType": "WSD"}, "a screenshot"),
        ({"BodyPartExamined": "head"}, "images of HEAD, which this engine does not read"),
        ({"images": 9}, "9 images, 10 are needed"),
        ({"SliceThickness": "12"}, r"slices of 12\.0 mm, 10\.0 mm or less are needed"),
        ({"NumberOfFrames": 3, "images": 2}, "6 images, 10 are needed"),
    ],
)
def test_what_an_engine_cannot_read_is_named_series_by_series(overrides: dict[str, Any], reason: str) -> None:
    with pytest.raises(UnsuitableStudy, match=rf"no series can be read \(series 7: {reason}\)"):
        choose_series([candidate("1.1", **overrides)], NEEDS)


def test_no_series_at_all_is_said() -> None:
    with pytest.raises(UnsuitableStudy, match="there is none"):
        choose_series([], NEEDS)


def test_photographs_are_no_secondary_captures() -> None:
    # VL Photographic (...77.1.4) begins with the same figures as Secondary Capture (...7).
    with pytest.raises(UnsuitableStudy, match="XC instead of CT"):
        choose_series([candidate("1.1", SOPClassUID="1.2.840.10008.5.1.4.1.1.77.1.4", Modality="XC")], NEEDS)
    needs = SeriesNeeds(modalities=("XC",), minimum_slices=1, thickest_mm=10.0)
    photograph = candidate("1.1", SOPClassUID="1.2.840.10008.5.1.4.1.1.77.1.4", Modality="XC", images=1)
    assert choose_series([photograph], needs) is photograph


def test_a_multi_frame_series_is_judged_by_its_frames() -> None:
    enhanced = CandidateSeries("1.1", make_enhanced(make_series(asymmetric((12, 8, 10)))), 1)
    assert choose_series([enhanced], NEEDS) is enhanced
    coronal = make_enhanced(make_series(asymmetric((60, 8, 10)), column=(0, 0, -1)))
    assert choose_series([CandidateSeries("1.0", coronal, 1), enhanced], NEEDS) is enhanced


@pytest.mark.parametrize(
    ("parts", "reason"),
    [
        (("mr", "tcga_lihc_haste_cor_30"), "MR instead of CT"),
        (("other", "pet_acrin_1.dcm"), "PT instead of CT"),
        (("other", "nm_heart_13f.dcm"), "NM instead of CT"),
        (("other", "xa_cath_75f.dcm"), "XA instead of CT"),
        (("other", "ct_head_negative.dcm"), "images of HEAD, which this engine does not read"),
        (("cxr", "nih_pa_no_finding.dcm"), "DX instead of CT"),
        (("us", "examples_palette.dcm"), "US instead of CT"),
        (("enhanced", "legacy_converted_ct_3f.dcm"), "3 images, 10 are needed"),
        (("derm", "intraoral_photo_jpegext_8bit.dcm"), "OT instead of CT"),
        (("malformed", "GH178.dcm"), "a secondary capture"),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_real_series_of_other_kinds_are_declined(parts: tuple[str, ...], reason: str) -> None:
    path = shared_data(*parts)
    files = [path] if path.is_file() else sorted(path.rglob("*.dcm"))
    header = dcmread(files[0], stop_before_pixels=True)
    with pytest.raises(UnsuitableStudy, match=reason):
        choose_series([CandidateSeries("1.1", header, len(files))], NEEDS)


@pytest.mark.parametrize("body_part", [None, "", "CHEST", "THORAX", "ABDOMEN", "WHOLEBODY", "HEADNECK"])
def test_a_part_that_is_not_excluded_is_looked_at(body_part: str | None) -> None:
    one = candidate("1.1") if body_part is None else candidate("1.1", BodyPartExamined=body_part)
    assert choose_series([one], NEEDS) is one


def test_the_lung_engine_declines_parts_without_lungs() -> None:
    needs = ClassicalLung().description.reads
    with pytest.raises(UnsuitableStudy, match="images of KNEE"):
        choose_series([candidate("1.1", BodyPartExamined="KNEE")], needs)
    assert choose_series([candidate("1.1", BodyPartExamined="CHEST")], needs)
