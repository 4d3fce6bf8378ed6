"""`rules try`: what the rules would say."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.builders.ct import encode, make_ct_instance
from tests.unit.dicom_node.cli.conftest import Run

ROUTES = """routes:
  - {name: thin, engine: classical-lung, when: {all: [{Modality: CT}, {SliceThickness: {max: 1}}]}}
  - {name: chest, engine: classical-lung, when: {Modality: CT}, priority: stat}
  - {name: from-mr, engine: medversa, when: {calling_ae_title: "MR*"}, deliver_to: [sender]}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two series of one study, a report, and what is no DICOM."""
    made = tmp_path / "study"
    (made / "deep").mkdir(parents=True)
    for number in range(1, 13):
        (made / f"a{number}").write_bytes(encode(make_ct_instance(number, SliceThickness="1.25")))
    (made / "deep" / "b").write_bytes(encode(make_ct_instance(1, series=2, Modality="MR")))
    (made / "report").write_bytes(encode(make_ct_instance(1, series=3, Modality="SR")))
    (made / "README").write_text("no DICOM")
    return made


@pytest.fixture
def routes(tmp_path: Path) -> Path:
    path = tmp_path / "candidate.yaml"
    path.write_text(ROUTES)
    return path


def test_each_rule_says_of_each_series_which_term_failed(run: Run, folder: Path, routes: Path) -> None:
    said = run("rules", "try", str(folder), "--routes", str(routes), "--calling", "MR1")
    assert said.status == 0, said.err
    assert said.out.splitlines()[1:] == [
        "no       thin -> classical-lung: SliceThickness is 1.25, the rule asks for at most 1 (1 series); "
        "Modality is MR, the rule asks for CT (1 series).",
        "    series 1 (12 images): fails: SliceThickness is 1.25, the rule asks for at most 1.",
        "    series 2 (1 images): fails: Modality is MR, the rule asks for CT.",
        "MATCHES  chest -> classical-lung: Matches 1 of 2 series.",
        "    series 1 (12 images): holds: Modality is CT.",
        "    series 2 (1 images): fails: Modality is MR, the rule asks for CT.",
        "    then: classical-lung reads series 1. Results are kept here only. Urgency: stat.",
        "MATCHES  from-mr -> medversa: Matches 2 of 2 series.",
        "    series 1 (12 images): holds: calling_ae_title is MR1.",
        "    series 2 (1 images): holds: calling_ae_title is MR1.",
        "    then: medversa is not installed or not enabled; the study would wait for it. Results are kept here only.",
    ]


def test_programs_read_it_as_json(run: Run, folder: Path, routes: Path) -> None:
    (tried,) = json.loads(run("rules", "try", str(folder), "--routes", str(routes), "--json").out)
    assert [rule["matched"] for rule in tried["rules"]] == [False, True, False]
    assert tried["rules"][1]["series"][0]["holds"] is True


def test_a_series_that_the_engine_would_decline_is_told_beforehand(run: Run, folder: Path, routes: Path) -> None:
    for path in folder.glob("a*"):
        path.write_bytes(encode(make_ct_instance(int(path.name[1:]), ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])))
    said = run("rules", "try", str(folder), "--routes", str(routes))
    assert "then: classical-lung would decline: no series can be read (series 1: a localiser)." in said.out


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("1.2.3",), "There is no folder 1.2.3, and no study with this UID or accession number is kept here."),
        (("empty",), "empty holds no DICOM image."),
    ],
)
def test_what_cannot_be_tried_is_said(
    run: Run, started: Path, tmp_path: Path, words: tuple[str, ...], why: str
) -> None:
    (tmp_path / "empty").mkdir()
    said = run("rules", "try", *words)
    assert (said.status, said.err.strip()) == (1, why)


def test_a_bad_file_of_rules_is_named_with_its_path(run: Run, folder: Path, routes: Path) -> None:
    routes.write_text("routes: [{name: a, engine: medversa, when: {Modality: {mtches: x}}}]")
    said = run("rules", "try", str(folder), "--routes", str(routes))
    assert said.status == 1
    assert "candidate.yaml: routes[0].when: when.Modality: unknown operator" in said.err
