"""Other bytes under a kept SOP Instance UID: what they are. The first stays current in every case."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import BinaryIO

from pydicom import Dataset, dcmread
from pydicom.errors import InvalidDicomError
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    JPEG2000Lossless,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
    UncompressedTransferSyntaxes,
)

from configs.peers import Peer
from dicom_node.routing.facts import UNREADABLE, attribute_of, number_of
from dicom_node.worker.parts import CourierParts
from inference.errors import InferenceError
from storage.errors import Inapplicable
from storage.records import InstanceRecord, InstanceRole, VariantRecord, VariantState

log = logging.getLogger(__name__)

#: Whose image it is: a difference is a correction. Keyword → name in reasons.
IDENTITY = {
    "PatientID": "Patient ID",
    "IssuerOfPatientID": "Issuer of Patient ID",
    "PatientName": "Patient's Name",
    "PatientBirthDate": "Patient's Birth Date",
    "PatientSex": "Patient's Sex",
    "StudyInstanceUID": "Study Instance UID",
    "SeriesInstanceUID": "Series Instance UID",
    "AccessionNumber": "Accession Number",
}
#: Of these also an empty value counts: filling them in makes it somebody's image.
_EMPTY_COUNTS = frozenset({"PatientID", "PatientName", "StudyInstanceUID", "SeriesInstanceUID"})

#: What an analysis depends on beside the pixels. Keyword → name in reasons.
MEANING = {
    "FrameOfReferenceUID": "Frame of Reference UID",
    "ImageLaterality": "Image Laterality",
    "ImageOrientationPatient": "Image Orientation (Patient)",
    "ImagePositionPatient": "Image Position (Patient)",
    "Laterality": "Laterality",
    "Modality": "Modality",
    "PerFrameFunctionalGroupsSequence": "Per-Frame Functional Groups",
    "PixelSpacing": "Pixel Spacing",
    "RescaleIntercept": "Rescale Intercept",
    "RescaleSlope": "Rescale Slope",
    "SharedFunctionalGroupsSequence": "Shared Functional Groups",
    "SliceThickness": "Slice Thickness",
    "SpacingBetweenSlices": "Spacing Between Slices",
}

#: What an object without pixels says.
_CONTENT = ("ContentSequence", "EncapsulatedDocument", "GraphicAnnotationSequence", "WaveformSequence")

_LOSSLESS = frozenset(
    {
        *UncompressedTransferSyntaxes,
        DeflatedExplicitVRLittleEndian,
        HTJ2KLossless,
        HTJ2KLosslessRPCL,
        JPEG2000Lossless,
        JPEGLSLossless,
        JPEGLossless,
        JPEGLosslessSV1,
        RLELossless,
    }
)
_CHUNK = 1 << 20
_KEYWORDS_SHOWN = 5


@dataclass(frozen=True)
class Said:
    """What a variant was classed as, and why."""

    state: VariantState
    reason: str


def classify(
    kept: Dataset, other: Dataset, *, other_pixels: str, role: InstanceRole, accepts_corrections: bool = False
) -> Said:
    """Class a variant by its header and its pixels.

    Parameters
    ----------
    kept, other
        Headers without pixel data.
    other_pixels
        How the variant's pixels differ from those of the kept instance; empty: they are the same.
    role
        What the kept instance is: a result of ours that comes back is no matter of dispute.
    """
    if role is InstanceRole.RESULT:
        return Said(VariantState.NOTED, "A result of this node came back with other bytes; ours stays.")
    if other_pixels:
        return Said(
            VariantState.CONFLICT, f"Another image under the same SOP Instance UID: {other_pixels}. The first stays."
        )
    if not all(_equal(kept, other, keyword) for keyword in _CONTENT):
        return Said(
            VariantState.CONFLICT,
            "Another document under the same SOP Instance UID: it says otherwise. The first stays.",
        )
    identity = [name for keyword, name in IDENTITY.items() if not _same_person(kept, other, keyword)]
    meaning = [name for keyword, name in MEANING.items() if not _equal(kept, other, keyword)]
    if identity or meaning:
        return Said(VariantState.HELD, _held([*identity, *meaning], accepts_corrections=accepts_corrections))
    changed = _changed(kept, other)
    if changed:
        return Said(VariantState.NOTED, f"The same image with other attributes ({changed}); the first stays.")
    return Said(VariantState.NOTED, "The same image, encoded in another way; the first stays.")


def class_variant(variant: VariantRecord, parts: CourierParts) -> bool:
    """Look at one variant beside the kept instance, and record what it is."""
    kept = parts.index.instance(variant.sop_instance_uid)
    peer = parts.peers.get(variant.peer)
    with parts.blobs.open(kept.path) as first, parts.blobs.open(variant.path) as second:
        said = _compare(first, second, kept, variant, peer, digest_pixels=parts.digest_pixels)
    parts.variants.classed(variant, said.state, said.reason, parts.now())
    if said.state is VariantState.HELD and peer is not None and peer.corrections == "accept":
        _apply(variant, parts)
    log.log(
        logging.WARNING if said.state is VariantState.CONFLICT else logging.INFO,
        "other bytes under a kept SOP Instance UID were classed",
        extra={
            "action": "variant_classed",
            "sop_instance_uid": variant.sop_instance_uid,
            "state": said.state.value,
            "peer": variant.peer,
        },
    )
    return True


def _apply(variant: VariantRecord, parts: CourierParts) -> None:
    """Make a correction that its peer may make; one that cannot be made goes on waiting for a person."""
    facts = {"sop_instance_uid": variant.sop_instance_uid, "peer": variant.peer}
    try:
        parts.corrections.apply(variant, by=variant.peer, at=parts.now())
    except Inapplicable as error:
        log.warning("correction not made", extra={"action": "correction_held", **facts, "why": str(error)})
        return
    log.warning("correction made", extra={"action": "correction_applied", **facts})


def _compare(
    first: BinaryIO,
    second: BinaryIO,
    kept: InstanceRecord,
    variant: VariantRecord,
    peer: Peer | None,
    *,
    digest_pixels: Callable[[BinaryIO], str],
) -> Said:
    try:
        headers = [dcmread(file, stop_before_pixels=True) for file in (first, second)]
    except (*UNREADABLE, InvalidDicomError, EOFError) as error:
        reason = f"Other bytes that cannot be read ({type(error).__name__}). The first stays."
        return Said(VariantState.CONFLICT, reason)
    syntaxes = (kept.transfer_syntax_uid, variant.transfer_syntax_uid)
    return classify(
        headers[0],
        headers[1],
        other_pixels=_other_pixels(first, second, headers, syntaxes, digest_pixels),
        role=kept.role,
        accepts_corrections=peer is not None and peer.corrections == "accept",
    )


def _other_pixels(
    first: BinaryIO,
    second: BinaryIO,
    headers: Sequence[Dataset],
    syntaxes: tuple[str, str],
    digest_pixels: Callable[[BinaryIO], str],
) -> str:
    """Say how the pixels of two images differ, as decoded; empty: they are the same, or there are none.

    The files stand where their pixel data begins: there the headers were read to.
    """
    if not any("Rows" in header for header in headers):
        return ""
    encoded_alike = syntaxes[0] == syntaxes[1] != DeflatedExplicitVRLittleEndian
    if encoded_alike and _rest(first) == _rest(second):
        return ""
    first.seek(0)
    second.seek(0)
    try:
        if digest_pixels(first) == digest_pixels(second):
            return ""
    except InferenceError as error:  # what cannot be decoded proves nothing
        return f"its pixels cannot be compared ({type(error).__name__})"
    return "its pixels differ" if _LOSSLESS.issuperset(syntaxes) else "its pixels differ, compressed with loss"


def _rest(file: BinaryIO) -> bytes:
    """Digest what follows the header."""
    digest = hashlib.sha256()
    while chunk := file.read(_CHUNK):
        digest.update(chunk)
    return digest.digest()


def _same_person(kept: Dataset, other: Dataset, keyword: str) -> bool:
    mine, theirs = (_folded(header, keyword) for header in (kept, other))
    return mine == theirs or (keyword not in _EMPTY_COUNTS and not (mine and theirs))


def _folded(header: Dataset, keyword: str) -> str:
    """Fold what senders and archives write in more than one way: case, trailing carets, doubled spaces."""
    text = "\\".join(attribute_of(header, keyword).values)
    return " ".join(text.rstrip("^= ").casefold().split())


def _equal(kept: Dataset, other: Dataset, keyword: str) -> bool:
    mine, theirs = attribute_of(kept, keyword), attribute_of(other, keyword)
    if not (mine.comparable and theirs.comparable):
        return bool(kept.get(keyword) == other.get(keyword))
    if mine.numeric and theirs.numeric:
        return [number_of(text) for text in mine.values] == [number_of(text) for text in theirs.values]
    return mine.values == theirs.values


def _changed(kept: Dataset, other: Dataset) -> str:
    """Name attributes that differ, without their values."""
    keywords = sorted({*kept.dir(), *other.dir()})
    names = [keyword for keyword in keywords if not _equal(kept, other, keyword)]
    more = [f"{len(names) - _KEYWORDS_SHOWN} more"] if len(names) > _KEYWORDS_SHOWN else []
    return ", ".join([*names[:_KEYWORDS_SHOWN], *more])


def _held(names: list[str], *, accepts_corrections: bool) -> str:
    what = f"The same pixels with another {', '.join(names)}: a correction."
    if accepts_corrections:
        return f"{what} Its peer may make it (corrections: accept)."
    return f"{what} It waits for a decision: dicom-node correct UID --apply. The first stays."
