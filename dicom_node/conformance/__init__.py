"""The DICOM Conformance Statement, made from the tables that the code uses, so that it cannot drift.

Source: PS3.2 (form of a conformance statement).
"""

from __future__ import annotations

from dicom_node.conformance import association, content, results, services, web

_HEAD = """\
# DICOM Conformance Statement

What dicom-node speaks, and what it does not. This page is generated from the tables that the code uses
(`python -m dicom_node.conformance`, or `make conformance`); `make check` fails where they differ.

The product is for research use. It receives studies, keeps them, analyses them, and sends Structured Reports and
Segmentations. What is not listed here is not supported.
"""


def statement() -> str:
    """Give the whole statement as Markdown."""
    sections = (
        *association.sections(),
        *services.sections(),
        *web.sections(),
        *results.sections(),
        *content.sections(),
    )
    numbered = (f"## {number}. {section}" for number, section in enumerate(sections, 1))
    return "\n".join((_HEAD, *numbered))
