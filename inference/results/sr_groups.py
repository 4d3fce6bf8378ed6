"""Measurement groups of a report: the summary first, then what was looked for, then what was measured where.

The first text that a reader meets is the findings' own summary; what was not computed stands there with
its reason; each number says by which algorithm it was made.

Source: PS3.16 TID 1410 (planar region), TID 1411 (volume), TID 1501 (study level).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from highdicom.sr import (
    AlgorithmIdentification,
    ContentItem,
    CoordinatesForMeasurement,
    FindingSite,
    Measurement,
    MeasurementsAndQualitativeEvaluations,
    PlanarROIMeasurementsAndQualitativeEvaluations,
    QualitativeEvaluation,
    ReferencedSegment,
    ReferencedSegmentationFrame,
    RelationshipTypeValues,
    SourceImageForSegmentation,
    SourceSeriesForSegmentation,
    TextContentItem,
    TrackingIdentifier,
    VolumetricROIMeasurementsAndQualitativeEvaluations,
)
from pydicom import Dataset
from pydicom.valuerep import DS

from inference.findings import Code, Findings, MeasurementGroup, NotComputed, Observed, Qualitative, Segment
from inference.findings import Measurement as Figure
from inference.results import codes, words
from inference.results.elements import text_of
from inference.results.evidence import Evidence
from inference.results.forms import Form
from inference.results.places import coordinates_below_number, region, said_in_words, viewer_tool
from inference.results.run import Run, object_time, tracking_uid

Group = (
    MeasurementsAndQualitativeEvaluations
    | PlanarROIMeasurementsAndQualitativeEvaluations
    | VolumetricROIMeasurementsAndQualitativeEvaluations
)

_PROPERTIES = RelationshipTypeValues.HAS_PROPERTIES
_CONTAINS = RelationshipTypeValues.CONTAINS
#: Answers about presence. Source: PS3.16 CID 240, CID 4220.
_PRESENCE = {"present": codes.PRESENT, "absent": codes.ABSENT, "indeterminate": codes.INDETERMINATE}
#: Said beside every score.
UNCALIBRATED = "Uncalibrated model score."


def measurement_groups(
    findings: Findings, evidence: Evidence, run: Run, seg: Dataset | None, form: Form
) -> list[Group]:
    """Make all groups of one report, in reading order.

    Parameters
    ----------
    seg
        The segmentation of the same set; None: the set outlines nothing.
    form
        Where only Comprehensive 3D can hold a place, the other reports say it in words.
    """
    groups: list[Group] = [_summary_group(findings, evidence, run)]
    groups.extend(_observed_group(one, run) for one in findings.observed)
    for group in all_groups(findings):
        if group.location is not None:
            groups.append(_placed_group(group, evidence, run, form))
        else:
            groups.append(_group(group, findings, evidence, run, seg))
    return groups


def _summary_group(findings: Findings, evidence: Evidence, run: Run) -> MeasurementsAndQualitativeEvaluations:
    """Study-level group (TID 1501) with what a reader must find first.

    A coded finding precedes the text: viewers take the first Finding of a group for a code.
    """
    group = MeasurementsAndQualitativeEvaluations(
        tracking_identifier=_tracking("summary", run),
        finding_type=codes.concept(_overall_finding(findings)),
        algorithm_id=_algorithm(run, parameters=True),
        qualitative_evaluations=[_evaluation(answer) for answer in findings.qualitative],
    )
    replaced = revision(run, evidence[0])
    texts = [findings.summary, *([replaced] if replaced else []), *findings.narrative]
    lines = [_text(codes.FINDING, text, _CONTAINS) for text in texts]
    content = list(group[0].ContentSequence)
    group[0].ContentSequence = [*content[:3], *lines, *content[3:]]
    return group


def revision(run: Run, source: Dataset) -> str:
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


def all_groups(findings: Findings) -> list[MeasurementGroup]:
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


def _group(group: MeasurementGroup, findings: Findings, evidence: Evidence, run: Run, seg: Dataset | None) -> Group:
    """One structure (TID 1411, on a single image TID 1410, with its segment) or several taken together (TID 1501)."""
    segment = next((s for s in findings.segments if (s.label,) == group.segments), None)
    number = _segment_number(seg, segment.label) if segment is not None else None
    said: dict[str, Any] = {
        "finding_type": codes.concept(group.finding),
        "algorithm_id": _algorithm(run),
        "finding_sites": [_site(group.site, group.laterality)],
        "measurements": [_measurement(figure, run) for figure in group.measurements],
        "qualitative_evaluations": [
            *(_not_computed(withheld) for withheld in group.not_computed),
            *(_evaluation(answer) for answer in group.qualitative),
        ],
    }
    if seg is None or segment is None or number is None:
        return MeasurementsAndQualitativeEvaluations(tracking_identifier=_tracking(group.tracking_id, run), **said)
    said["tracking_identifier"] = _tracking(segment.tracking_id, run)
    said["finding_category"] = codes.concept(segment.category)
    if evidence.lies_nowhere:
        frame = _segment_on_image(seg, number, segment, evidence)
        return PlanarROIMeasurementsAndQualitativeEvaluations(referenced_segment=frame, **said)
    referenced = ReferencedSegment(
        sop_class_uid=seg.SOPClassUID,
        sop_instance_uid=seg.SOPInstanceUID,
        segment_number=number,
        source_series=SourceSeriesForSegmentation(evidence[0].SeriesInstanceUID),
    )
    return VolumetricROIMeasurementsAndQualitativeEvaluations(referenced_segment=referenced, **said)


def _segment_on_image(seg: Dataset, number: int, segment: Segment, evidence: Evidence) -> ReferencedSegmentationFrame:
    """Name a segment of one frame, and the image that it was drawn on (TID 1410 row 7).

    By its segment number alone: frame and segment exclude each other, and of a label map only the segment tells.

    Source: PS3.3 C.18.4 (Referenced Frame Number, Referenced Segment Number).
    """
    index = int(np.flatnonzero(segment.mask.any(axis=(1, 2)))[0])
    header, frame_number = evidence[index], evidence.frame_numbers[index]
    made = ReferencedSegmentationFrame(
        sop_class_uid=seg.SOPClassUID,
        sop_instance_uid=seg.SOPInstanceUID,
        frame_number=1,
        segment_number=number,
        source_image=SourceImageForSegmentation(
            header.SOPClassUID, header.SOPInstanceUID, None if frame_number is None else [frame_number]
        ),
    )
    del made[0].ReferencedSOPSequence[0].ReferencedFrameNumber
    return made


def _observed_group(one: Observed, run: Run) -> MeasurementsAndQualitativeEvaluations:
    """What was looked for (TID 1501): its presence as a code, the engine's score with its threshold."""
    scores = []
    if one.score is not None:
        threshold = "" if one.threshold is None else f" Counts as present from {one.threshold:g} on."
        said = f"{UNCALIBRATED}{threshold}"
        scores.append(_measurement(Figure(codes.CERTAINTY, one.score, codes.RATIO, caution=said), run))
    return MeasurementsAndQualitativeEvaluations(
        tracking_identifier=_tracking(one.tracking_id, run),
        finding_type=codes.concept(one.finding),
        algorithm_id=_algorithm(run),
        finding_sites=[_site(one.site, one.laterality)] if one.site else None,
        measurements=scores,
        qualitative_evaluations=[_evaluation(Qualitative(codes.PRESENCE, _PRESENCE[one.presence]))],
    )


