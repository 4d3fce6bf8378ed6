"""Result sets in every form: what they are made of, and what each says."""

from __future__ import annotations

from dataclasses import replace

import pytest
from pydicom import Dataset

from inference.errors import UnusableAnswer
from inference.findings import ImageLocation
from inference.results.build import build_list, build_rejection, build_results
from inference.results.forms import CANONICAL, MEASUREMENT_REPORTS, Form
from inference.results.key_objects import Rejection
from tests.builders.findings import NODE, ct_headers, lungs, make_run, marked, pictures, refused
from tests.builders.result_sets import built, items, name, texts

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")

FORMS = [
    *(f"{outlines}+{report}" for outlines in ("binary", "none") for report in MEASUREMENT_REPORTS),
    *(f"none+{report}" for report in ("basic-text", "pdf", "summary")),
    "capture+comprehensive",
    *(f"{outlines}+{report}" for outlines in ("binary", "capture") for report in ("basic-text", "pdf", "summary")),
    "capture+none",
    "binary+none",
]


@pytest.mark.parametrize(
    "text", ["", "binary", "none+none", "binary+word", "paper+comprehensive", "binary+comprehensive+x"]
)
def test_text_that_names_no_form_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="no form"):
        Form.of(text)


@pytest.mark.parametrize("text", FORMS)
def test_form_comes_back_as_it_was_written(text: str) -> None:
    assert str(Form.of(text)) == text


@pytest.mark.parametrize("text", FORMS)
def test_set_has_the_objects_of_its_form_and_the_same_bytes_each_time(text: str) -> None:
    form = Form.of(text)
    sets = [built(marked(), form=form, shown=pictures()) for _ in range(2)]
    asked = [kind for kind in (form.outlines_kind, form.report_kind) if kind]
    assert [result.kind for result in sets[0].results] == asked
    assert [one.part10 for one in sets[0].results] == [other.part10 for other in sets[1].results]


def test_no_two_forms_share_a_uid() -> None:
    results = [result for text in FORMS for result in built(marked(), form=Form.of(text), shown=pictures()).results]
    assert len({result.dataset.SOPInstanceUID for result in results}) == len(results)
    assert len({result.dataset.SeriesInstanceUID for result in results}) == len(results)


@pytest.mark.parametrize("report", MEASUREMENT_REPORTS)
def test_one_tree_is_written_in_three_classes(report: str) -> None:
    sr = built(marked(), form=Form("binary", report)).sr  # type: ignore[arg-type]
    assert sr.SOPClassUID == MEASUREMENT_REPORTS[report]  # type: ignore[index]
    assert [float(n.MeasuredValueSequence[0].NumericValue) for n in items(sr, "NUM") if name(n) == "Length"] == [7.0]


def test_place_in_the_patient_is_a_coordinate_where_the_class_allows_it_and_said_in_words_elsewhere() -> None:
    in_space = built(marked()).sr
    (coordinates,) = items(in_space, "SCOORD3D")
    assert list(coordinates.GraphicData) == [1.0, 2.0, -80.0]
    elsewhere = built(marked(), form=Form("binary", "enhanced")).sr
    assert items(elsewhere, "SCOORD3D") == []
    assert "Place in the patient (LPS, mm), point: 1.0, 2.0, -80.0." in texts(elsewhere)


def test_measured_mark_stands_below_its_number_under_the_tool_that_viewers_know() -> None:
    sr = built(marked()).sr
    (length,) = (n for n in items(sr, "NUM") if name(n) == "Length")
    (coordinates,) = (child for child in length.ContentSequence if child.ValueType == "SCOORD")
    assert list(coordinates.GraphicData) == [10.0, 10.0, 20.0, 10.0]
    assert coordinates.ContentSequence[0].RelationshipType == "SELECTED FROM"
    tools = {str(t.TextValue) for t in items(sr, "TEXT") if name(t) == "Tracking Identifier"}
    assert {"Cornerstone3DTools@^0.1.0:Length", "Cornerstone3DTools@^0.1.0:RectangleROI"} <= tools


