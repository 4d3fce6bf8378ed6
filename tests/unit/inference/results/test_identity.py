"""Patient and study attributes are those of the source, value for value."""

from __future__ import annotations

import io
import random

import pytest
from pydicom import Dataset, dcmread
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import RawDataElement
from pydicom.tag import Tag

from inference.results.build import keep_stored
from inference.results.identity import COPIED, NEVER_ABSENT, SourceIdentity
from tests.builders.findings import ct_headers, lungs
from tests.builders.result_sets import built, lung_set


def item(**values: object) -> Dataset:
    made = Dataset()
    for keyword, value in values.items():
        setattr(made, keyword, value)
    return made


def rich_source() -> dict[str, object]:
    """What a well kept study says of its patient and order."""
    return {
        "TimezoneOffsetFromUTC": "-0330",
        "OtherPatientIDsSequence": [item(PatientID="X-9", IssuerOfPatientID="ELSEWHERE", TypeOfPatientID="TEXT")],
        "IssuerOfPatientIDQualifiersSequence": [item(UniversalEntityID="1.2.3", UniversalEntityIDType="ISO")],
        "IssuerOfAccessionNumberSequence": [item(LocalNamespaceEntityID="RIS")],
        "PatientSize": "1.78",
        "PatientWeight": "81.5",
        "PatientComments": "none",
        "ProcedureCodeSequence": [
            item(CodeValue="CTTHX", CodingSchemeDesignator="99TEST", CodeMeaning="CT thorax, local")
        ],
        "RequestAttributesSequence": [
            item(
                RequestedProcedureID="RP1",
                ScheduledProcedureStepID="SPS1",
                RequestedProcedureDescription="CT Thorax",
                AccessionNumber="A-18",
            ),
            item(RequestedProcedureID="RP2", ScheduledProcedureStepID="SPS2"),
        ],
    }


def test_rich_source_is_copied_into_both_objects() -> None:
    source = ct_headers(**rich_source())
    result = built(lungs(), evidence=source)
    for made in (result.sr, result.seg):
        for keyword in COPIED:
            assert made.get(keyword) == source[0].get(keyword), keyword


def test_frame_of_reference_and_requests_are_copied_into_the_segmentation() -> None:
    source = ct_headers(**rich_source(), BodyPartExamined="CHEST")
    seg = built(lungs(), evidence=source).seg
    for keyword in ("FrameOfReferenceUID", "PositionReferenceIndicator", "RequestAttributesSequence"):
        assert seg[keyword].value == source[0][keyword].value
    assert seg.BodyPartExamined == "CHEST"


def test_body_part_is_not_invented() -> None:
    assert "BodyPartExamined" not in lung_set().seg


def test_requests_become_referenced_requests_of_the_report() -> None:
    first, second = built(lungs(), evidence=ct_headers(**rich_source())).sr.ReferencedRequestSequence
    assert (first.RequestedProcedureID, first.AccessionNumber) == ("RP1", "A-18")
    assert (second.RequestedProcedureID, second.AccessionNumber) == ("RP2", "A-17")
    assert second.IssuerOfAccessionNumberSequence[0].LocalNamespaceEntityID == "RIS"
    assert "FillerOrderNumberImagingServiceRequest" in second


def test_report_of_a_study_without_requests_names_none() -> None:
    assert "ReferencedRequestSequence" not in lung_set().sr


def test_procedure_of_the_source_is_the_procedure_reported() -> None:
    sr = built(lungs(), evidence=ct_headers(**rich_source())).sr
    reported = next(i for i in sr.ContentSequence if i.ConceptNameCodeSequence[0].CodeMeaning == "Procedure reported")
    assert reported.ConceptCodeSequence[0].CodeValue == "CTTHX"


def test_what_the_source_lacks_is_empty_or_absent_but_never_invented() -> None:
    source = ct_headers()
    for header in source:
        for keyword in (*NEVER_ABSENT, "IssuerOfPatientID", "PatientAge", "StudyDescription"):
            del header[keyword]
    result = built(lungs(), evidence=source)
    for made in (result.sr, result.seg):
        assert all(keyword in made and not made.get(keyword) for keyword in NEVER_ABSENT)
        assert all(keyword not in made for keyword in ("IssuerOfPatientID", "PatientAge", "StudyDescription"))


