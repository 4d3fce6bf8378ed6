"""Which objects a result set is made of: its form says how outlines are shown and how the report is written.

Every set is closed under references: what a receiver gets never names an object that it did not get.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, cast, get_args

from inference.results.run import Kind

Outlines = Literal["labelmap", "binary", "capture", "none"]
Report = Literal["comprehensive-3d", "comprehensive", "enhanced", "basic-text", "pdf", "summary", "none"]

#: Report trees of TID 1500, by SOP Class; one tree in three classes. Source: PS3.3 A.35.13, A.35.3, A.35.2.
MEASUREMENT_REPORTS: dict[Report, str] = {
    "comprehensive-3d": "1.2.840.10008.5.1.4.1.1.88.34",
    "comprehensive": "1.2.840.10008.5.1.4.1.1.88.33",
    "enhanced": "1.2.840.10008.5.1.4.1.1.88.22",
}
#: Segmentations. Source: PS3.3 A.51 (Segmentation), A.86 (Label Map Segmentation).
SEGMENTATIONS: dict[Outlines, str] = {
    "binary": "1.2.840.10008.5.1.4.1.1.66.4",
    "labelmap": "1.2.840.10008.5.1.4.1.1.66.7",
}
BASIC_TEXT_SR = "1.2.840.10008.5.1.4.1.1.88.11"
ENCAPSULATED_PDF = "1.2.840.10008.5.1.4.1.1.104.1"
SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
MULTI_FRAME_TRUE_COLOR_CAPTURE = "1.2.840.10008.5.1.4.1.1.7.4"
KEY_OBJECT_SELECTION = "1.2.840.10008.5.1.4.1.1.88.59"

#: SOP Classes that an object of each kind may have, and its Modality. Source: PS3.4 B.5, PS3.3 C.7.3.1.1.1.
CLASSES: dict[Kind, tuple[frozenset[str], str]] = {
    "sr": (frozenset(MEASUREMENT_REPORTS.values()), "SR"),
    "seg": (frozenset(SEGMENTATIONS.values()), "SEG"),
    "text": (frozenset({BASIC_TEXT_SR}), "SR"),
    "capture": (frozenset({MULTI_FRAME_TRUE_COLOR_CAPTURE}), "OT"),
    "summary": (frozenset({SECONDARY_CAPTURE}), "OT"),
    "pdf": (frozenset({ENCAPSULATED_PDF}), "DOC"),
    "key-objects": (frozenset({KEY_OBJECT_SELECTION}), "KO"),
}

#: SOP Class of the object that shows outlines, and of the report, in each form.
OUTLINES_CLASS: dict[Outlines, str] = {**SEGMENTATIONS, "capture": MULTI_FRAME_TRUE_COLOR_CAPTURE}
REPORT_CLASS: dict[Report, str] = {
    **MEASUREMENT_REPORTS,
    "basic-text": BASIC_TEXT_SR,
    "pdf": ENCAPSULATED_PDF,
    "summary": SECONDARY_CAPTURE,
}
#: What a form is called in messages.
IN_WORDS: dict[Outlines | Report, str] = {
    "binary": "SEG",
    "labelmap": "label map SEG",
    "capture": "secondary capture",
    "comprehensive-3d": "Comprehensive 3D SR",
    "comprehensive": "Comprehensive SR",
    "enhanced": "Enhanced SR",
    "basic-text": "Basic Text SR",
    "pdf": "PDF",
    "summary": "one-page secondary capture",
}

_REPORT_KIND: dict[Report, Kind] = {"basic-text": "text", "pdf": "pdf", "summary": "summary"}


@dataclass(frozen=True)
class Form:
    """How a set shows outlines and how it writes its report."""

    outlines: Outlines
    report: Report

    def __str__(self) -> str:
        return f"{self.outlines}+{self.report}"

    @classmethod
    def of(cls, text: str) -> Form:
        """Read a form as it is stored.

        Raises
        ------
        ValueError
            The text names no form.
        """
        outlines, _, report = text.partition("+")
        if outlines not in get_args(Outlines) or report not in get_args(Report) or (outlines, report) == ("none",) * 2:
            raise ValueError(f"{text!r} is no form of a result set")
        return cls(cast(Outlines, outlines), cast(Report, report))

    @property
    def has_pictures(self) -> bool:
        """Whether an object of the set shows images."""
        return self.outlines == "capture" or self.report in ("pdf", "summary")

    @property
    def outlines_kind(self) -> Kind | None:
        """Kind of the object that shows outlines; None: the set has none."""
        if self.outlines == "none":
            return None
        return "capture" if self.outlines == "capture" else "seg"

    @property
    def report_kind(self) -> Kind | None:
        """Kind of the object that is the report; None: the set has none."""
        return None if self.report == "none" else _REPORT_KIND.get(self.report, "sr")


#: The set that is always made and kept; QIDO-RS and C-FIND list it.
CANONICAL = Form("binary", "comprehensive-3d")
