"""Key Object Selections from peers: whether one rejects something, and what."""

from __future__ import annotations

import logging
from collections.abc import Iterator

from pydicom import Dataset, dcmread
from pydicom.errors import InvalidDicomError

from dicom_node.routing.facts import UNREADABLE
from dicom_node.worker.parts import WorkerParts
from storage.errors import NotKept
from storage.records import NoteState
from storage.rejections import TITLES, Note, Rejections

log = logging.getLogger(__name__)

_CODING_SCHEME = "DCM"


def read_note(note: Note, node: WorkerParts, rejections: Rejections) -> bool:
    """Read one selection and follow it, if it rejects what its sender may reject; tell whether it rejects anything."""
    try:
        with node.blobs.open(node.index.instance(note.sop_instance_uid).path) as file:
            selection = dcmread(file)
            title, named = title_of(selection), list(named_by(selection))
    except (*UNREADABLE, InvalidDicomError, EOFError, NotKept) as error:
        rejections.set_down(note, f"It cannot be read ({type(error).__name__}).", node.now())
        return False
    if title not in TITLES:
        rejections.set_down(note, "It rejects nothing.", node.now())
        return False
    if not named:
        rejections.set_down(note, f"{TITLES[title]}: it names no instance.", node.now())
        return False
    peer = node.peers.get(note.peer)
    trusted = peer is not None and peer.corrections == "accept"
    state = rejections.read(note, title, named, trusted=trusted, at=node.now())
    facts = {"action": "note_read", "sop_instance_uid": note.sop_instance_uid, "peer": note.peer, "title": title}
    log.log(
        logging.WARNING if state is NoteState.HELD else logging.INFO,
        "rejection note read",
        extra={**facts, "state": state.value, "instances": len(named)},
    )
    return True


def title_of(selection: Dataset) -> str:
    """Give the code value of the document's title, where it is one of DICOM's own; else nothing.

    Source: PS3.16 TID 2010 (Key Object Selection), CID 7010.
    """
    for code in selection.get("ConceptNameCodeSequence") or ():
        if str(code.get("CodingSchemeDesignator", "")).strip() == _CODING_SCHEME:
            return str(code.get("CodeValue", "")).strip()
    return ""


def named_by(selection: Dataset) -> Iterator[tuple[str, str]]:
    """Give Study and SOP Instance UID of everything that a selection names.

    Source: PS3.3 C.17.2.3 (Current Requested Procedure Evidence Sequence holds all that the content refers to).
    """
    for study in selection.get("CurrentRequestedProcedureEvidenceSequence") or ():
        for series in study.get("ReferencedSeriesSequence") or ():
            for reference in series.get("ReferencedSOPSequence") or ():
                yield str(study.StudyInstanceUID), str(reference.ReferencedSOPInstanceUID)
