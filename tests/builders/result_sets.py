"""Result sets, built whole from synthetic findings."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache

from pydicom import Dataset, dcmread

from inference.findings import Findings
from inference.results.build import build_results
from inference.results.forms import CANONICAL, Form
from inference.results.pictures import Pictures
from inference.results.result import Result
from inference.results.run import Run
from tests.builders.findings import NODE, ct_headers, lungs, make_run


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
