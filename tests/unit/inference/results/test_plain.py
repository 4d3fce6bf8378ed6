"""Findings as JSON."""

from __future__ import annotations

import json

from inference.results.plain import findings_json
from tests.builders.findings import lungs, refused
from tests.builders.result_sets import items, lung_set


def test_findings_are_plain_json() -> None:
    told = json.loads(json.dumps(findings_json(lungs(), voxel_volume_mm3=2.8), allow_nan=False))
    assert told["schema"] == "findings/1"
    assert told["summary"] == lungs().summary
    assert told["refusal"] is None
    assert told["facts"] == {"airway_voxels": 12, "touches_border": False}


def test_segments_have_voxels_and_volume_but_no_pixels() -> None:
    right, left = findings_json(lungs(), voxel_volume_mm3=2.8)["segments"]
    voxels = int(lungs().segments[0].mask.sum())
    assert (right["voxels"], right["volume_ml"]) == (voxels, round(voxels * 2.8 / 1000, 3))
    assert left["laterality"]["meaning"] == "Left"
    assert "mask" not in right


def test_without_a_voxel_volume_segments_have_none() -> None:
    assert findings_json(lungs())["segments"][0]["volume_ml"] is None


def test_withheld_figures_stand_beside_those_that_were_computed() -> None:
    group = findings_json(lungs())["groups"][0]
    assert [figure["unit"] for figure in group["measurements"]] == ["L", "[hnsf'U]"]
    assert group["measurements"][0]["method"]["value"] == "126030"
    assert group["not_computed"][0]["reason"] == "slice thickness 5.0 mm (needs 1.5 mm or less)."


def test_values_of_json_and_report_are_equal() -> None:
    told = [figure["value"] for group in findings_json(lungs())["groups"] for figure in group["measurements"]]
    shown = [
        item.MeasuredValueSequence[0].FloatingPointValue
        for item in items(lung_set().sr, "NUM")
        if item.RelationshipType == "CONTAINS"
    ]
    assert told == shown


def test_refusal_is_told_with_its_reason() -> None:
    told = findings_json(refused())
    assert told["refusal"] == "slice thickness is 8.0 mm, at most 5.0 mm can be read."
    assert told["groups"] == []