@pytest.mark.parametrize(
    ("keyword", "stored"),
    [
        ("PatientSex", b"W "),
        ("PatientBirthDate", b"1950.01.01"),
        ("PatientAge", b"76"),
        ("PatientSize", b"1,78"),
        ("PatientWeight", b"heavy "),
        ("StudyDate", b"2026-03-01"),
        ("StudyTime", b"25:61:00"),
        ("TimezoneOffsetFromUTC", b"CET "),
        ("PatientID", b"  padded  "),
        ("AccessionNumber", b"longer than sixteen characters"),
    ],
)
def test_odd_values_are_copied_as_they_were_stored(keyword: str, stored: bytes) -> None:
    source = ct_headers()
    tag = Tag(tag_for_keyword(keyword) or 0)
    for header in source:
        header[tag] = RawDataElement(tag, dictionary_VR(tag), len(stored), stored, 0, False, True)
    result = built(lungs(), evidence=source)
    for made in (result.sr, result.seg):
        assert made.get_item(tag).value.strip() == stored.strip()


def test_the_source_is_left_as_it_was() -> None:
    source = ct_headers(**rich_source())
    before = [header.to_json() for header in source]
    built(lungs(), evidence=source)
    assert [header.to_json() for header in source] == before


@pytest.mark.parametrize("seed", range(200))
def test_generated_studies_keep_every_value(seed: int) -> None:
    source = generated_source(random.Random(seed))
    read = stored_and_read(source)
    target = Dataset()
    identity = SourceIdentity(read)
    identity.put_into(target, COPIED)
    identity.write_character_set(target)
    keep_stored(target)
    made = stored_and_read(target)
    for keyword in COPIED:
        if keyword in NEVER_ABSENT and keyword not in source:
            assert not made.get(keyword)
        else:
            assert str(made.get(keyword)) == str(read.get(keyword)), keyword


ALPHABETS = {
    "ISO_IR 100": "abcXYZ \u00e4\u00f6\u00fc\u00df\u00e9\u00f1-'",
    "ISO_IR 144": "abc \u0410\u0411\u0412\u0433\u0434",
    "ISO_IR 192": "abc \u00e4\u0142\u4e2d\u6587\u0639\u0631\ud55c\u2265",
    "GB18030": "abc \u4e2d\u6587\u738b\u674e",
    "": "abc XYZ-'.",
}


def generated_source(chance: random.Random) -> Dataset:
    """A study with random values in random attributes, in a random character set."""
    charset = chance.choice(list(ALPHABETS))
    source = Dataset()
    source.StudyInstanceUID = "1.2.3"
    if charset:
        source.SpecificCharacterSet = charset

    def text(longest: int) -> str:
        letters = [chance.choice(ALPHABETS[charset]) for _ in range(chance.randint(0, longest))]
        return "".join(letters).strip()

    for keyword in COPIED:
        vr = dictionary_VR(tag_for_keyword(keyword) or 0)
        if chance.random() < 0.5 or keyword == "StudyInstanceUID":
            continue
        if vr in ("LO", "LT", "ST", "UT", "SH"):
            setattr(source, keyword, text(12 if vr == "SH" else 30))
        elif vr == "PN":
            setattr(source, keyword, "^".join(text(8) or "x" for _ in range(chance.randint(1, 3))))
        elif keyword in ("OtherPatientIDsSequence", "IssuerOfPatientIDQualifiersSequence"):
            setattr(source, keyword, [item(PatientID=text(10), IssuerOfPatientID=text(10))])
    return source


def stored_and_read(dataset: Dataset) -> Dataset:
    content = io.BytesIO()
    dataset.save_as(content, implicit_vr=False, little_endian=True)
    content.seek(0)
    return dcmread(content, force=True)
