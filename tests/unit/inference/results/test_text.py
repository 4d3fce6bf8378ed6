"""Reports as text."""

from __future__ import annotations

import pytest
from pydicom import Dataset, dcmread

from inference.findings import ImageLocation
from inference.results.forms import Form
from inference.results.places import image_said, said_in_words
from inference.results.text import report_text
from tests.builders.findings import (
    SERIES,
    STUDY,
    ct_headers,
    in_many_scripts,
    lungs,
    make_run,
    marked,
    refused,
    second_run,
)
from tests.builders.result_sets import built, lung_set, texts
from tests.builders.shared_data import shared_data


def test_report_tells_its_standing_and_summary_and_figures() -> None:
    text = report_text(lung_set().sr)
    assert text.startswith("Imaging Measurement Report\nRESEARCH Lung measurements (classical, not AI)\n")
    assert "Status: complete, not verified by a person, preliminary" in text
    assert "Made: 2026-03-01 15:03:07" in text
    assert lungs().summary in text
    assert "    Volume: 0.01 L (Sum of segmented voxel method for volume)" in text
    assert "    Attenuation Coefficient: -850 HU (Mean)" in text
    assert "      Comment: Kernel unknown: densities depend on it." in text
    assert "Comment: Not computed: slice thickness 5.0 mm (needs 1.5 mm or less)." in text
    assert "    Finding Site: Lung (Right)" in text


def test_library_is_one_line() -> None:
    assert "Image Library: 12 images\n" in report_text(lung_set().sr)


def test_algorithm_is_named_once_for_each_wording() -> None:
    text = report_text(lung_set().sr)
    assert text.count("Algorithm: classical-lung 1.0 (dicom-node, threshold_hu=-400, Histogram Analysis)") == 1
    assert text.count("Algorithm:") == 2


def test_nothing_of_the_patient_is_written() -> None:
    text = report_text(lung_set().sr)
    assert all(word not in text for word in ("Quiet", "T-0001", "A-17", "1950"))


def test_refusal_says_so() -> None:
    text = report_text(built(refused()).sr)
    assert "Status: partial" in text
    assert "NOT ANALYSED by classical-lung: slice thickness is 8.0 mm" in text


def test_revision_is_told() -> None:
    run = make_run()
    text = report_text(built(lungs(), run=second_run(run, built(lungs(), run=run).sr)).sr)
    assert "Revision 2, replaces revision 1 of 15:03: 12 images arrived later." in text


def test_scripts_are_written_as_they_are() -> None:
    text = report_text(built(in_many_scripts()).sr)
    assert all(line in text for line in in_many_scripts().narrative)


def test_paragraphs_are_indented_below_their_name() -> None:
    assert "    Finding: One\n      Two\n" in report_text(built(lungs(narrative=("One\nTwo",))).sr)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(
    ("file", "told"),
    [
        ("dcmqi_sr.dcm", "    SUVbw: 6.01529 {SUVbw}g/ml (Mean)"),
        ("hd_sr_document.dcm", "Area of defined region: 1.7 cm2"),
        ("hd_sr_document_with_multiple_groups.dcm", "Measurement Group"),
        ("reportsi.dcm", "Report Text: Enter text"),
        ("test-SR.dcm", "Diameter: 3 cm"),
    ],
)
def test_reports_of_others_are_readable(file: str, told: str) -> None:
    assert told in report_text(dcmread(shared_data("sr_seg", file)))


def test_empty_data_set_is_a_report_without_words() -> None:
    assert report_text(Dataset()) == "Structured report\n"


def test_odd_tree_is_passed_over() -> None:
    sr = Dataset()
    item = Dataset()
    item.ValueType = "NUM"
    item.MeasuredValueSequence = []
    strange = Dataset()
    strange.ValueType = "HOLOGRAM"
    bare = Dataset()
    sr.ContentSequence = [item, strange, bare]
    assert "no value" in report_text(sr)


def test_endless_depth_is_cut() -> None:
    top = level = Dataset()
    for _ in range(200):
        below = Dataset()
        below.ValueType = "CONTAINER"
        level.ContentSequence = [below]
        level = below
    assert "deeper levels are not shown" in report_text(top)


def test_control_characters_do_not_reach_a_terminal() -> None:
    sr = Dataset()
    item = Dataset()
    item.ValueType = "TEXT"
    item.TextValue = "red \x1b[31malarm\x07"
    sr.ContentSequence = [item]
    assert "\x1b" not in report_text(sr)


def test_images_are_named_by_their_numbers_where_they_are_known() -> None:
    sr = built(marked()).sr
    known = {str(header.SOPInstanceUID): image_said(header) for header in ct_headers()}
    text = report_text(sr, lambda uid: known.get(uid, ""))
    assert "series 2, image 4" in text
    assert "series 2, image 5" in text
    assert STUDY not in text


def test_an_image_that_is_not_known_is_named_by_its_uid() -> None:
    assert f"instance {SERIES}.4" in report_text(built(marked()).sr, lambda _: "")


def test_words_for_a_place_name_image_and_frame() -> None:
    header = ct_headers()[3]
    place = ImageLocation("POINT", ((1.0, 2.0),), str(header.SOPInstanceUID), 7)
    assert said_in_words(place, [header]).startswith(
        "Place on series 2, image 4, frame 7 (column, row), point: 1.0, 2.0"
    )
    del header.InstanceNumber
    assert f"series 2, image {SERIES}.4" in said_in_words(place, [header])


@pytest.mark.parametrize("form", ["none+basic-text"])
def test_report_as_text_names_no_uid_of_an_image(form: str) -> None:
    said = texts(built(marked(), form=Form.of(form)).of_kind("text"))
    assert any("Place on series 2, image 4" in line for line in said)
    assert not any(SERIES in line for line in said)
