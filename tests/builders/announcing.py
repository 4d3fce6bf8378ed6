"""A modality that announces its procedure steps, and a PACS that gives notice, by pynetdicom alone."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pydicom import Dataset
from pydicom.sequence import Sequence as DicomSequence
from pynetdicom.association import Association

MPPS = "1.2.840.10008.3.1.2.3.3"
IAN = "1.2.840.10008.5.1.4.33"
CT = "1.2.840.10008.5.1.4.1.1.2"


def _item(**values: Any) -> Dataset:
    made = Dataset()
    for keyword, value in values.items():
        setattr(made, keyword, value)
    return made


def a_step(study_instance_uid: str, *, status: str = "IN PROGRESS", **overrides: Any) -> Dataset:
    """Make the Attribute List of an N-CREATE; None takes an attribute out."""
    made = Dataset()
    made.SpecificCharacterSet = "ISO_IR 100"
    made.ScheduledStepAttributesSequence = DicomSequence([_item(StudyInstanceUID=study_instance_uid)])
    made.PatientName, made.PatientID = "Test^Müde", "TEST-1"
    made.PerformedProcedureStepID = "1"
    made.PerformedStationAETitle = "CT1"
    made.PerformedProcedureStepStartDate, made.PerformedProcedureStepStartTime = "20260102", "101500"
    made.PerformedProcedureStepStatus = status
    made.Modality = "CT"
    made.PerformedSeriesSequence = DicomSequence()
    for keyword, value in overrides.items():
        if value is None:
            delattr(made, keyword)
        else:
            setattr(made, keyword, value)
    return made


def an_end(series: dict[str, Iterable[str]], *, status: str = "COMPLETED") -> Dataset:
    """Make the Modification List of the last N-SET: Series Instance UID → SOP Instance UIDs."""
    made = Dataset()
    made.PerformedProcedureStepStatus = status
    made.PerformedProcedureStepEndDate, made.PerformedProcedureStepEndTime = "20260102", "102000"
    made.PerformedSeriesSequence = DicomSequence(
        [
            _item(
                SeriesInstanceUID=series_uid,
                ReferencedImageSequence=DicomSequence(
                    [_item(ReferencedSOPClassUID=CT, ReferencedSOPInstanceUID=each) for each in uids]
                ),
            )
            for series_uid, uids in series.items()
        ]
    )
    return made


def a_notice(study_instance_uid: str, series: dict[str, dict[str, str]]) -> Dataset:
    """Make the Attribute List of a notice: Series Instance UID → SOP Instance UID → availability."""
    made = Dataset()
    made.ReferencedPerformedProcedureStepSequence = DicomSequence()
    made.StudyInstanceUID = study_instance_uid
    made.ReferencedSeriesSequence = DicomSequence(
        [
            _item(
                SeriesInstanceUID=series_uid,
                ReferencedSOPSequence=DicomSequence(
                    [
                        _item(
                            ReferencedSOPClassUID=CT,
                            ReferencedSOPInstanceUID=each,
                            InstanceAvailability=availability,
                            RetrieveAETitle="PACS",
                        )
                        for each, availability in uids.items()
                    ]
                ),
            )
            for series_uid, uids in series.items()
        ]
    )
    return made


def create(
    to: Association, attributes: Dataset | None, uid: str | None = "1.2.3.9", *, sop_class: str = MPPS
) -> Dataset:
    """Send one N-CREATE; give the command elements of the answer."""
    status, _ = to.send_n_create(attributes, sop_class, uid)
    return status


def set_(to: Association, attributes: Dataset, uid: str = "1.2.3.9") -> Dataset:
    """Send one N-SET; give the command elements of the answer."""
    status, _ = to.send_n_set(attributes, MPPS, uid)
    return status
