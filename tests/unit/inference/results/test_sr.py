"""The report: what a reader finds, and what a machine finds."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from pydicom import Dataset

from inference.errors import UnusableAnswer
from inference.findings import Findings, Measurement, Qualitative
from inference.results import codes
from tests.builders.findings import ct_headers, engine, lungs, make_run, refused, second_run
from tests.builders.result_sets import built, items, lung_set, name, texts


def groups(sr: Dataset) -> list[Dataset]:
    return [item for item in items(sr, "CONTAINER") if name(item) == "Measurement Group"]


def child(item: Dataset, meaning: str) -> Dataset:
    return next(found for found in item.ContentSequence if name(found) == meaning)


def test_summary_is_the_first_text_that_a_reader_finds() -> None:
    assert texts(lung_set().sr)[0] == lungs().summary


def test_narrative_follows_the_summary_in_its_order() -> None:
    sr = built(lungs(narrative=("First.", "Second."))).sr
    assert texts(sr)[1:3] == ["First.", "Second."]


def test_line_breaks_in_text_are_kept() -> None:
    assert "One\nTwo" in texts(built(lungs(narrative=("One\nTwo",))).sr)


def test_report_is_a_draft_that_nobody_verified() -> None:
    sr = lung_set().sr
    assert (sr.CompletionFlag, sr.VerificationFlag, sr.PreliminaryFlag) == ("COMPLETE", "UNVERIFIED", "PRELIMINARY")


def test_root_is_template_1500() -> None:
    sr = lung_set().sr
    assert sr.ConceptNameCodeSequence[0].CodeValue == "126000"
    assert sr.ContentTemplateSequence[0].TemplateIdentifier == "1500"
    assert [name(item) for item in sr.ContentSequence][-2:] == ["Image Library", "Imaging Measurements"]


def test_library_names_every_used_image_once() -> None:
    result = lung_set()
    library = child(result.sr, "Image Library")
    named = [item.ReferencedSOPSequence[0].ReferencedSOPInstanceUID for item in items(library, "IMAGE")]
    assert named == [header.SOPInstanceUID for header in result.evidence]


def test_library_says_common_geometry_once() -> None:
    group = child(child(lung_set().sr, "Image Library"), "Image Library Group")
    told = {name(item): item for item in group.ContentSequence if item.ValueType != "IMAGE"}
    assert told["Modality"].ConceptCodeSequence[0].CodeValue == "CT"
    assert float(told["Vertical Pixel Spacing"].MeasuredValueSequence[0].NumericValue) == 0.8
    assert float(told["Horizontal Pixel Spacing"].MeasuredValueSequence[0].NumericValue) == 0.7
    assert "Image Position (Patient) Z" not in told


def test_each_lung_refers_to_its_segment_and_source_series() -> None:
    result = lung_set()
    _, both, right, left = groups(result.sr)
    assert [group.ContentTemplateSequence[0].TemplateIdentifier for group in (both, right, left)] == [
        "1501",
        "1411",
        "1411",
    ]
    for group, number in ((right, 1), (left, 2)):
        reference = child(group, "Referenced Segment").ReferencedSOPSequence[0]
        assert reference.ReferencedSOPInstanceUID == result.seg.SOPInstanceUID
        assert int(reference.ReferencedSegmentNumber) == number
        series = child(group, "Source Series for Segmentation").UID
        assert series == result.evidence[0].SeriesInstanceUID


def test_group_and_segment_carry_the_same_tracking_pair() -> None:
    result = lung_set()
    for group, segment in zip(groups(result.sr)[2:], result.seg.SegmentSequence, strict=True):
        told = child(group, "Tracking Identifier").TextValue, child(group, "Tracking Unique Identifier").UID
        assert told == (segment.TrackingID, segment.TrackingUID)


def test_outline_that_nothing_was_measured_of_still_has_its_group() -> None:
    result = built(lungs(groups=()))
    assert len(groups(result.sr)) == 3
    assert [name(item) for item in items(result.sr, "IMAGE")].count("Referenced Segment") == 2


def test_number_is_shown_rounded_and_exact_beside_it() -> None:
    volume = next(item for item in items(lung_set().sr, "NUM") if name(item) == "Volume")
    measured = volume.MeasuredValueSequence[0]
    assert str(measured.NumericValue) == "0.02"
    assert measured.FloatingPointValue == 0.02234567


def test_values_equal_those_of_the_findings() -> None:
    told = [
        item.MeasuredValueSequence[0].FloatingPointValue
        for item in items(lung_set().sr, "NUM")
        if item.RelationshipType == "CONTAINS"
    ]
    assert told == [figure.value for group in lungs().groups for figure in group.measurements]


def test_every_number_of_a_group_has_a_child() -> None:
    numbers = [item for group in groups(lung_set().sr) for item in group.ContentSequence if item.ValueType == "NUM"]
    assert numbers
    assert all(item.ContentSequence for item in numbers)


def test_caution_stands_beneath_its_number() -> None:
    density = next(item for item in items(lung_set().sr, "NUM") if name(item) == "Attenuation Coefficient")
    assert child(density, "Comment").TextValue == "Kernel unknown: densities depend on it."


def test_withheld_number_stands_there_with_its_reason() -> None:
    withheld = next(item for item in items(lung_set().sr, "CODE") if "LAA-950" in name(item))
    assert withheld.ConceptCodeSequence[0].CodeValue == "114007"
    assert child(withheld, "Comment").TextValue == ("Not computed: slice thickness 5.0 mm (needs 1.5 mm or less).")


def test_answers_about_the_study_stand_beside_the_summary() -> None:
    answer = Qualitative(codes.LUNG, codes.Code("52101004", "SCT", "Present"))
    summary = groups(built(lungs(qualitative=(answer,))).sr)[0]
    assert any(item.ValueType == "CODE" and name(item) == "Lung" for item in summary.ContentSequence)


def test_observer_is_this_device() -> None:
    sr = lung_set().sr
    told = {name(item): item.get("TextValue") for item in sr.ContentSequence if item.ValueType == "TEXT"}
    assert told["Device Observer Name"] == "NODE1"
    assert told["Device Observer Serial Number"] == "site-7"


def test_algorithm_is_named_as_equipment_too() -> None:
    item = lung_set().sr.ContributingEquipmentSequence[0]
    assert item.PurposeOfReferenceCodeSequence[0].CodeValue == "109102"
    assert (item.ManufacturerModelName, item.SoftwareVersions) == ("classical-lung", "1.0")
    assert item.DeviceUID.startswith("2.25.")


def test_refusal_is_a_partial_report_over_the_considered_images() -> None:
    result = built(refused())
    assert [entry.kind for entry in result.results] == ["sr"]
    assert result.sr.CompletionFlag == "PARTIAL"
    assert result.sr.SeriesDescription == "RESEARCH NOT ANALYSED - see text"
    assert texts(result.sr)[0].startswith("NOT ANALYSED by classical-lung: slice thickness is 8.0 mm")
    assert len(items(child(result.sr, "Image Library"), "IMAGE")) == 12


def test_refusal_works_on_images_without_geometry_and_of_several_series() -> None:
    headers = ct_headers()
    for header in headers:
        for keyword in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "FrameOfReferenceUID"):
            del header[keyword]
        del header["SliceThickness"]
        del header["Rows"]
    headers[3].SeriesInstanceUID = "1.2.3.4"
    headers[4].Modality = "XX"
    sr = built(refused(), evidence=headers).sr
    assert len(items(child(sr, "Image Library"), "IMAGE")) == 12
    assert len(sr.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence) == 2


def test_refusal_survives_geometry_that_is_no_number() -> None:
    headers = ct_headers(SliceThickness=None, ImagePositionPatient=["0", "0"])
    assert texts(built(refused(), evidence=headers).sr)[0].startswith("NOT ANALYSED")


def test_instance_named_twice_is_listed_once() -> None:
    headers = ct_headers()
    sr = built(refused(), evidence=(*headers, headers[0])).sr
    assert len(items(child(sr, "Image Library"), "IMAGE")) == 12


def test_second_revision_names_what_it_replaces() -> None:
    first_run = make_run()
    first = built(lungs(), run=first_run).sr
    second = built(lungs(), run=second_run(first_run, first)).sr
    before = second.PredecessorDocumentsSequence[0].ReferencedSeriesSequence[0]
    assert before.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == first.SOPInstanceUID
    assert second.SeriesInstanceUID == first.SeriesInstanceUID
    assert (first.InstanceNumber, second.InstanceNumber) == (1, 2)
    assert second.SOPInstanceUID != first.SOPInstanceUID


def test_tracking_uids_stay_over_revisions() -> None:
    first_run = make_run()
    first = built(lungs(), run=first_run).sr
    second = built(lungs(), run=second_run(first_run, first)).sr
    told = [[child(group, "Tracking Unique Identifier").UID for group in groups(sr)] for sr in (first, second)]
    assert told[0] == told[1]


def test_evidence_is_the_images_and_the_segmentation() -> None:
    result = lung_set()
    (study,) = result.sr.CurrentRequestedProcedureEvidenceSequence
    listed = {
        reference.ReferencedSOPInstanceUID
        for series in study.ReferencedSeriesSequence
        for reference in series.ReferencedSOPSequence
    }
    assert listed == {header.SOPInstanceUID for header in result.evidence} | {result.seg.SOPInstanceUID}


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_number_that_is_none_never_becomes_a_report(value: float) -> None:
    group = replace(lungs().groups[0], measurements=(Measurement(codes.VOLUME, value, codes.LITRE),))
    with pytest.raises(UnusableAnswer):
        built(lungs(groups=(group,)))


def test_findings_of_nothing_at_all_are_still_a_report() -> None:
    empty = replace(lungs(), segments=(), groups=())
    result = built(empty)
    assert [entry.kind for entry in result.results] == ["sr"]
    assert texts(result.sr) == [empty.summary]


def test_empty_outline_is_left_out_and_its_numbers_stay() -> None:
    findings = lungs()
    nothing = replace(findings.segments[1], mask=np.zeros_like(findings.segments[1].mask))
    result = built(replace(findings, segments=(findings.segments[0], nothing)))
    assert [item.SegmentLabel for item in result.seg.SegmentSequence] == ["Right lung"]
    assert [g.ContentTemplateSequence[0].TemplateIdentifier for g in groups(result.sr)] == [
        "1501",
        "1501",
        "1411",
        "1501",
    ]


def test_model_says_that_it_is_one() -> None:
    described = engine(name="medversa", kind="model", title="Report", family=codes.ARTIFICIAL_INTELLIGENCE)
    findings = Findings(
        summary="Draft text generated by MedVersa (AI), not verified by a physician. Read the images.",
        narrative=("No pleural effusion is described.",),
    )
    sr = built(findings, run=make_run(engine=described)).sr
    assert sr.SeriesDescription == "RESEARCH Report measurements (medversa AI)"
    assert sr.SeriesNumber == 9031
