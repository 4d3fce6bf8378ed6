"""Result sets, built whole from synthetic findings."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache

from pydicom import Dataset, dcmread

from inference.findings import Findings, ImageLocation, Measurement, MeasurementGroup
from inference.results import codes
from inference.results.build import build_results
from inference.results.forms import CANONICAL, Form
from inference.results.pictures import Pictures
from inference.results.result import Result
from inference.results.run import Run
from tests.builders.findings import (
    AREA,
    LENGTH,
    NODE,
    NODULE,
    SQUARE_MILLIMETRE,
    SUMMARY,
    ct_headers,
    engine,
    lungs,
    make_run,
)


@dataclass(frozen=True)
class ResultSet:
    """One built set with what it was built from."""

    results: tuple[Result, ...]
    evidence: Sequence[Dataset]

    @property
    def sr(self) -> Dataset:
        """The report."""
        return next(result.dataset for result in self.results if result.kind == "sr")

    @property
    def seg(self) -> Dataset:
        """The segmentation."""
        return next(result.dataset for result in self.results if result.kind == "seg")

    def of_kind(self, kind: str) -> Dataset:
        """The object of this kind."""
        return next(result.dataset for result in self.results if result.kind == kind)

    def part10(self, kind: str) -> bytes:
        """The encoded object of this kind."""
        return next(result.part10 for result in self.results if result.kind == kind)


def built(
    findings: Findings,
    *,
    evidence: Sequence[Dataset] | None = None,
    run: Run | None = None,
    form: Form = CANONICAL,
    shown: Pictures | None = None,
) -> ResultSet:
    """Build a set of these findings."""
    headers = evidence if evidence is not None else ct_headers()
    return ResultSet(build_results(findings, headers, run or make_run(headers), NODE, form, shown), headers)


@cache
def _lung_set() -> ResultSet:
    return built(lungs())


def lung_set() -> ResultSet:
    """The set of both lungs over the default series, fresh data sets each time: for tests that break them."""
    made = _lung_set()
    fresh = tuple(replace(result, dataset=dcmread(io.BytesIO(result.part10))) for result in made.results)
    return ResultSet(fresh, ct_headers())


def texts(sr: Dataset) -> list[str]:
    """Values of all TEXT items that are said rather than context, in reading order."""
    found = []
    for item in sr.get("ContentSequence") or ():
        if item.ValueType == "TEXT" and item.get("RelationshipType") in ("CONTAINS", "HAS PROPERTIES"):
            found.append(str(item.TextValue))
        found.extend(texts(item))
    return found


def items(sr: Dataset, value_type: str) -> list[Dataset]:
    """All content items of a value type, in reading order."""
    found = []
    for item in sr.get("ContentSequence") or ():
        if item.ValueType == value_type:
            found.append(item)
        found.extend(items(item, value_type))
    return found


def name(item: Dataset) -> str:
    """Meaning of the concept name."""
    return str(item.ConceptNameCodeSequence[0].CodeMeaning)


def marks_on(headers: Sequence[Dataset], *, at: int) -> ResultSet:
    """A report of marks alone on one image: a box from (100, 200) to (160, 260), a line of 100 pixels."""
    where = str(headers[at].SOPInstanceUID)
    box = ((100.0, 200.0), (160.0, 200.0), (160.0, 260.0), (100.0, 260.0), (100.0, 200.0))
    line = ((300.0, 220.0), (380.0, 280.0))
    rows_mm, columns_mm = (float(value) for value in headers[at].PixelSpacing)
    area = Measurement(AREA, 3600 * rows_mm * columns_mm, SQUARE_MILLIMETRE)
    length = Measurement(LENGTH, math.hypot(80 * columns_mm, 60 * rows_mm), codes.MILLIMETRE)
    groups = tuple(
        MeasurementGroup(
            label, NODULE, codes.LUNG, codes.RIGHT, (), (figure,), location=ImageLocation("POLYLINE", points, where)
        )
        for label, points, figure in (("box", box, area), ("line", line, length))
    )
    described = engine(name="classical-marks", title="Marks")
    run = make_run(headers, study_instance_uid=str(headers[at].StudyInstanceUID), run_key="d" * 64, engine=described)
    return built(Findings(summary=SUMMARY, groups=groups), evidence=headers, run=run)
