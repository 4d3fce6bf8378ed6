"""Reports and segmentations of other makers as findings; hostile ones end in a typed refusal."""

from __future__ import annotations

import io
import math

import highdicom as hd
import numpy as np
import pytest
from pydicom import Dataset, dcmread

from inference.errors import UnusableAnswer
from inference.findings import ImageLocation
from inference.results import codes
from inference.results.foreign import read_report, read_segmentation
from inference.results.forms import Form
from inference.results.plain import findings_json
from tests.builders.findings import ct_headers, lung_masks, lungs, marked
from tests.builders.result_sets import built, items
from tests.builders.shared_data import shared_data
from tests.gallery.sources import SOURCES

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


def by_highdicom() -> Dataset:
    """A report as a program writes it that knows highdicom alone."""
    image = ct_headers()[3]
    where = hd.sr.ImageRegion(
        hd.sr.GraphicTypeValues.CIRCLE,
        np.array([[10.0, 20.0], [13.0, 24.0]]),
        hd.sr.SourceImageForRegion(image.SOPClassUID, image.SOPInstanceUID),
    )
    group = hd.sr.PlanarROIMeasurementsAndQualitativeEvaluations(
        tracking_identifier=hd.sr.TrackingIdentifier(hd.UID(), "Lesion 1"),
        referenced_region=where,
        finding_type=hd.sr.CodedConcept("27925004", "SCT", "Nodule"),
        finding_sites=[
            hd.sr.FindingSite(
                hd.sr.CodedConcept("39607008", "SCT", "Lung"), hd.sr.CodedConcept("7771000", "SCT", "Left")
            )
        ],
        measurements=[
            hd.sr.Measurement(
                hd.sr.CodedConcept("81827009", "SCT", "Diameter"), 10.25, hd.sr.CodedConcept("mm", "UCUM", "mm")
            )
        ],
        qualitative_evaluations=[
            hd.sr.QualitativeEvaluation(
                hd.sr.CodedConcept("RID6057", "RADLEX", "Margin"), hd.sr.CodedConcept("RID5714", "RADLEX", "spiculated")
            )
        ],
    )
    person = hd.sr.ObserverContext(
        hd.sr.CodedConcept("121006", "DCM", "Person"), hd.sr.PersonObserverIdentifyingAttributes("Reader^Test")
    )
    report = hd.sr.MeasurementReport(
        hd.sr.ObservationContext(observer_person_context=person),
        hd.sr.CodedConcept("363679005", "SCT", "Imaging procedure"),
        imaging_measurements=[group],
        title=hd.sr.CodedConcept("126000", "DCM", "Imaging Measurement Report"),
    )
    image.PatientBirthTime = None
    made = hd.sr.Comprehensive3DSR(
        [image], report[0], hd.UID(), 7, hd.UID(), 1, manufacturer="Other Vendor", is_complete=True, is_final=True
    )
    file = io.BytesIO()
    made.save_as(file)
    file.seek(0)
    return dcmread(file)


def test_report_made_by_highdicom_is_read_group_by_group() -> None:
    found = read_report(by_highdicom())
    (group,) = found.groups
    assert (group.tracking_id, group.finding.meaning, group.site.meaning) == ("Lesion 1", "Nodule", "Lung")
    assert group.laterality == codes.LEFT
    (figure,) = group.measurements
    assert (figure.name.meaning, figure.value, figure.unit.value) == ("Diameter", 10.25, "mm")
    (answer,) = group.qualitative
    assert (answer.name.meaning, answer.value.meaning) == ("Margin", "spiculated")
    assert group.location == ImageLocation("CIRCLE", ((10.0, 20.0), (13.0, 24.0)), str(ct_headers()[3].SOPInstanceUID))
    assert found.summary.startswith("Made by Other Vendor")
    assert "not checked by this node" in found.summary


def test_a_report_of_ours_reads_back_with_its_figures() -> None:
    found = read_report(built(marked()).sr)
    said = {(g.tracking_id, m.name.meaning): m.value for g in found.groups for m in g.measurements}
    for group in marked().groups:
        for figure in group.measurements:
            if not group.location:
                assert said[group.tracking_id, figure.name.meaning] == figure.value
    assert any(marked().summary in line for line in found.narrative)
    assert findings_json(found)["groups"]


def test_segmentation_is_read_segment_by_segment() -> None:
    for form in ("binary+none", "labelmap+none"):
        found = read_segmentation(built(lungs(), form=Form.of(form)).seg)
        assert [segment.label for segment in found.segments] == ["Right lung", "Left lung"]
        assert [int(segment.mask.sum()) for segment in found.segments] == [int(mask.sum()) for mask in lung_masks()]
        assert findings_json(found)["segments"][0]["type"]["meaning"] == "Lung"


