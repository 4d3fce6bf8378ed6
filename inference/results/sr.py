"""Findings as an Imaging Measurement Report, TID 1500: one tree as Comprehensive 3D, Comprehensive or Enhanced SR.

The tree is that of results-objects section 4. Its groups are made in `sr_groups`.
"""

from __future__ import annotations

from typing import cast

from highdicom.sr import (
    CodedConcept,
    ContentItem,
    DeviceObserverIdentifyingAttributes,
    LanguageOfContentItemAndDescendants,
    MeasurementReport,
    ObservationContext,
    ObserverContext,
)
from pydicom import Dataset

from inference.findings import Findings
from inference.results import codes, words
from inference.results.elements import code_of, items_of, text_of
from inference.results.evidence import Evidence
from inference.results.forms import CANONICAL, MEASUREMENT_REPORTS, Form
from inference.results.references import evidence_items, image_library
from inference.results.run import (
    NodeIdentity,
    Predecessor,
    Run,
    observer_uid,
    result_uid,
    series_number,
    series_uid,
)
from inference.results.sr_groups import measurement_groups


def make_sr(
    findings: Findings,
    evidence: Evidence,
    run: Run,
    node: NodeIdentity,
    seg: Dataset | None,
    form: Form = CANONICAL,
) -> Dataset:
    """Make the report of one run.

    Parameters
    ----------
    evidence
        Headers of all used (or, for a refusal, considered) instances.
    seg
        The segmentation of the same set; None: the set outlines nothing.
    form
        Its report names the SOP Class. Only Comprehensive 3D holds places in the patient; the others say them in words.

    Returns
    -------
    Dataset
        Without the source's identity, times and character set, which `build` puts in.
    """
    report = MeasurementReport(
        observation_context=observation_context(node),
        procedure_reported=codes_of_procedure(evidence[0]),
        imaging_measurements=measurement_groups(findings, evidence, run, seg, form),
        language_of_content_item_and_descendants=LanguageOfContentItemAndDescendants(codes.concept(codes.ENGLISH)),
    )
    references = [*evidence.instances, seg] if seg is not None else evidence.instances
    refused = findings.refusal is not None
    document = Dataset()
    document.update(report[0])
    content = report[0].ContentSequence
    document.ContentSequence = [*content[:-1], image_library(evidence.instances), content[-1]]
    separate(document)
    document.SOPClassUID = MEASUREMENT_REPORTS[form.report]
    document.SOPInstanceUID = result_uid(run.run_key, str(form), "sr")
    document.SeriesInstanceUID = series_uid(run.study_instance_uid, run.engine.name, "sr", str(form))
    document.Modality = "SR"
    document.SeriesNumber = series_number(run, "sr")
    document.SeriesDescription = words.description(run.engine, "sr", refused=refused)
    document.InstanceNumber = run.revision
    completion(document, refused=refused)
    document.CurrentRequestedProcedureEvidenceSequence = evidence_items(references)
    previous_documents(document, run)
    return document


def completion(document: Dataset, *, refused: bool) -> None:
    """Say that a report is a draft that nobody verified, and whether it is an answer.

    Source: PS3.3 C.17.2 (SR Document General).
    """
    document.CompletionFlag = "PARTIAL" if refused else "COMPLETE"
    if refused:
        document.CompletionFlagDescription = "Not analysed"
    document.VerificationFlag = "UNVERIFIED"
    document.PreliminaryFlag = "PRELIMINARY"
    document.ReferencedPerformedProcedureStepSequence = []
    document.PerformedProcedureCodeSequence = []


def previous_documents(document: Dataset, run: Run) -> None:
    """Name the report that this one replaces."""
    if run.predecessor is not None:
        document.PredecessorDocumentsSequence = evidence_items([_previous(run, run.predecessor)])


def language_item() -> ContentItem:
    """Language of the document (TID 1204)."""
    return cast(ContentItem, LanguageOfContentItemAndDescendants(codes.concept(codes.ENGLISH))[0])


def separate(item: Dataset) -> None:
    """Mark containers as lists of separate items: renderers run the text of continuous ones together."""
    if item.ValueType == "CONTAINER":
        item.ContinuityOfContent = "SEPARATE"
        for child in item.ContentSequence:
            separate(child)


def codes_of_procedure(source: Dataset) -> list[CodedConcept]:
    """Codes of the imaging procedure: those of the source, else a generic one of its modality."""
    found = []
    for item in items_of(source, "ProcedureCodeSequence"):
        code = code_of(item)
        if code is not None and code not in found:
            found.append(code)
    if not found:
        found = [codes.PROCEDURE_OF_MODALITY.get(text_of(source, "Modality"), codes.IMAGING_PROCEDURE)]
    return [codes.concept(code) for code in found]


def observation_context(node: NodeIdentity) -> ObservationContext:
    """Say that this node is the observer (TID 1001)."""
    return ObservationContext(observer_device_context=device_context(node))


def device_context(node: NodeIdentity) -> ObserverContext:
    """Who this node is as a device observer (TID 1004)."""
    device = DeviceObserverIdentifyingAttributes(
        uid=observer_uid(node),
        name=node.name,
        manufacturer_name=node.manufacturer,
        model_name=node.model_name,
        serial_number=node.serial_number,
    )
    kind = CodedConcept("121007", "DCM", "Device")
    return ObserverContext(kind, device)


def _previous(run: Run, before: Predecessor) -> Dataset:
    header = Dataset()
    header.StudyInstanceUID = run.study_instance_uid
    header.SeriesInstanceUID = before.series_instance_uid
    header.SOPInstanceUID = before.sop_instance_uid
    header.SOPClassUID = before.sop_class_uid
    return header
