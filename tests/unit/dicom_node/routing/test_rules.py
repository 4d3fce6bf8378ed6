from __future__ import annotations

from typing import Any

import pytest
from pydicom import Dataset
from pydicom.dataelem import RawDataElement
from pydicom.sequence import Sequence
from pydicom.tag import Tag

from dicom_node.routing.facts import attribute_of
from dicom_node.routing.rules import SHOWN, evaluate
from storage.records import RouteOutcome
from tests.builders.studies import make_facts, make_header, make_route, make_sender


def ask(when: Any, header: Dataset | None = None) -> tuple[bool, str]:
    outcome = evaluate([make_route(when)], make_facts(header or make_header())).outcomes[0]
    return outcome.matched, outcome.reason


@pytest.mark.parametrize(
    "when",
    [
        {"Modality": "CT"},
        {"Modality": "ct"},
        {"Modality": ["MR", "CT"]},
        {"Modality": "C?"},
        {"SliceThickness": 1.25},
        {"SliceThickness": "1.25"},
        {"SliceThickness": [5, 1.25]},
        {"SliceThickness": {"max": 1.25}},
        {"SliceThickness": {"min": 1.25, "max": 5}},
        {"ImageType": "AXIAL"},
        {"ImageType": {"has": "ax*"}},
        {"ContrastBolusAgent": {"present": False}},
        {"SliceThickness": {"present": True}},
        {"sender": "ct1"},
        {"calling_ae_title": "CT*"},
        {"called_ae_title": "DICOMNODE"},
        {"PatientID": "TEST-*"},
        {"not": {"ImageType": {"has": "LOCALIZER"}}},
        {"Modality": {"matches": "^c[tr]$"}},
        {"ImageType": {"matches": "xia"}},
        {"any": [{"Modality": "MR"}, {"Modality": "CT"}]},
        {"all": []},
        {"all": [{"Modality": "CT"}, {"not": {"any": [{"Modality": "MR"}]}}]},
    ],
)
def test_a_rule_holds(when: Any) -> None:
    assert ask(when) == (True, "Matches 1 of 1 series.")


@pytest.mark.parametrize(
    ("when", "reason"),
    [
        ({"Modality": "MR"}, "Modality is CT, the rule asks for MR."),
        ({"Modality": ["MR", "PT"]}, "Modality is CT, the rule asks for MR or PT."),
        ({"SliceThickness": {"max": 1}}, "SliceThickness is 1.250, the rule asks for at most 1."),
        (
            {"SliceThickness": {"min": 2, "max": 3}},
            "SliceThickness is 1.250, the rule asks for at least 2 and at most 3.",
        ),
        ({"SpacingBetweenSlices": {"max": 5}}, "SpacingBetweenSlices is absent."),
        ({"SliceThickness": {"present": False}}, "SliceThickness is present."),
        (
            {"ImageType": {"has": "LOCALIZER"}},
            "ImageType is ORIGINAL\\PRIMARY\\AXIAL, the rule asks for LOCALIZER among them.",
        ),
        ({"not": {"Modality": "CT"}}, "Modality is CT, which the rule excludes."),
        ({"calling_ae_title": "MR*"}, "calling_ae_title is CT1, the rule asks for MR*."),
        (
            {"any": [{"Modality": "MR"}, {"KVP": 120}]},
            "Modality is CT, the rule asks for MR and KVP is absent.",
        ),
        ({"Modality": {"matches": "^m"}}, "Modality is CT, the rule asks for what matches ^m."),
        ({"KVP": {"matches": "."}}, "KVP is absent."),
        ({"any": []}, "the list of any is empty."),
        (
            {"all": [{"Modality": "CT"}, {"BodyPartExamined": "CHEST"}, {"KVP": 120}]},
            "BodyPartExamined is absent.",
        ),
        ({"Modality": "[C]T"}, "Modality is CT, the rule asks for [C]T."),
        ({"Modality": float("nan")}, "Modality is CT, the rule asks for nan."),
    ],
)
def test_the_first_term_that_fails_is_named_with_the_value_found(when: Any, reason: str) -> None:
    assert ask(when) == (False, reason)


@pytest.mark.parametrize(
    "when",
    [
        {"PatientName": "Test^Loud"},
        {"PatientID": "4711"},
        {"not": {"PatientName": "Test*"}},
        {"PatientID": {"min": 3}},
        {"PatientName": {"has": "nobody"}},
        {"StudyDescription": "chest"},
        {"StudyDescription": {"matches": "chest|4711"}},
    ],
)
def test_reasons_hold_no_patient_data(when: Any) -> None:
    matched, reason = ask(when, make_header(StudyDescription="Test^Quiet, follow-up"))
    assert not matched
    assert "Quiet" not in reason
    assert "TEST-1" not in reason
    assert "4711" not in reason