def test_segmentation_of_an_image_that_lies_nowhere_is_read() -> None:
    source = SOURCES["skin"]()
    made = built(source.findings, evidence=source.evidence, form=Form.of("binary+none"))
    (segment,) = read_segmentation(made.seg).segments
    assert np.array_equal(segment.mask, source.findings.segments[0].mask)


@pytest.mark.parametrize(
    ("file", "groups"),
    [("dcmqi_sr.dcm", 1), ("hd_sr_document.dcm", 1), ("hd_sr_document_with_multiple_groups.dcm", 2)],
)
def test_real_reports_of_dcmqi_and_highdicom_are_read(file: str, groups: int) -> None:
    found = read_report(dcmread(shared_data("sr_seg", file)))
    assert len(found.groups) >= groups
    assert any(group.measurements or group.qualitative for group in found.groups)


@pytest.mark.parametrize("file", ["dcmqi_seg.dcm", "hd_seg_image_ct_binary.dcm", "hd_seg_image_ct_binary_overlap.dcm"])
def test_real_segmentations_of_dcmqi_and_highdicom_are_read(file: str) -> None:
    found = read_segmentation(dcmread(shared_data("sr_seg", file)))
    assert any(segment.mask.any() for segment in found.segments)


def test_a_report_of_another_template_is_refused_with_its_reason() -> None:
    with pytest.raises(UnusableAnswer, match="no Imaging Measurement Report"):
        read_report(dcmread(shared_data("sr_seg", "reportsi.dcm")))
    with pytest.raises(UnusableAnswer, match="no Imaging Measurement Report"):
        read_report(Dataset())


def test_a_tree_deeper_than_any_report_is_refused() -> None:
    sr = by_highdicom()
    item = sr.ContentSequence[-1]
    for _ in range(200):
        child = Dataset()
        child.ValueType = "CONTAINER"
        item.ContentSequence = [*item.get("ContentSequence", ()), child]
        item = child
    with pytest.raises(UnusableAnswer, match="deeper than"):
        read_report(sr)


def test_a_tree_larger_than_any_report_is_refused() -> None:
    sr = by_highdicom()
    child = Dataset()
    child.ValueType = "TEXT"
    sr.ContentSequence[-1].ContentSequence = [child] * 60_000
    with pytest.raises(UnusableAnswer, match="more than"):
        read_report(sr)


BROKEN = {
    "no unit": lambda sr: delattr(items(sr, "NUM")[0].MeasuredValueSequence[0], "MeasurementUnitsCodeSequence"),
    "no value": lambda sr: setattr(items(sr, "NUM")[0], "MeasuredValueSequence", []),
    "no name": lambda sr: delattr(items(sr, "NUM")[0], "ConceptNameCodeSequence"),
    "odd points": lambda sr: setattr(items(sr, "SCOORD")[0], "GraphicData", [1.0, 2.0, 3.0]),
    "no number": lambda sr: setattr(items(sr, "SCOORD")[0], "GraphicData", [math.nan, 1.0]),
    "strange graphic": lambda sr: setattr(items(sr, "SCOORD")[0], "GraphicType", "STAR"),
    "no image": lambda sr: delattr(items(sr, "SCOORD")[0], "ContentSequence"),
    "no finding": lambda sr: [delattr(item, "ConceptCodeSequence") for item in items(sr, "CODE")],
    "no tracking": lambda sr: [delattr(item, "UID") for item in items(sr, "UIDREF")],
}


@pytest.mark.parametrize("broken", BROKEN)
def test_what_an_item_lacks_is_left_out_and_never_invented(broken: str) -> None:
    sr = by_highdicom()
    BROKEN[broken](sr)
    (group,) = read_report(sr).groups
    for figure in group.measurements:
        assert math.isfinite(figure.value)
        assert figure.unit.value == "mm"
    if broken in ("odd points", "no number", "strange graphic", "no image"):
        assert group.location is None
    if broken in ("no unit", "no value"):
        assert not group.measurements
        assert group.not_computed
    if broken == "no finding":
        assert group.finding == codes.CLINICAL_FINDING


def test_a_segmentation_that_says_more_than_it_holds_is_refused() -> None:
    seg = built(lungs()).seg
    seg.Rows, seg.Columns = 60000, 60000
    with pytest.raises(UnusableAnswer):
        read_segmentation(seg)
