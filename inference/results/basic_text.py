"""Findings as a Basic Text SR: what readers see whose PACS shows no measurement report.

Source: PS3.16 TID 2000 (Basic Diagnostic Imaging Report), PS3.3 A.35.1.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from highdicom.sr import (
    CodeContentItem,
    CodedConcept,
    ContainerContentItem,
    ContentItem,
    ContentSequence,
    ImageContentItem,
    RelationshipTypeValues,
    TextContentItem,
)
from pydicom import Dataset

from inference.findings import Code, Findings, Measurement, MeasurementGroup, Observed
from inference.results import codes, words
from inference.results.evidence import Evidence
from inference.results.forms import BASIC_TEXT_SR, Form
from inference.results.key_images import key_images
from inference.results.places import said_in_words
from inference.results.references import evidence_items
from inference.results.run import NodeIdentity, Run, result_uid, series_number, series_uid
from inference.results.sr import (
    codes_of_procedure,
    completion,
    language_item,
    observation_context,
    previous_documents,
    separate,
)
from inference.results.sr_groups import UNCALIBRATED, revision

_CONTAINS = RelationshipTypeValues.CONTAINS
_MODIFIER = RelationshipTypeValues.HAS_CONCEPT_MOD


def make_basic_text(findings: Findings, evidence: Evidence, run: Run, node: NodeIdentity, form: Form) -> Dataset:
    """Make the report of one run as text.

    Parameters
    ----------
    evidence
        Headers of all used (or, for a refusal, considered) instances, in the order of the masks' slices.

    Returns
    -------
    Dataset
        Without the source's identity, times and character set, which `build` puts in.
    """
    shown = [(evidence[image.index], evidence.frame_numbers[image.index]) for image in key_images(findings, evidence)]
    root = ContainerContentItem(
        codes.concept(codes.DIAGNOSTIC_IMAGING_REPORT), is_content_continuous=False, template_id="2000"
    )
    root.ContentSequence = ContentSequence(list(_content(findings, evidence, shown, run, node)))
    separate(root)
    document = Dataset()
    document.update(root)
    document.SOPClassUID = BASIC_TEXT_SR
    document.SOPInstanceUID = result_uid(run.run_key, str(form), "text")
    document.SeriesInstanceUID = series_uid(run.study_instance_uid, run.engine.name, "text", str(form))
    document.Modality = "SR"
    document.SeriesNumber = series_number(run, "text")
    document.SeriesDescription = words.description(run.engine, "text", refused=findings.refusal is not None)
    document.InstanceNumber = run.revision
    completion(document, refused=findings.refusal is not None)
    document.CurrentRequestedProcedureEvidenceSequence = evidence_items(header for header, _ in shown)
    previous_documents(document, run)
    return document


def said_lines(findings: Findings, evidence: Sequence[Dataset]) -> Iterator[str]:
    """Say all findings in sentences, one a line: what was looked for, numbers with their units, what was withheld."""
    for one in findings.observed:
        yield _observed_line(one)
    for group in findings.groups:
        yield from _group_lines(group, evidence)


def _content(
    findings: Findings, evidence: Evidence, shown: Sequence[tuple[Dataset, int | None]], run: Run, node: NodeIdentity
) -> Iterator[ContentItem]:
    yield language_item()
    for code in codes_of_procedure(evidence[0]):
        yield _coded(codes.PROCEDURE_REPORTED, code)
    yield from observation_context(node)
    replaced = revision(run, evidence[0])
    first = [findings.summary, *([replaced] if replaced else [])]
    lines = [*first, *said_lines(findings, evidence)]
    yield _section(codes.FINDINGS, codes.FINDING, lines)
    if findings.narrative:
        yield _section(codes.IMPRESSIONS, codes.IMPRESSION, findings.narrative)
    images = ContainerContentItem(codes.concept(codes.KEY_IMAGES), relationship_type=_CONTAINS)
    images.ContentSequence = ContentSequence([_image(header, number) for header, number in shown])
    yield images


def _section(title: Code, name: Code, lines: Sequence[str]) -> ContainerContentItem:
    section = ContainerContentItem(codes.concept(title), relationship_type=_CONTAINS)
    section.ContentSequence = ContentSequence(
        [TextContentItem(codes.concept(name), words.cleaned(line), _CONTAINS) for line in lines]
    )
    return section


def _image(header: Dataset, frame_number: int | None) -> ImageContentItem:
    return ImageContentItem(
        codes.concept(codes.SOURCE),
        header.SOPClassUID,
        header.SOPInstanceUID,
        referenced_frame_numbers=None if frame_number is None else [frame_number],
        relationship_type=_CONTAINS,
    )


def _coded(name: Code, value: CodedConcept) -> ContentItem:
    return CodeContentItem(codes.concept(name), value, _MODIFIER)


def _observed_line(one: Observed) -> str:
    what = one.finding.meaning + (f", {one.laterality.meaning.lower()}" if one.laterality else "")
    return f"{what}: {observed_said(one)}"


def observed_said(one: Observed) -> str:
    """Say whether something is there, and the engine's score."""
    score = "" if one.score is None else f" (score {one.score:.2f}; {UNCALIBRATED.rstrip('.').lower()})"
    return f"{one.presence}{score}."


def _group_lines(group: MeasurementGroup, evidence: Sequence[Dataset]) -> Iterator[str]:
    side = f", {group.laterality.meaning.lower()}" if group.laterality else ""
    what = f"{group.finding.meaning}{side}"
    for figure in group.measurements:
        yield f"{what}: {figure_said(figure)}"
    for withheld in group.not_computed:
        yield f"{what}: {withheld.name.meaning} not computed: {withheld.reason}"
    for answer in group.qualitative:
        yield f"{what}: {answer.name.meaning}: {answer.value.meaning}."
    if group.location is not None:
        yield f"{what}: {said_in_words(group.location, evidence)}"


def figure_said(figure: Measurement) -> str:
    """Say a number with its unit, what it stands for, and its caution."""
    name = f"{figure.derivation.meaning} {figure.name.meaning}" if figure.derivation else figure.name.meaning
    unit = {"[hnsf'U]": "HU", "1": "", "{ratio}": ""}.get(figure.unit.value, figure.unit.value)
    shown = f"{name} {figure.value:.{codes.decimals(figure.unit)}f} {unit}".strip()
    return f"{shown}. {figure.caution}".strip()
