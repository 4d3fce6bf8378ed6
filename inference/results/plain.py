"""Findings as plain JSON: the twin of the DICOM objects for programs that read none."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import Any

from inference.findings import (
    Code,
    Findings,
    Measurement,
    MeasurementGroup,
    NotComputed,
    Observed,
    Qualitative,
    Segment,
)

#: Grows when a key changes its meaning or goes.
SCHEMA = "findings/1"


def findings_json(findings: Findings, *, voxel_volume_mm3: float | None = None) -> dict[str, Any]:
    """Give findings as JSON values; masks as voxel counts, never as pixels.

    Parameters
    ----------
    voxel_volume_mm3
        Volume of one voxel; without it, segments have no volume.
    """
    return {
        "schema": SCHEMA,
        "summary": findings.summary,
        "refusal": findings.refusal,
        "narrative": list(findings.narrative),
        "qualitative": [_qualitative(answer) for answer in findings.qualitative],
        "observed": [_observed(one) for one in findings.observed],
        "groups": [_group(group) for group in findings.groups],
        "segments": [_segment(segment, voxel_volume_mm3) for segment in findings.segments],
        "facts": dict(findings.facts),
    }


def _group(group: MeasurementGroup) -> dict[str, Any]:
    return {
        "tracking_id": group.tracking_id,
        "finding": _code(group.finding),
        "site": _code(group.site),
        "laterality": _code(group.laterality),
        "segments": list(group.segments),
        "measurements": [_measurement(figure) for figure in group.measurements],
        "not_computed": [_not_computed(withheld) for withheld in group.not_computed],
        "qualitative": [_qualitative(answer) for answer in group.qualitative],
        "location": None if group.location is None else asdict(group.location),
    }


def _observed(one: Observed) -> dict[str, Any]:
    return {
        "finding": _code(one.finding),
        "presence": one.presence,
        "tracking_id": one.tracking_id,
        "site": _code(one.site),
        "laterality": _code(one.laterality),
        "score": one.score,
        "threshold": one.threshold,
    }


def _measurement(figure: Measurement) -> dict[str, Any]:
    return {
        "name": _code(figure.name),
        "value": figure.value if math.isfinite(figure.value) else None,
        "unit": figure.unit.value,
        "method": _code(figure.method),
        "derivation": _code(figure.derivation),
        "caution": figure.caution,
    }


def _not_computed(withheld: NotComputed) -> dict[str, Any]:
    return {"name": _code(withheld.name), "unit": withheld.unit.value, "reason": withheld.reason}


def _qualitative(answer: Qualitative) -> dict[str, Any]:
    return {"name": _code(answer.name), "value": _code(answer.value)}


def _segment(segment: Segment, voxel_volume_mm3: float | None) -> dict[str, Any]:
    voxels = int(segment.mask.sum())
    return {
        "label": segment.label,
        "category": _code(segment.category),
        "type": _code(segment.type),
        "laterality": _code(segment.laterality),
        "tracking_id": segment.tracking_id,
        "colour": list(segment.colour),
        "voxels": voxels,
        "volume_ml": round(voxels * voxel_volume_mm3 / 1000.0, 3) if voxel_volume_mm3 is not None else None,
    }


def _code(code: Code | None) -> dict[str, str] | None:
    return None if code is None else {"value": code.value, "scheme": code.scheme, "meaning": code.meaning}