def _placed_group(group: MeasurementGroup, evidence: Evidence, run: Run, form: Form) -> Group:
    """What has a place and no mask.

    Measured on an image: each number with its coordinates below it (TID 1501, 300), the form of which viewers
    make live measurements. Not measured, or in space: the region stands in the group itself (TID 1410).
    """
    place = group.location
    below = coordinates_below_number(place, evidence) if group.measurements else []
    where = None if below else region(place, evidence, in_space=form.report == "comprehensive-3d")
    said: dict[str, Any] = {
        "tracking_identifier": _tracking(group.tracking_id, run, shown=viewer_tool(place)),
        "finding_type": codes.concept(group.finding),
        "algorithm_id": _algorithm(run),
        "finding_sites": [_site(group.site, group.laterality)],
        "measurements": [_measurement(figure, run, below) for figure in group.measurements],
        "qualitative_evaluations": [
            *(_not_computed(withheld) for withheld in group.not_computed),
            *(_evaluation(answer) for answer in group.qualitative),
        ],
    }
    if where is not None:
        return PlanarROIMeasurementsAndQualitativeEvaluations(referenced_region=where, **said)
    made = MeasurementsAndQualitativeEvaluations(**said)
    if not below:
        made[0].ContentSequence.append(_text(codes.COMMENT, said_in_words(place, evidence), _CONTAINS))
    return made


def _segment_number(seg: Dataset | None, label: str) -> int | None:
    """Number of the segment of that label; None: it was empty and has been left out."""
    described = seg.SegmentSequence if seg is not None else ()
    return next((int(item.SegmentNumber) for item in described if item.SegmentLabel == label), None)


def _measurement(figure: Figure, run: Run, places: Sequence[CoordinatesForMeasurement] = ()) -> Measurement:
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
        referenced_coordinates=places or None,
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


def _site(site: Code, laterality: Code | None) -> FindingSite:
    return FindingSite(codes.concept(site), codes.concept(laterality) if laterality else None)


def _evaluation(answer: Qualitative) -> QualitativeEvaluation:
    return QualitativeEvaluation(codes.concept(answer.name), codes.concept(answer.value))


def _tracking(tracking_id: str, run: Run, *, shown: str = "") -> TrackingIdentifier:
    """Tracking identifier and UID; viewers that load marks want the name of their own tool as the identifier."""
    uid = tracking_uid(run.study_instance_uid, run.engine.name, tracking_id)
    return TrackingIdentifier(uid=uid, identifier=shown or tracking_id)


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
