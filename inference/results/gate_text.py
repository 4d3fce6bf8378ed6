"""What a report as text must be before it is kept."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pydicom import Dataset

from inference.results import codes, words
from inference.results.elements import items_of
from inference.results.gate_report import concept_value, listed_evidence, standing_problems, told_references, tree

#: Value types of a Basic Text SR. Source: PS3.3 A.35.1.3.1 (no NUM, no coordinates).
_ALLOWED = frozenset(
    ("TEXT", "CODE", "DATETIME", "DATE", "TIME", "UIDREF", "PNAME", "COMPOSITE", "IMAGE", "WAVEFORM", "CONTAINER")
)


def text_problems(sr: Dataset, evidence: Sequence[Dataset]) -> Iterator[str]:
    """Name every broken rule of a Basic Text SR."""
    yield from standing_problems(sr)
    if concept_value(sr) != codes.DIAGNOSTIC_IMAGING_REPORT.value:
        yield "the root is no Diagnostic Imaging Report"
    templates = items_of(sr, "ContentTemplateSequence")
    if not any((item.get("TemplateIdentifier"), item.get("MappingResource")) == ("2000", "DCMR") for item in templates):
        yield "the root names no template 2000"
    for item in tree(sr):
        if item.get("ValueType") not in _ALLOWED:
            yield f"{item.get('ValueType')} is no value type of Basic Text SR"
    yield from _summary(sr)
    known = {str(header.SOPInstanceUID): str(header.SOPClassUID) for header in evidence}
    told = told_references(sr)
    if listed_evidence(sr) != told:
        yield "the evidence is not what the tree refers to"
    if not told.items() <= known.items():
        yield "a reference leads nowhere or to another class"


def _summary(sr: Dataset) -> Iterator[str]:
    """The first text is the summary."""
    first = next((str(item.get("TextValue", "")) for item in tree(sr) if _is_line(item)), "")
    refused = sr.get("SeriesDescription") == words.REFUSED
    beginning = words.SUMMARY_OF_CLASSICAL
    if words.claims_ai(str(sr.get("SeriesDescription", ""))):
        beginning = words.SUMMARY_OF_MODEL
    if not first.startswith(words.SUMMARY_OF_REFUSAL if refused else beginning):
        yield "the summary does not begin with the words of its kind"


def _is_line(item: Dataset) -> bool:
    return item.get("ValueType") == "TEXT" and concept_value(item) == codes.FINDING.value