def test_mark_without_a_number_is_the_region_of_its_group() -> None:
    (region,) = (i for i in items(built(marked()).sr, "SCOORD") if name(i) == "Image Region")
    assert list(region.GraphicData) == [40.5, 20.5]


@pytest.mark.parametrize("x", [64.5, -0.1])
def test_mark_beyond_its_image_is_refused(x: float) -> None:
    place = ImageLocation("POINT", ((x, 3.0),), str(ct_headers()[0].SOPInstanceUID))
    group = replace(marked().groups[-1], location=place)
    with pytest.raises(UnusableAnswer, match="beyond the edge"):
        built(lungs(groups=(group,)))


def test_what_was_looked_for_is_said_also_where_it_is_absent() -> None:
    sr = built(marked()).sr
    answers = [
        str(i.ConceptCodeSequence[0].CodeMeaning) for i in items(sr, "CODE") if name(i) == "Presence of property"
    ]
    assert answers == ["Absent", "Present", "Indeterminate"]
    (score, _) = (i for i in items(sr, "NUM") if name(i) == "Certainty of Finding")
    assert float(score.MeasuredValueSequence[0].NumericValue) == pytest.approx(0.03)
    assert any(text == "Uncalibrated model score. Counts as present from 0.5 on." for text in texts(sr))


def test_report_without_outlines_refers_to_none() -> None:
    made = built(marked(), form=Form("none", "comprehensive"))
    assert [result.kind for result in made.results] == ["sr"]
    assert not any(name(item) == "Referenced Segment" for item in items(made.sr, "IMAGE"))


@pytest.mark.parametrize("report", ["basic-text", "comprehensive", "pdf", "summary"])
def test_refusal_is_said_in_every_form(report: str) -> None:
    made = built(refused(), form=Form("none", report))  # type: ignore[arg-type]
    assert [result.dataset.SeriesDescription for result in made.results] == ["RESEARCH NOT ANALYSED - see text"]


def test_text_report_says_every_figure_and_every_one_withheld() -> None:
    made = built(marked(), form=Form("none", "basic-text"))
    said = texts(made.of_kind("text"))
    assert said[0] == marked().summary
    for sentence in (
        "Pneumothorax, right: absent (score 0.03; uncalibrated model score).",
        "Nodule: present.",
        "Lung, right: Volume 0.01 L.",
        "Lung, bilateral: Mean Attenuation Coefficient -850 HU. Kernel unknown: densities depend on it.",
        "Nodule, right: Length 7.0 mm.",
        "A second.",
    ):
        assert sentence in said
    assert sum("not computed" in sentence for sentence in said) == 1 + 2 * 3
    assert items(made.of_kind("text"), "NUM") == []


def test_rejection_names_what_it_takes_back_and_why() -> None:
    made = built(lungs())
    objects = [result.dataset for result in made.results]
    note = build_rejection(
        objects, Rejection.PATIENT_SAFETY, "The images were of another patient.", made.evidence[0], make_run(), NODE
    ).dataset
    assert name(note) == "Rejected for Patient Safety Reasons"
    assert told(note) == {str(each.SOPInstanceUID) for each in objects}
    assert (
        note.SeriesInstanceUID != build_list(made.results, made.evidence[0], make_run(), NODE).dataset.SeriesInstanceUID
    )


def test_list_names_all_objects_of_the_run() -> None:
    made = built(marked())
    selection = build_list(made.results, made.evidence[0], make_run(), NODE).dataset
    assert name(selection) == "Of Interest"
    assert told(selection) == {str(result.dataset.SOPInstanceUID) for result in made.results}
    assert selection.PatientID == made.evidence[0].PatientID


def test_capture_without_pictures_is_refused_rather_than_left_out() -> None:
    with pytest.raises(UnusableAnswer, match="pictures"):
        build_results(lungs(), ct_headers(), make_run(), NODE, Form("capture", "none"))


def test_canonical_form_is_the_default() -> None:
    assert {result.form for result in built(lungs()).results} == {str(CANONICAL)}


def told(selection: Dataset) -> set[str]:
    referring = [*items(selection, "COMPOSITE"), *items(selection, "IMAGE")]
    return {str(item.ReferencedSOPSequence[0].ReferencedSOPInstanceUID) for item in referring}
