"""Reports as text."""

from __future__ import annotations

import pytest
from pydicom import Dataset, dcmread

from inference.results.text import report_text
from tests.builders.findings import in_many_scripts, lungs, make_run, refused, second_run
from tests.builders.result_sets import built, lung_set
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
