"""Findings as a Comprehensive 3D SR: Imaging Measurement Report, TID 1500.

The tree is that of results-objects section 4. The first text that a reader meets in the measurements is
the findings' own summary; what was not computed stands there with its reason; each number says by which
algorithm it was made.
"""

from __future__ import annotations

from collections.abc import Sequence

from highdicom.sr import (
    AlgorithmIdentification,
    CodedConcept,
    ContentItem,
    DeviceObserverIdentifyingAttributes,
    FindingSite,
    LanguageOfContentItemAndDescendants,
    Measurement,
    MeasurementReport,
    MeasurementsAndQualitativeEvaluations,
    ObservationContext,
    ObserverContext,
    QualitativeEvaluation,
    ReferencedSegment,
    RelationshipTypeValues,
    SourceSeriesForSegmentation,
    TextContentItem,
    TrackingIdentifier,
    VolumetricROIMeasurementsAndQualitativeEvaluations,
)
from pydicom import Dataset
from pydicom.valuerep import DS

from inference.findings import Code, Findings, MeasurementGroup, NotComputed, Qualitative
from inference.findings import Measurement as Figure
from inference.results import codes, words
from inference.results.elements import code_of, items_of, text_of
from inference.results.references import evidence_items, image_library
from inference.results.run import (
    CANONICAL_FORM,
    NodeIdentity,
    Predecessor,
    Run,
    object_time,
    observer_uid,
    result_uid,
    series_number,
    series_uid,
    tracking_uid,
)

SOP_CLASS = "1.2.840.10008.5.1.4.1.1.88.34"

_PROPERTIES = RelationshipTypeValues.HAS_PROPERTIES
_CONTAINS = RelationshipTypeValues.CONTAINS
_Group = MeasurementsAndQualitativeEvaluations | VolumetricROIMeasurementsAndQualitativeEvaluations


def make_sr(
    findings: Findings, evidence: Sequence[Dataset], run: Run, node: NodeIdentity, seg: Dataset | None
) -> Dataset:
    """Make the report of one run.

    Parameters
    ----------
    evidence
        Headers of all used (or, for a refusal, considered) instances.
    seg
        The segmentation of the same set; None: the findings outline nothing.

    Returns
    -------
    Dataset
        Without the source's identity, times and character set, which `build` puts in.
    """
    groups: list[_Group] = [_summary_group(findings, evidence, run)]
    groups.extend(_group(group, findings, evidence, run, seg) for group in _all_groups(findings))
    report = MeasurementReport(
        observation_context=_observation_context(node),
        procedure_reported=codes_of_procedure(evidence[0]),
        imaging_measurements=groups,
        language_of_content_item_and_descendants=LanguageOfContentItemAndDescendants(codes.concept(codes.ENGLISH)),
    )
    content = report[0].ContentSequence
    report[0].ContentSequence = [*content[:-1], image_library(evidence), content[-1]]
    _separate(report[0])
    references = [*evidence, seg] if seg is not None else evidence
    refused = findings.refusal is not None
    document = Dataset()
    document.update(report[0])
    document.SOPClassUID = SOP_CLASS
    document.SOPInstanceUID = result_uid(run.run_key, CANONICAL_FORM, "sr")
    document.SeriesInstanceUID = series_uid(run.study_instance_uid, run.engine.name, "sr", CANONICAL_FORM)
    document.Modality = "SR"
    document.SeriesNumber = series_number(run, "sr")
    document.SeriesDescription = words.description(run.engine, "sr", refused=refused)
    document.InstanceNumber = run.revision
    document.CompletionFlag = "PARTIAL" if refused else "COMPLETE"
    if refused:
        document.CompletionFlagDescription = "Not analysed"
    document.VerificationFlag = "UNVERIFIED"
    document.PreliminaryFlag = "PRELIMINARY"
    document.ReferencedPerformedProcedureStepSequence = []
    document.PerformedProcedureCodeSequence = []
    document.CurrentRequestedProcedureEvidenceSequence = evidence_items(references)
    if run.predecessor is not None:
        document.PredecessorDocumentsSequence = evidence_items([_previous(run, run.predecessor)])
    return document


