"""What a report must be before it is kept: TID 1500, closed references, and loadable by viewers."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from pydicom import Dataset

from inference.findings import Code
from inference.results import codes, words
from inference.results.elements import code_of, items_of


def report_problems(sr: Dataset, evidence: Sequence[Dataset], seg: Dataset | None) -> Iterator[str]:
    """Name every broken rule of a report.

    Parameters
    ----------
    seg
        The segmentation of the same set.
    """
    yield from standing_problems(sr)
    yield from _root(sr)
    containers = {concept_value(item): item for item in items_of(sr, "ContentSequence")}
    library = containers.get(codes.IMAGE_LIBRARY.value)
    if library is None or not any(item.get("ValueType") == "IMAGE" for item in tree(library)):
        yield "there is no Image Library with an image (OHIF refuses the report)"
    measurements = containers.get(codes.IMAGING_MEASUREMENTS.value)
    if measurements is None:
        yield "there are no Imaging Measurements (OHIF refuses the report)"
        return
    groups = [
        item
        for item in items_of(measurements, "ContentSequence")
        if concept_value(item) == codes.MEASUREMENT_GROUP.value
    ]
    if not groups:
        yield "there is no Measurement Group"
        return
    yield from _summary(sr, groups[0])
    for index, group in enumerate(groups, 1):
        yield from (f"group {index}: {problem}" for problem in _group(group))
    tracking = [_uid_of(group) for group in groups]
    if len(set(tracking)) != len(tracking):
        yield "two groups share a Tracking Unique Identifier (OHIF merges them)"
    yield from _numbers(sr)
    yield from _references(sr, evidence, seg)
    yield from _segments(groups, evidence, seg)


def standing_problems(sr: Dataset) -> Iterator[str]:
    """It is a draft that nobody verified, and says when it is no answer (PS3.3 C.17.2)."""
    refused = sr.get("SeriesDescription") == words.REFUSED
    expected = {
        "VerificationFlag": "UNVERIFIED",
        "PreliminaryFlag": "PRELIMINARY",
        "CompletionFlag": "PARTIAL" if refused else "COMPLETE",
    }
    for keyword, value in expected.items():
        if sr.get(keyword) != value:
            yield f"{keyword} is not {value}"


def _root(sr: Dataset) -> Iterator[str]:
    if concept_value(sr) != codes.REPORT.value:
        yield "the root is no Imaging Measurement Report (OHIF loads no other)"
    templates = items_of(sr, "ContentTemplateSequence")
    if not any((item.get("TemplateIdentifier"), item.get("MappingResource")) == ("1500", "DCMR") for item in templates):
        yield "the root names no template 1500"


def _summary(sr: Dataset, group: Dataset) -> Iterator[str]:
    """The first text of the first group is the summary, in the words that belong to what made it."""
    texts = [item for item in items_of(group, "ContentSequence") if item.get("RelationshipType") == "CONTAINS"]
    first = next((str(item.TextValue) for item in texts if item.get("ValueType") == "TEXT" and "TextValue" in item), "")
    refused = sr.get("SeriesDescription") == words.REFUSED
    is_model = any(
        concept_value(item) == codes.ALGORITHM_FAMILY.value
        and any(
            c.get("CodeValue") == codes.ARTIFICIAL_INTELLIGENCE.value for c in items_of(item, "ConceptCodeSequence")
        )
        for item in items_of(group, "ContentSequence")
    )
    beginning = words.SUMMARY_OF_MODEL if is_model else words.SUMMARY_OF_CLASSICAL
    if not first.startswith(words.SUMMARY_OF_REFUSAL if refused else beginning):
        yield "the summary does not begin with the words of its kind"
    if is_model and not refused and not words.claims_ai(first):
        yield "the summary of a model does not say AI"
    if not is_model and words.claims_ai(first):
        yield "the summary of a classical engine claims AI"


def _group(group: Dataset) -> Iterator[str]:
    items = items_of(group, "ContentSequence")
    identifier = next((item for item in items if concept_value(item) == codes.TRACKING_IDENTIFIER.value), None)
    if identifier is None or not identifier.get("TextValue"):
        yield "no Tracking Identifier (OHIF refuses the report)"
    references = [item for item in items if item.get("ValueType") == "UIDREF"]
    if not references or concept_value(references[0]) != codes.TRACKING_UID.value or not references[0].get("UID"):
        yield "its first UID is no Tracking Unique Identifier (OHIF refuses the report)"
    findings = [item for item in items if concept_value(item) == codes.FINDING.value]
    if findings and findings[0].get("ValueType") != "CODE":
        yield "its first Finding is no code (older OHIF fails on it)"
    if any(not concept_value(item) for item in items):
        yield "an item has no concept name (OHIF fails on it)"
    if any(item.get("ValueType") == "NUM" and not item.get("ContentSequence") for item in items):
        yield "a number has no child (older OHIF fails on it)"


def _numbers(sr: Dataset) -> Iterator[str]:
    for item in tree(sr):
        if item.get("ValueType") != "NUM":
            continue
        measured = items_of(item, "MeasuredValueSequence")
        if len(measured) != 1:
            yield "a number has no value"
            continue
        yield from _number(measured[0])


def _number(measured: Dataset) -> Iterator[str]:
    try:
        shown = float(measured.NumericValue)
        exact = float(measured.get("FloatingPointValue", shown))
    except (AttributeError, TypeError, ValueError):
        yield "a number cannot be read"
        return
    if not (math.isfinite(shown) and math.isfinite(exact)):
        yield "a number is not finite"
        return
    unit = next((code_of(item) for item in items_of(measured, "MeasurementUnitsCodeSequence")), None)
    if unit is None or not codes.is_unit(unit):
        yield "a number has no UCUM unit that we know"
    elif abs(shown - exact) > 0.5000001 * 10.0 ** -codes.decimals(unit) and abs(shown - exact) > 1e-9 * abs(exact):
        yield "a number is shown as another than it is"


def _references(sr: Dataset, evidence: Sequence[Dataset], seg: Dataset | None) -> Iterator[str]:
    """What the tree refers to is what the evidence lists, and all of it exists in this study or this set."""
    known = {str(header.SOPInstanceUID): str(header.SOPClassUID) for header in evidence}
    if seg is not None:
        known[str(seg.SOPInstanceUID)] = str(seg.SOPClassUID)
    told, listed = told_references(sr), listed_evidence(sr)
    for study in items_of(sr, "CurrentRequestedProcedureEvidenceSequence"):
        if study.get("StudyInstanceUID") != evidence[0].StudyInstanceUID:
            yield "the evidence names another study"
    if told != listed:
        yield "the evidence is not what the tree refers to"
    if told != known:
        missing, dangling = known.keys() - told.keys(), told.keys() - known.keys()
        yield f"{len(missing)} objects are not referred to, {len(dangling)} references lead nowhere or to another class"


def told_references(sr: Dataset) -> dict[str, str]:
    """SOP Instance UID and class of every instance that the tree refers to."""
    return {
        str(reference.get("ReferencedSOPInstanceUID")): str(reference.get("ReferencedSOPClassUID"))
        for item in tree(sr)
        for reference in items_of(item, "ReferencedSOPSequence")
    }


def listed_evidence(sr: Dataset) -> dict[str, str]:
    """SOP Instance UID and class of every instance that the evidence lists."""
    return {
        str(reference.get("ReferencedSOPInstanceUID")): str(reference.get("ReferencedSOPClassUID"))
        for study in items_of(sr, "CurrentRequestedProcedureEvidenceSequence")
        for series in items_of(study, "ReferencedSeriesSequence")
        for reference in items_of(series, "ReferencedSOPSequence")
    }


def _segments(groups: Sequence[Dataset], evidence: Sequence[Dataset], seg: Dataset | None) -> Iterator[str]:
    """Each segment of the set has its group, under the same tracking UID and source series."""
    described = {int(item.SegmentNumber): item for item in seg.SegmentSequence} if seg is not None else {}
    named = set()
    for group in groups:
        for item in items_of(group, "ContentSequence"):
            if concept_value(item) in _SEGMENT_REFERENCES:
                numbers = {_segment_number(reference) for reference in items_of(item, "ReferencedSOPSequence")}
                named |= numbers
                if any(n in described and described[n].get("TrackingUID") != _uid_of(group) for n in numbers):
                    yield "a segment and its group differ in tracking UID"
            if concept_value(item) == _SOURCE_SERIES and item.get("UID") != evidence[0].SeriesInstanceUID:
                yield "the source series of a segment is another"
    if named != set(described):
        yield "the segments that the report refers to are not those of the segmentation"


_SEGMENT_REFERENCES = (codes.REFERENCED_SEGMENT.value, codes.REFERENCED_SEGMENTATION_FRAME.value)
_SOURCE_SERIES = Code("121232", "DCM", "Source series for segmentation").value


def _segment_number(reference: Dataset) -> int:
    value = reference.get("ReferencedSegmentNumber")
    return int(value) if isinstance(value, int) else -1


def _uid_of(group: Dataset) -> str:
    items = items_of(group, "ContentSequence")
    return next((str(item.get("UID")) for item in items if concept_value(item) == codes.TRACKING_UID.value), "")


def concept_value(item: Dataset) -> str:
    """Code value of the concept name; empty where there is none."""
    return next((str(code.get("CodeValue", "")) for code in items_of(item, "ConceptNameCodeSequence")), "")


def tree(item: Dataset) -> Iterator[Dataset]:
    """Give all content items below one, in reading order."""
    for child in items_of(item, "ContentSequence"):
        yield child
        yield from tree(child)
