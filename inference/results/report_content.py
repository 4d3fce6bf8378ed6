"""What a page says, apart from how it is drawn: one content for the summary page and the PDF."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from pydicom import Dataset

from inference.findings import Findings, MeasurementGroup
from inference.results import words
from inference.results.basic_text import figure_said, observed_said
from inference.results.charset import quietly
from inference.results.drawing import drawable
from inference.results.elements import text_of
from inference.results.evidence import Evidence
from inference.results.places import said_in_words
from inference.results.run import Run, object_time
from inference.results.sr_groups import revision

#: What stands instead of a text that the letters at hand cannot show: nothing is damaged silently.
NOT_DRAWABLE = "(in letters that this page cannot show; see the attributes of this object)"
TITLES = {"classical": "classical image analysis, not AI", "model": "AI"}


@dataclass(frozen=True)
class PageContent:
    """One report, in reading order."""

    title: str
    warning: str
    identity: tuple[tuple[str, str], ...]
    """Name and value: patient, study, order."""
    summary: str
    rows: tuple[tuple[str, str], ...]
    """Structure, and what was measured or withheld."""
    narrative: tuple[str, ...]
    provenance: tuple[tuple[str, str], ...]


def page_content(findings: Findings, evidence: Evidence, run: Run) -> PageContent:
    """Gather what a page says."""
    source = evidence[0]
    with quietly():
        identity = tuple((name, _shown(value)) for name, value in _identity(source))
    replaced = revision(run, source)
    return PageContent(
        title=f"{run.engine.title} report" if findings.refusal is None else "Not analysed",
        warning=f"{words.MARK} USE - not verified by a physician - not for diagnosis",
        identity=identity,
        summary=words.cleaned(" ".join(filter(None, (findings.summary, replaced)))),
        rows=tuple((what, words.cleaned(said)) for what, said in _rows(findings, evidence)),
        narrative=tuple(words.cleaned(text) for text in findings.narrative),
        provenance=tuple(_provenance(source, run)),
    )


def _identity(source: Dataset) -> Iterator[tuple[str, str]]:
    yield "Patient", text_of(source, "PatientName").replace("^", " ").strip()
    yield "Patient ID", text_of(source, "PatientID")
    yield "Born, sex", ", ".join(filter(None, (_date(source, "PatientBirthDate"), text_of(source, "PatientSex"))))
    yield "Study", ", ".join(filter(None, (_date(source, "StudyDate"), text_of(source, "StudyDescription"))))
    yield "Accession number", text_of(source, "AccessionNumber")


def _shown(value: str) -> str:
    said = words.cleaned(value)
    return said if drawable(said) else NOT_DRAWABLE


def _date(source: Dataset, keyword: str) -> str:
    said = text_of(source, keyword)
    return f"{said[:4]}-{said[4:6]}-{said[6:]}" if len(said) == 8 and said.isdigit() else said


def _rows(findings: Findings, evidence: Evidence) -> Iterator[tuple[str, str]]:
    for one in findings.observed:
        yield one.finding.meaning, observed_said(one)
    for group in findings.groups:
        yield from ((_structure(group), said) for said in _said(group, evidence))


def _structure(group: MeasurementGroup) -> str:
    return group.finding.meaning + (f", {group.laterality.meaning.lower()}" if group.laterality else "")


def _said(group: MeasurementGroup, evidence: Evidence) -> Iterator[str]:
    for figure in group.measurements:
        yield figure_said(figure)
    for withheld in group.not_computed:
        yield f"{withheld.name.meaning}: not computed: {withheld.reason}"
    for answer in group.qualitative:
        yield f"{answer.name.meaning}: {answer.value.meaning}"
    if group.location is not None:
        yield said_in_words(group.location, evidence)


def _provenance(source: Dataset, run: Run) -> Iterator[tuple[str, str]]:
    engine = run.engine
    moment = object_time(run.analysed_at, source_offset=text_of(source, "TimezoneOffsetFromUTC"), zone=run.timezone)
    yield "Made by", f"{engine.name} {engine.version} ({TITLES[engine.kind]})"
    yield "Analysed", moment.strftime("%Y-%m-%d %H:%M %z")
    yield "Revision", str(run.revision)
    if engine.parameters:
        yield "Parameters", ", ".join(f"{name}={value}" for name, value in engine.parameters)
    yield "Digest", engine.digest
    yield "Run", run.run_key