def _separate(item: Dataset) -> None:
    """Mark containers as lists of separate items: renderers run the text of continuous ones together."""
    if item.ValueType == "CONTAINER":
        item.ContinuityOfContent = "SEPARATE"
        for child in item.ContentSequence:
            _separate(child)


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


def _observation_context(node: NodeIdentity) -> ObservationContext:
    device = DeviceObserverIdentifyingAttributes(
        uid=observer_uid(node),
        name=node.name,
        manufacturer_name=node.manufacturer,
        model_name=node.model_name,
        serial_number=node.serial_number,
    )
    kind = CodedConcept("121007", "DCM", "Device")
    return ObservationContext(observer_device_context=ObserverContext(kind, device))


def _summary_group(findings: Findings, evidence: Sequence[Dataset], run: Run) -> MeasurementsAndQualitativeEvaluations:
    """Study-level group (TID 1501) with what a reader must find first.

    A coded finding precedes the text: viewers take the first Finding of a group for a code.
    """
    group = MeasurementsAndQualitativeEvaluations(
        tracking_identifier=_tracking("summary", run),
        finding_type=codes.concept(_overall_finding(findings)),
        algorithm_id=_algorithm(run, parameters=True),
        qualitative_evaluations=[_evaluation(answer) for answer in findings.qualitative],
    )
    revision = _revision(run, evidence[0])
    texts = [findings.summary, *([revision] if revision else []), *findings.narrative]
    lines = [_text(codes.FINDING, text, _CONTAINS) for text in texts]
    content = list(group[0].ContentSequence)
    group[0].ContentSequence = [*content[:3], *lines, *content[3:]]
    return group


def _revision(run: Run, source: Dataset) -> str:
    """Say which report this one replaces, in the time zone of the object; empty for the first."""
    if run.predecessor is None:
        return ""
    offset = text_of(source, "TimezoneOffsetFromUTC")
    return words.revision_sentence(
        run,
        analysed_at=object_time(run.analysed_at, source_offset=offset, zone=run.timezone),
        replaced_at=object_time(run.predecessor.analysed_at, source_offset=offset, zone=run.timezone),
    )


def _overall_finding(findings: Findings) -> Code:
    if findings.refusal is not None:
        return codes.NOT_EVALUATED
    said = list(dict.fromkeys(group.finding for group in findings.groups))
    return said[0] if len(said) == 1 else codes.CLINICAL_FINDING


def _all_groups(findings: Findings) -> list[MeasurementGroup]:
    """Groups of the findings, and one for each outline that nothing was measured of: the report names all."""
    measured = {group.segments[0] for group in findings.groups if len(group.segments) == 1}
    outlined = [segment for segment in findings.segments if segment.label not in measured and segment.mask.any()]
    return [
        *findings.groups,
        *(
            MeasurementGroup(
                tracking_id=segment.tracking_id,
                finding=segment.type,
                site=segment.type,
                laterality=segment.laterality,
                segments=(segment.label,),
            )
            for segment in outlined
        ),
    ]


def _group(
    group: MeasurementGroup, findings: Findings, evidence: Sequence[Dataset], run: Run, seg: Dataset | None
) -> _Group:
    """One structure (TID 1411, with its segment) or several taken together (TID 1501)."""
    segment = next((s for s in findings.segments if (s.label,) == group.segments), None)
    number = _segment_number(seg, segment.label) if segment is not None else None
    site = FindingSite(codes.concept(group.site), codes.concept(group.laterality) if group.laterality else None)
    measurements = [_measurement(figure, run) for figure in group.measurements]
    answers = [_not_computed(withheld) for withheld in group.not_computed]
    answers += [_evaluation(answer) for answer in group.qualitative]
    if seg is None or segment is None or number is None:
        return MeasurementsAndQualitativeEvaluations(
            tracking_identifier=_tracking(group.tracking_id, run),
            finding_type=codes.concept(group.finding),
            algorithm_id=_algorithm(run),
            finding_sites=[site],
            measurements=measurements,
            qualitative_evaluations=answers,
        )
    return VolumetricROIMeasurementsAndQualitativeEvaluations(
        tracking_identifier=_tracking(segment.tracking_id, run),
        finding_category=codes.concept(segment.category),
        referenced_segment=ReferencedSegment(
            sop_class_uid=seg.SOPClassUID,
            sop_instance_uid=seg.SOPInstanceUID,
            segment_number=number,
            source_series=SourceSeriesForSegmentation(evidence[0].SeriesInstanceUID),
        ),
        finding_type=codes.concept(group.finding),
        algorithm_id=_algorithm(run),
        finding_sites=[site],
        measurements=measurements,
        qualitative_evaluations=answers,
    )


