"""The objects that the node makes: IODs, templates, codes."""

from __future__ import annotations

from collections.abc import Iterator

from dicom_node.conformance.markdown import name_of, table
from inference.results import codes
from inference.results.forms import (
    BASIC_TEXT_SR,
    CANONICAL,
    ENCAPSULATED_PDF,
    MEASUREMENT_REPORTS,
    MULTI_FRAME_TRUE_COLOR_CAPTURE,
    SECONDARY_CAPTURE,
    SEGMENTATIONS,
)


def sections() -> Iterator[str]:
    """Give the sections."""
    yield _objects()
    yield _private_codes()


def _objects() -> str:
    report, outlines = MEASUREMENT_REPORTS[CANONICAL.report], SEGMENTATIONS[CANONICAL.outlines]
    rows = (
        (name_of(report), report, "TID 1500 Imaging Measurement Report, with TID 1410, 1411, 1501, 300, 4019"),
        (
            name_of(outlines),
            outlines,
            "BINARY, one frame per segment and slice, on the source's own grid; where the source has no place, no plane"
            " groups",
        ),
    )
    others = (
        *(
            (name_of(uid), uid, f"the same tree: `report: {word}`")
            for word, uid in list(MEASUREMENT_REPORTS.items())[1:]
        ),
        (name_of(SEGMENTATIONS["labelmap"]), SEGMENTATIONS["labelmap"], "`outlines: labelmap`; 0 is no segment"),
        (name_of(BASIC_TEXT_SR), BASIC_TEXT_SR, "TID 2000: `send: text`"),
        (
            name_of(MULTI_FRAME_TRUE_COLOR_CAPTURE),
            MULTI_FRAME_TRUE_COLOR_CAPTURE,
            "outlines as pictures: `send: capture`",
        ),
        (name_of(SECONDARY_CAPTURE), SECONDARY_CAPTURE, "one page: `send: summary`"),
        (name_of(ENCAPSULATED_PDF), ENCAPSULATED_PDF, "`send: pdf`"),
    )
    return (
        "Objects made\n\n"
        + table(("SOP Class", "UID", "content"), rows)
        + "\nMade too for a peer whose `deliver` asks for it:\n\n"
        + table(("SOP Class", "UID", "content and setting"), others)
        + f"\nThe canonical set (`{CANONICAL}`) is always kept. Objects are marked as unverified and name their"
        " equipment, algorithm and sources. Patient and study attributes are copied verbatim from the source. SOP"
        " Instance UIDs are derived (`2.25.` and a name-based UUID) from the inputs, the engine and its parameters:"
        " the same input gives the same object.\n"
    )


def _private_codes() -> str:
    rows = ((code.value, code.scheme, code.meaning, source) for code, (_, source) in codes.BEYOND_PYDICOM.items())
    return (
        f"Codes\n\nCodes are those of PS3.16. Concepts that no public scheme names are in scheme `{codes.OUR_SCHEME}`,"
        " identified in each object that uses it. Codes in use beside the dictionary of the library in use:\n\n"
        + table(("value", "scheme", "meaning", "source"), rows)
    )
