"""Key Object Selections: the list of what belongs to a run, and the note that rejects its results.

Source: PS3.16 TID 2010, CID 7010, CID 7011; PS3.3 A.35.4.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum

from highdicom.ko import KeyObjectSelection
from pydicom import Dataset

from inference.findings import Code
from inference.results import codes, words
from inference.results.forms import KEY_OBJECT_SELECTION
from inference.results.references import evidence_items
from inference.results.run import NodeIdentity, Run, result_uid, series_number, series_uid
from inference.results.sr import device_context, separate


class Rejection(Enum):
    """Why results are taken back. Source: PS3.16 CID 7011 (rejected for quality, safety, wrong entry, retention)."""

    QUALITY = Code("113001", "DCM", "Rejected for Quality Reasons")
    PATIENT_SAFETY = Code("113037", "DCM", "Rejected for Patient Safety Reasons")
    WRONG_WORKLIST_ENTRY = Code("113038", "DCM", "Incorrect Modality Worklist Entry")
    RETENTION = Code("113039", "DCM", "Data Retention Policy Expired")


def make_key_objects(
    objects: Sequence[Dataset], title: Code, said: str, run: Run, node: NodeIdentity, role: str
) -> Dataset:
    """Make one selection, without the source's identity, times and character set.

    Parameters
    ----------
    objects
        What is selected, all of one study.
    said
        Key Object Description, for a reader.
    role
        Tells selections of one run apart: `list`, or a rejection's code with what it names.
    """
    selection = KeyObjectSelection(
        document_title=codes.concept(title),
        referenced_objects=objects,
        observer_device_context=device_context(node),
        description=words.cleaned(said),
    )
    separate(selection[0])
    document = Dataset()
    document.update(selection[0])
    document.SOPClassUID = KEY_OBJECT_SELECTION
    document.SOPInstanceUID = result_uid(run.run_key, "key-objects", role)
    document.SeriesInstanceUID = series_uid(run.study_instance_uid, run.engine.name, "key-objects", role)
    document.Modality = "KO"
    document.SeriesNumber = series_number(run, "key-objects")
    document.SeriesDescription = words.description(run.engine, "key-objects")
    document.InstanceNumber = run.revision
    document.ReferencedPerformedProcedureStepSequence = []
    document.CurrentRequestedProcedureEvidenceSequence = evidence_items(objects)
    return document
