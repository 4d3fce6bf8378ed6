"""The gate: a sound set passes, and every seeded defect is refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from pydicom import Dataset

from inference.errors import UnusableAnswer
from inference.results import codes, gate
from inference.results.gate_picture import document_problems
from inference.results.result import Result
from tests.builders.findings import NODE, ct_headers, engine, in_many_scripts, lungs, make_run, refused
from tests.builders.result_sets import ResultSet, built, items, lung_set, name

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


def group(sr: Dataset, number: int) -> Dataset:
    return [item for item in items(sr, "CONTAINER") if name(item) == "Measurement Group"][number]


def number(sr: Dataset) -> Dataset:
    return next(item for item in items(sr, "NUM") if name(item) == "Volume")


def drop(item: Dataset, meaning: str) -> None:
    item.ContentSequence = [child for child in item.ContentSequence if name(child) != meaning]


def frame(seg: Dataset) -> Dataset:
    return seg.PerFrameFunctionalGroupsSequence[3]


def source(seg: Dataset) -> Dataset:
    return frame(seg).DerivationImageSequence[0].SourceImageSequence[0]


def evidence_instances(sr: Dataset) -> list[Dataset]:
    return sr.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence[0].ReferencedSOPSequence


def put(holder: Dataset, **values: object) -> None:
    for keyword, value in values.items():
        setattr(holder, keyword, value)


#: What is broken in a sound set, and what the gate must say of it.
DEFECTS: dict[str, tuple[Callable[[ResultSet], object], str]] = {
    # the standard's module tables and value representations
    "series date missing": (lambda s: s.sr.__delattr__("SeriesDate"), "Series Date or Time is missing"),
    "content date empty": (lambda s: put(s.seg, ContentDate=""), "Content Date or Time is missing"),
    "manufacturer missing in the segmentation": (
        lambda s: s.seg.__delattr__("Manufacturer"),
        "Manufacturer is missing",
    ),
    "completion flag missing": (lambda s: s.sr.__delattr__("CompletionFlag"), "CompletionFlag is missing"),
    "performed procedure codes missing": (
        lambda s: s.sr.__delattr__("PerformedProcedureCodeSequence"),
        "PerformedProcedureCodeSequence is missing",
    ),
    "wrong modality": (lambda s: put(s.seg, Modality="CT"), "Modality is not SEG"),
    "UID that is none": (lambda s: put(s.sr, SeriesInstanceUID="1.02.x"), "SeriesInstanceUID is no UID"),
    "series number missing": (lambda s: put(s.sr, SeriesNumber=None), "SeriesNumber is not at least 1"),
    "description longer than 64": (
        lambda s: put(s.sr, SeriesDescription="RESEARCH not AI" + "x" * 60),
        "longer than 64",
    ),
    "control character in text": (
        lambda s: put(next(i for i in items(s.sr, "TEXT") if name(i) == "Finding"), TextValue="RESEARCH USE\x07"),
        "character that it must not",
    ),
    # identity
    "another patient": (lambda s: put(s.sr, PatientID="T-0002"), "PatientID is not that of the source"),
    "patient name damaged": (lambda s: put(s.seg, PatientName="T?st^Quiet"), "PatientName is not that"),
    "issuer lost": (lambda s: s.sr.__delattr__("IssuerOfPatientID"), "IssuerOfPatientID is not that"),
    "accession number lost": (lambda s: put(s.seg, AccessionNumber=""), "AccessionNumber is not that"),
    "another study": (lambda s: put(s.sr, StudyInstanceUID="1.2.3"), "Study Instance UID is not"),
    "series of the source": (
        lambda s: put(s.sr, SeriesInstanceUID=s.evidence[0].SeriesInstanceUID),
        "Series Instance UID is that of a source",
    ),
    # honesty
    "research mark gone": (lambda s: put(s.sr, SeriesDescription="Lung (not AI)"), "does not begin with RESEARCH"),
    "content qualification of a product": (lambda s: put(s.seg, ContentQualification="PRODUCT"), "not RESEARCH"),
    "AI claimed by a classical engine": (
        lambda s: put(s.sr, SeriesDescription="RESEARCH Lung measurements (AI)"),
        "does not say that it is not AI",
    ),
    "AI claimed in the summary": (
        lambda s: put(
            next(i for i in items(s.sr, "TEXT") if name(i) == "Finding"), TextValue="RESEARCH USE. Made by AI."
        ),
        "summary of a classical engine claims AI",
    ),
    "model that hides that it is one": (
        lambda s: [
            put(item.ConceptCodeSequence[0], CodeValue="123110", CodeMeaning="Artificial Intelligence")
            for item in items(s.sr, "CODE")
            if name(item) == "Algorithm Family"
        ],
        "a model's result is not described as AI",
    ),
    "verified by nobody": (lambda s: put(s.sr, VerificationFlag="VERIFIED"), "VerificationFlag is not UNVERIFIED"),
    "final": (lambda s: put(s.sr, PreliminaryFlag="FINAL"), "PreliminaryFlag is not PRELIMINARY"),
    "refusal passed off as an answer": (
        lambda s: put(s.sr, CompletionFlag="PARTIAL"),
        "CompletionFlag is not COMPLETE",
    ),
    "summary gone": (lambda s: drop(group(s.sr, 0), "Finding"), "summary does not begin"),
    # codes, numbers, units
    "code that is none": (
        lambda s: put(group(s.sr, 1).ContentSequence[2].ConceptCodeSequence[0], CodeValue="00000"),
        "is not known",
    ),
    "left called right": (
        lambda s: put(
            s.seg.SegmentSequence[1].SegmentedPropertyTypeCodeSequence[0].SegmentedPropertyTypeModifierCodeSequence[0],
            CodeMeaning="Right",
        ),
        "is not known",
    ),
    "not a number": (
        lambda s: put(number(s.sr).MeasuredValueSequence[0], FloatingPointValue=float("nan")),
        "a number is not finite",
    ),
    "number shown as another": (
        lambda s: put(number(s.sr).MeasuredValueSequence[0], NumericValue="2.20"),
        "shown as another than it is",
    ),
    "unit of no system": (
        lambda s: put(number(s.sr).MeasuredValueSequence[0].MeasurementUnitsCodeSequence[0], CodeValue="litres"),
        "no UCUM unit",
    ),
    "number without a value": (lambda s: put(number(s.sr), MeasuredValueSequence=[]), "a number has no value"),
    # references
    "evidence missing": (lambda s: evidence_instances(s.sr).pop(), "evidence is not what the tree refers to"),
    "evidence without a segmentation": (
        lambda s: s.sr.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence.pop(),
        "evidence is not what the tree refers to",
    ),
    "reference that leads nowhere": (
        lambda s: put(
            next(i for i in items(s.sr, "IMAGE") if name(i) == "Source").ReferencedSOPSequence[0],
            ReferencedSOPInstanceUID="1.2.3.4",
        ),
        "lead nowhere",
    ),
    "reference of another class": (
        lambda s: put(
            next(i for i in items(s.sr, "IMAGE") if name(i) == "Source").ReferencedSOPSequence[0],
            ReferencedSOPClassUID="1.2.840.10008.5.1.4.1.1.4",
        ),
        "lead nowhere or to another class",
    ),
    "segmentation of another set": (
        lambda s: put(
            next(i for i in items(s.sr, "IMAGE") if name(i) == "Referenced Segment").ReferencedSOPSequence[0],
            ReferencedSOPInstanceUID="2.25.1",
        ),
        "lead nowhere",
    ),
    "segment that does not exist": (
        lambda s: put(
            next(i for i in items(s.sr, "IMAGE") if name(i) == "Referenced Segment").ReferencedSOPSequence[0],
            ReferencedSegmentNumber=7,
        ),
        "segments that the report refers to",
    ),
    "tracking of another segment": (
        lambda s: put(s.seg.SegmentSequence[0], TrackingUID="2.25.77"),
        "differ in tracking UID",
    ),
    # viewers
    "no image library": (lambda s: drop(s.sr, "Image Library"), "no Image Library"),
    "no imaging measurements": (lambda s: drop(s.sr, "Imaging Measurements"), "no Imaging Measurements"),
    "root of another kind": (
        lambda s: put(s.sr.ConceptNameCodeSequence[0], CodeValue="126001", CodeMeaning="Oncology Measurement Report"),
        "root is no Imaging Measurement Report",
    ),
    "group without tracking identifier": (
        lambda s: drop(group(s.sr, 1), "Tracking Identifier"),
        "no Tracking Identifier",
    ),
    "group without tracking UID": (
        lambda s: drop(group(s.sr, 2), "Tracking Unique Identifier"),
        "no Tracking Unique Identifier",
    ),
    "number without a child": (lambda s: number(s.sr).__delattr__("ContentSequence"), "a number has no child"),
    "text before the code of a finding": (
        lambda s: group(s.sr, 0).ContentSequence.pop(2),
        "its first Finding is no code",
    ),
    "no referenced series": (
        lambda s: s.seg.__delattr__("ReferencedSeriesSequence"),
        "0 series are referenced at the top level",
    ),
    "source instance left out": (
        lambda s: s.seg.ReferencedSeriesSequence[0].ReferencedInstanceSequence.pop(),
        "not all those of the source",
    ),
    "empty derivation": (lambda s: put(frame(s.seg), DerivationImageSequence=[]), "does not name the one source image"),
    "derivation of a strange image": (
        lambda s: put(source(s.seg), ReferencedSOPInstanceUID="1.2.3.4"),
        "does not name the one source image",
    ),
    # geometry
    "wrong frame of reference": (lambda s: put(s.seg, FrameOfReferenceUID="1.2.3"), "Frame of Reference UID is not"),
    "frame elsewhere": (
        lambda s: put(frame(s.seg).PlanePositionSequence[0], ImagePositionPatient=["0", "0", "7"]),
        "lies elsewhere than its source image",
    ),
    "frames swapped": (
        lambda s: put(source(s.seg), ReferencedSOPInstanceUID=s.evidence[-1].SOPInstanceUID),
        "lies elsewhere than its source image",
    ),
    "wrong spacing": (
        lambda s: put(s.seg.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0], PixelSpacing=["0.7", "0.8"]),
        "PixelSpacing is not that of the source",
    ),
    "turned": (
        lambda s: put(
            s.seg.SharedFunctionalGroupsSequence[0].PlaneOrientationSequence[0],
            ImageOrientationPatient=["1", "0", "0", "0", "-1", "0"],
        ),
        "ImageOrientationPatient is not that",
    ),
    "another grid": (lambda s: put(s.seg, Rows=32), "grid is not that of the source"),
    "pixel data cut": (lambda s: put(s.seg, PixelData=s.seg.PixelData[:-8]), "Pixel Data has another length"),
    # segments
    "segment number twice": (
        lambda s: put(s.seg.SegmentSequence[1], SegmentNumber=1),
        "not numbered from 1 without gaps",
    ),
    "label longer than 64": (lambda s: put(s.seg.SegmentSequence[0], SegmentLabel="x" * 65), "longer than 64"),
    "label twice": (lambda s: put(s.seg.SegmentSequence[1], SegmentLabel="Right lung"), "share a SegmentLabel"),
    "no colour": (
        lambda s: s.seg.SegmentSequence[0].__delattr__("RecommendedDisplayCIELabValue"),
        "no display colour",
    ),
    "algorithm unnamed": (
        lambda s: s.seg.SegmentSequence[0].__delattr__("SegmentAlgorithmName"),
        "by which algorithm",
    ),
    "segment without frames": (
        lambda s: [
            put(item.SegmentIdentificationSequence[0], ReferencedSegmentNumber=1)
            for item in s.seg.PerFrameFunctionalGroupsSequence
        ],
        "frames and segments do not belong together",
    ),
    "overlap unknown": (lambda s: put(s.seg, SegmentsOverlap="UNDEFINED"), "does not say whether segments overlap"),
    "content label in small letters": (lambda s: put(s.seg, ContentLabel="lungs"), "Content Label"),
    "dimension organization of another": (
        lambda s: put(s.seg.DimensionOrganizationSequence[0], DimensionOrganizationUID="1.2.3"),
        "dimension index names another organization",
    ),
}


@pytest.mark.parametrize("findings", [lungs(), refused(), in_many_scripts()], ids=["lungs", "refusal", "scripts"])
def test_sound_set_passes(findings: object) -> None:
    result = built(findings)  # type: ignore[arg-type]
    gate.check(result.results, result.evidence)


@pytest.mark.parametrize("defect", DEFECTS)
def test_seeded_defect_is_refused_by_name(defect: str) -> None:
    result = lung_set()
    breaks, told = DEFECTS[defect]
    breaks(result)
    with pytest.raises(UnusableAnswer) as caught:
        gate.check(result.results, result.evidence)
    assert any(told in problem for problem in caught.value.facts["problems"]), caught.value.facts["problems"]


def test_there_are_at_least_twenty_defects() -> None:
    assert len(DEFECTS) >= 20


def test_set_without_a_report_is_refused() -> None:
    result = lung_set()
    with pytest.raises(UnusableAnswer, match="0 objects are sr"):
        gate.check([entry for entry in result.results if entry.kind == "seg"], result.evidence)


def test_report_without_its_segmentation_is_refused() -> None:
    result = lung_set()
    with pytest.raises(UnusableAnswer, match="lead nowhere"):
        gate.check([entry for entry in result.results if entry.kind == "sr"], result.evidence)


def test_two_objects_of_one_name_are_refused() -> None:
    result = lung_set()
    first, second = result.results
    second.dataset.SOPInstanceUID = first.dataset.SOPInstanceUID
    with pytest.raises(UnusableAnswer, match="share a SOP Instance UID"):
        gate.check([first, second], result.evidence)


def test_model_that_calls_itself_classical_is_never_built() -> None:
    described = engine(kind="classical", family=codes.ARTIFICIAL_INTELLIGENCE)
    with pytest.raises(UnusableAnswer, match="not described as AI"):
        built(lungs(), run=make_run(engine=described))


def test_classical_engine_that_calls_itself_a_model_is_never_built() -> None:
    with pytest.raises(UnusableAnswer, match="claims AI"):
        built(lungs(), run=make_run(engine=engine(kind="model")))


def test_engine_with_a_code_that_nobody_knows_is_never_built() -> None:
    strange = replace(lungs().groups[0], finding=codes.Code("1", "99XYZ", "Something"))
    with pytest.raises(UnusableAnswer, match="99XYZ"):
        built(lungs(groups=(strange,)))


def test_refusal_says_nothing_of_the_patient() -> None:
    result = lung_set()
    result.sr.PatientName = "Other^Person"
    result.sr.PatientID = "SECRET-1"
    with pytest.raises(UnusableAnswer) as caught:
        gate.check(result.results, result.evidence)
    said = str(caught.value) + str(caught.value.facts)
    assert all(word not in said for word in ("Other", "SECRET", "Quiet", "T-0001"))


def test_mixed_sources_are_refused_for_outlines() -> None:
    headers = ct_headers()
    headers[5].FrameOfReferenceUID = "1.2.3"
    with pytest.raises(UnusableAnswer, match="Frame of Reference"):
        built(lungs(), evidence=headers)


def test_node_of_the_builders_is_named() -> None:
    assert isinstance(lung_set().results[0], Result)
    assert lung_set().sr.StationName == NODE.name


def test_study_whose_uid_is_odd_is_answered_all_the_same() -> None:
    headers = ct_headers(StudyInstanceUID="1.2.003.4")
    result = built(lungs(), evidence=headers, run=make_run(study_instance_uid="1.2.003.4"))
    assert result.sr.StudyInstanceUID == "1.2.003.4"


@pytest.mark.parametrize(
    ("stray", "refused"),
    [
        (b"stream\n8;Z/JS (/AA endstream\n", False),  # encoded pixels that happen to spell a name
        (b"<< /OpenAction 3 0 R >>", True),
        (b"<< /S /JavaScript >>", True),
        (b"<< /Type /ObjStm >> stream\nhidden\nendstream", True),
    ],
)
def test_document_is_refused_for_what_it_does_and_not_for_letters_in_its_pictures(stray: bytes, refused: bool) -> None:
    content = b"%PDF-1.4\n" + stray + b"\n%%EOF\n"
    document = Dataset()
    document.EncapsulatedDocument = content + bytes(len(content) % 2)
    document.EncapsulatedDocumentLength = len(content)
    assert any("active" in problem for problem in document_problems(document, ct_headers())) is refused