def _segment_number(seg: Dataset | None, label: str) -> int | None:
    """Number of the segment of that label; None: it was empty and has been left out."""
    described = seg.SegmentSequence if seg is not None else ()
    return next((int(item.SegmentNumber) for item in described if item.SegmentLabel == label), None)


def _measurement(figure: Figure, run: Run) -> Measurement:
    """NUM with its unit, method and algorithm; shown rounded, with the exact value beside it.

    Source: PS3.3 C.18.1 (Floating Point Value beside Numeric Value).
    """
    made = Measurement(
        name=codes.concept(figure.name),
        value=float(figure.value),
        unit=codes.concept(figure.unit),
        algorithm_id=_algorithm(run, brief=True),
        method=codes.concept(figure.method) if figure.method else None,
        derivation=codes.concept(figure.derivation) if figure.derivation else None,
    )
    shown = f"{float(figure.value):.{codes.decimals(figure.unit)}f}"
    if len(shown) <= 16:
        made[0].MeasuredValueSequence[0].NumericValue = DS(shown)
    if figure.caution:
        made[0].ContentSequence.append(_text(codes.COMMENT, figure.caution, _PROPERTIES))
    return made


def _not_computed(withheld: NotComputed) -> QualitativeEvaluation:
    """Say in code, and beneath it in words, that a number was withheld.

    A NUM without a value would be the standard's own form, but common readers (highdicom's among them)
    fail on it, and the whole report with it.

    Source: PS3.16 CID 42 (reason for the absence of a value).
    """
    made = QualitativeEvaluation(codes.concept(withheld.name), codes.concept(codes.NOT_ATTEMPTED))
    made[0].ContentSequence = [_text(codes.COMMENT, f"Not computed: {withheld.reason}", _PROPERTIES)]
    return made


def _evaluation(answer: Qualitative) -> QualitativeEvaluation:
    return QualitativeEvaluation(codes.concept(answer.name), codes.concept(answer.value))


def _tracking(tracking_id: str, run: Run) -> TrackingIdentifier:
    uid = tracking_uid(run.study_instance_uid, run.engine.name, tracking_id)
    return TrackingIdentifier(uid=uid, identifier=tracking_id)


def _algorithm(run: Run, *, parameters: bool = False, brief: bool = False) -> AlgorithmIdentification:
    """Algorithm identification (TID 4019): brief beside each number, with parameters once in the report."""
    engine = run.engine
    return AlgorithmIdentification(
        name=engine.name,
        version=engine.version,
        family=None if brief else codes.concept(engine.family),
        manufacturer=None if brief else engine.manufacturer or None,
        parameters=[f"{name}={value}" for name, value in engine.parameters] if parameters else None,
    )


def _text(name: Code, value: str, relationship: RelationshipTypeValues) -> ContentItem:
    return TextContentItem(codes.concept(name), words.cleaned(value), relationship)


def _previous(run: Run, before: Predecessor) -> Dataset:
    header = Dataset()
    header.StudyInstanceUID = run.study_instance_uid
    header.SeriesInstanceUID = before.series_instance_uid
    header.SOPInstanceUID = before.sop_instance_uid
    header.SOPClassUID = before.sop_class_uid
    return header
