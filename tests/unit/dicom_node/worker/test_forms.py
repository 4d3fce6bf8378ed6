from __future__ import annotations

from dataclasses import replace

import pytest

from configs.peers import DeliverByDimse
from dicom_node.worker.forms import destinations_by_form, forms_of
from inference.findings import Findings
from inference.results.forms import OUTLINES_CLASS, REPORT_CLASS
from tests.builders.findings import lungs, marked, refused
from tests.builders.studies import make_peer

SEG, SR3D = OUTLINES_CLASS["binary"], REPORT_CLASS["comprehensive-3d"]
CAPTURES = [OUTLINES_CLASS["capture"]]


@pytest.mark.parametrize(
    ("said", "forms"),
    [
        ({}, ["binary+comprehensive-3d"]),
        ({"send": ["sr"]}, ["none+comprehensive-3d"]),
        ({"send": ["seg"]}, ["binary+none"]),
        ({"outlines": "labelmap", "report": "enhanced"}, ["labelmap+enhanced"]),
        ({"send": ["summary"]}, ["none+summary"]),
        (
            {"send": ["seg", "sr", "text", "capture", "summary", "pdf"]},
            ["binary+comprehensive-3d", "none+basic-text", "capture+none", "none+summary", "none+pdf"],
        ),
    ],
)
def test_a_destination_gets_the_sets_that_its_entry_asks_for(said: dict[str, object], forms: list[str]) -> None:
    assert [str(form) for form in forms_of(DeliverByDimse.model_validate(said))] == forms


@pytest.mark.parametrize(
    ("said", "refused", "form"),
    [
        ({}, {SEG}, "capture+comprehensive-3d"),
        ({}, {SR3D}, "binary+comprehensive"),
        ({}, {SEG, SR3D, *CAPTURES}, "none+comprehensive"),
        ({"outlines": "labelmap"}, {OUTLINES_CLASS["labelmap"]}, "binary+comprehensive-3d"),
        ({"outlines": ["binary"]}, {SEG}, "none+comprehensive-3d"),
        ({"report": ["comprehensive-3d", "pdf"]}, {SR3D}, "binary+pdf"),
        ({"send": ["sr"], "report": "summary"}, {REPORT_CLASS["summary"]}, "none+summary"),
        ({"send": ["seg"]}, {SEG, *CAPTURES}, "binary+none"),
    ],
)
def test_what_a_destination_is_known_not_to_take_is_passed_over_and_tried_again_where_nothing_is_left(
    said: dict[str, object], refused: set[str], form: str
) -> None:
    assert str(forms_of(DeliverByDimse.model_validate(said), refused)[0]) == form


def peers(**send: list[str]) -> dict[str, object]:
    return {name: make_peer(host="127.0.0.1", port=104, deliver={"send": words}) for name, words in send.items()}


def by_form(findings: Findings, **send: list[str]) -> dict[str, tuple[str, ...]]:
    found = destinations_by_form(list(send), peers(**send), findings)  # type: ignore[arg-type]
    return {str(form): names for form, names in found.items()}


def test_destinations_that_take_the_same_set_share_it() -> None:
    assert by_form(lungs(), pacs=["sr", "seg"], archive=["seg", "sr"], ward=["pdf"]) == {
        "binary+comprehensive-3d": ("pacs", "archive"),
        "none+pdf": ("ward",),
    }


def test_sets_that_would_be_empty_are_not_asked_for() -> None:
    assert by_form(refused(), pacs=["seg"], ward=["capture", "text"]) == {"none+basic-text": ("ward",)}


def test_marks_alone_are_worth_a_picture_and_no_segmentation() -> None:
    only_marks = replace(marked(), segments=())
    assert by_form(only_marks, pacs=["seg"], ward=["capture"]) == {"capture+none": ("ward",)}


def test_destination_that_is_not_listed_is_asked_to_take_the_canonical_set() -> None:
    assert {str(form): names for form, names in destinations_by_form(["gone"], {}, lungs()).items()} == {
        "binary+comprehensive-3d": ("gone",)
    }
