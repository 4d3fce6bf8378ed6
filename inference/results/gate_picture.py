"""What captures, documents and key object selections must be before they are kept."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from pydicom import Dataset

from inference.results import codes
from inference.results.elements import items_of
from inference.results.gate_report import concept_value, listed_evidence, told_references
from inference.results.key_objects import Rejection

#: What a document must not hold: it is read, it does nothing. Source: ISO 32000-1 12.6.4 (action types).
#: Objects within streams would be hidden from this look: there are none.
_ACTIVE = re.compile(rb"/(JavaScript|JS|Launch|URI|EmbeddedFile|OpenAction|AA|RichMedia|ObjStm)\b")
#: Pixels and text, encoded: letters that happen to spell a name there mean nothing.
_STREAM = re.compile(rb"\bstream\r?\n.*?\bendstream\b", re.DOTALL)
_TITLES = frozenset({codes.OF_INTEREST.value, *(rejection.value.value for rejection in Rejection)})


def capture_problems(capture: Dataset, evidence: Sequence[Dataset]) -> Iterator[str]:
    """Name every broken rule of a Secondary Capture (PS3.3 C.8.6.1, C.8.6.3)."""
    if capture.get("BurnedInAnnotation") != "YES":
        yield "it does not say that words are burned in"
    if capture.get("ImageType") != ["DERIVED", "SECONDARY"]:
        yield "Image Type is not DERIVED, SECONDARY"
    if not capture.get("DerivationDescription"):
        yield "it does not say how it was derived"
    frames = int(capture.get("NumberOfFrames", 1))
    length = frames * int(capture.get("Rows", 0)) * int(capture.get("Columns", 0)) * 3
    if not length or len(capture.get("PixelData", b"")) != length + length % 2:
        yield "Pixel Data has another length than its frames"
    if frames > 1 and list(capture.get("PageNumberVector") or ()) != list(range(1, frames + 1)):
        yield "its frames are not numbered"
    yield from _sources(items_of(capture, "SourceImageSequence"), evidence)


def document_problems(document: Dataset, evidence: Sequence[Dataset]) -> Iterator[str]:
    """Name every broken rule of an Encapsulated PDF (PS3.3 C.24.2)."""
    content = bytes(document.get("EncapsulatedDocument", b""))
    length = int(document.get("EncapsulatedDocumentLength", 0))
    if not content.startswith(b"%PDF-") or b"%%EOF" not in content[max(length - 1024, 0) : length]:
        yield "it holds no whole PDF"
    if len(content) != length + length % 2:
        yield "the document has another length than it says"
    if _ACTIVE.search(_STREAM.sub(b"", content)):
        yield "the document holds something active"
    if document.get("MIMETypeOfEncapsulatedDocument") != "application/pdf":
        yield "its MIME type is not application/pdf"
    if document.get("BurnedInAnnotation") != "YES":
        yield "it does not say that it names the patient"
    if not document.get("DocumentTitle"):
        yield "it has no title"
    yield from _sources(items_of(document, "SourceInstanceSequence"), evidence)


def selection_problems(selection: Dataset, objects: Sequence[Dataset]) -> Iterator[str]:
    """Name every broken rule of a Key Object Selection (PS3.3 C.17.6.2).

    Parameters
    ----------
    objects
        What was to be selected.
    """
    if concept_value(selection) not in _TITLES:
        yield "its title is none of those that we give"
    told = told_references(selection)
    if told != {str(each.SOPInstanceUID): str(each.SOPClassUID) for each in objects}:
        yield "it does not name what it selects"
    if listed_evidence(selection) != told:
        yield "the evidence is not what the tree refers to"


def _sources(items: Sequence[Dataset], evidence: Sequence[Dataset]) -> Iterator[str]:
    known = {(str(header.SOPInstanceUID), str(header.SOPClassUID)) for header in evidence}
    named = [(str(i.get("ReferencedSOPInstanceUID")), str(i.get("ReferencedSOPClassUID"))) for i in items]
    if not named:
        yield "it names no source image"
    if any(each not in known for each in named):
        yield "a source image is none of this study, or of another class"