def test_no_shown_attribute_is_of_a_person() -> None:
    words = ("Patient", "Physician", "Operator", "Date", "Time", "Description", "Comments", "Institution")
    harmless = {"PatientPosition", "EchoTime", "RepetitionTime"}
    assert not [name for name in SHOWN - harmless if any(word in name for word in words)]


def test_every_value_must_lie_within_the_bounds() -> None:
    header = make_header(PixelSpacing=["0.5", "2"])
    assert not ask({"PixelSpacing": {"max": 1}}, header)[0]
    assert ask({"PixelSpacing": {"max": 2}}, header)[0]
    assert ask({"PixelSpacing": 2}, header)[0]


def test_a_long_or_unprintable_value_is_clipped() -> None:
    header = make_header()
    header.add(RawDataElement(Tag("Modality"), "CS", 80, b"\x1b[2J" + b"A" * 76, 0, False, True))
    reason = ask({"Modality": "CT"}, header)[1]
    assert "\x1b" not in reason
    assert "A" * 60 + "..." in reason


def test_unreadable_sequence_and_empty_values_never_fail() -> None:
    header = make_header(StudyID="", RequestAttributesSequence=Sequence([Dataset()]))
    header.add(RawDataElement(Tag("KVP"), "FD", 3, b"\x00\x01\x02", 0, False, True))
    assert ask({"KVP": 120}, header) == (False, "KVP has no value that can be compared.")
    assert ask({"RequestAttributesSequence": "x"}, header)[1].endswith("no value that can be compared.")
    assert ask({"RequestAttributesSequence": {"present": True}}, header)[0]
    assert ask({"StudyID": "x"}, header) == (False, "StudyID is absent.")
    assert not attribute_of(header, "StudyID").present


def test_numbers_of_python_are_no_numbers_of_dicom() -> None:
    assert not ask({"StationName": 1000}, make_header(StationName="1_000"))[0]
    assert not ask({"StationName": {"min": 1}}, make_header(StationName="inf"))[0]
    assert ask({"StationName": 7}, make_header(StationName="007"))[0]
    assert not ask({"StationName": "7"}, make_header(StationName="007"))[0]


def test_a_series_whose_header_cannot_be_read_matches_no_attribute() -> None:
    outcome = evaluate([make_route({"Modality": "CT"})], make_facts(None)).outcomes[0]
    assert outcome.reason == "Modality is absent."


def test_a_job_gets_the_series_that_match() -> None:
    facts = make_facts(make_header(Modality="SR"), make_header(), make_header(SliceThickness="5"), make_header())
    evaluation = evaluate([make_route({"all": [{"Modality": "CT"}, {"SliceThickness": {"max": 2}}]})], facts)
    assert evaluation.matches[0].series_instance_uids == ("1.2", "1.4")
    assert evaluation.outcomes[0].reason == "Matches 2 of 4 series."


def test_terms_of_one_rule_must_hold_for_the_same_series() -> None:
    facts = make_facts(make_header(SliceThickness="5"), make_header(Modality="MR"))
    rule = make_route({"all": [{"Modality": "CT"}, {"SliceThickness": {"max": 2}}]})
    outcome = evaluate([rule], facts).outcomes[0]
    assert not outcome.matched
    assert "SliceThickness is 5, the rule asks for at most 2 (1 series)" in outcome.reason
    assert "Modality is MR, the rule asks for CT (1 series)" in outcome.reason


def test_first_matching_rule_of_each_engine() -> None:
    rules = [
        make_route({"Modality": "MR"}, name="a"),
        make_route({"Modality": "CT"}, name="b"),
        make_route({"Modality": "CT"}, name="c"),
        make_route({"Modality": "CT"}, name="d", engine="medversa"),
    ]
    evaluation = evaluate(rules, make_facts(make_header()))
    assert [match.route.name for match in evaluation.matches] == ["b", "d"]
    assert evaluation.outcomes[2] == RouteOutcome(
        "c", "classical-lung", matched=False, reason='Not tried: rule "b" already gives this study to classical-lung.'
    )


def test_any_of_several_senders_may_be_meant() -> None:
    facts = make_facts(make_header(), senders=(make_sender("ct1"), make_sender("pacs")))
    assert evaluate([make_route({"sender": "pacs"})], facts).matches
    assert not evaluate([make_route({"sender": "ct2"})], facts).matches


def test_many_kinds_of_failure_are_summed_up() -> None:
    facts = make_facts(*[make_header(Modality=modality) for modality in ("MR", "PT", "US", "XA", "CR")])
    assert evaluate([make_route({"Modality": "CT"})], facts).outcomes[0].reason.endswith("; 2 further reasons.")


def test_an_expression_that_others_take_for_ever_over_is_answered_at_once() -> None:
    # (a+)+$ against a long run of a and one b: exponential for engines that go back, linear here.
    header = make_header(SeriesDescription="a" * 20_000 + "b")
    assert ask({"SeriesDescription": {"matches": "(a+)+$"}}, header)[0] is False
    assert ask({"SeriesDescription": {"matches": "(a+)+b$"}}, header)[0] is True
