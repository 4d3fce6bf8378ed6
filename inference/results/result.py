"""One result object."""

from __future__ import annotations

from dataclasses import dataclass, field

from pydicom import Dataset

from inference.results.run import Kind


@dataclass(frozen=True, eq=False)
class Result:
    """One object of a result set."""

    kind: Kind
    form: str
    """Which set it belongs to: `{SEG form}+{SR SOP Class name}`."""
    dataset: Dataset
    """As read back from `part10`."""
    part10: bytes = field(repr=False)
    """The encoded file."""
