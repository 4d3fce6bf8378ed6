"""N-EVENT-REPORT of Storage Commitment: what it says, on whichever association it goes out."""

from __future__ import annotations

from pydicom import Dataset
from pydicom.sequence import Sequence as DicomSequence

from storage.confirmations import Report
from storage.peer_records import CommitmentItem, CommitmentRecord

#: Storage Commitment Push Model SOP Class and its one well-known instance. Source: PS3.4 J.3, PS3.6 Annex A.
COMMITMENT_PUSH_MODEL = "1.2.840.10008.1.20.1"
COMMITMENT_PUSH_MODEL_INSTANCE = "1.2.840.10008.1.20.1.1"

#: Event Type IDs. Source: PS3.4 Table J.3-2.
SUCCESSFUL = 1
FAILURES_EXIST = 2

#: What a peer's answer to the report means by its Status: it took it. Source: PS3.7 Annex C (Success, Warnings).
_TAKEN = frozenset({0x0000, 0x0001, 0x0107, 0x0116})


def event_type_of(commitment: CommitmentRecord) -> int:
    """Give the Event Type ID of a report: all committed, or failures exist."""
    failed = any(item.failure_reason is not None for item in commitment.items)
    return FAILURES_EXIST if failed else SUCCESSFUL


def event_information(commitment: CommitmentRecord) -> Dataset:
    """Give the Event Information of a report.

    Source: PS3.4 Table J.3-2.
    """
    information = Dataset()
    information.TransactionUID = commitment.transaction_uid
    committed = [item for item in commitment.items if item.failure_reason is None]
    failed = [item for item in commitment.items if item.failure_reason is not None]
    if committed:
        information.ReferencedSOPSequence = DicomSequence([_reference(item) for item in committed])
    if failed:
        information.FailedSOPSequence = DicomSequence([_reference(item) for item in failed])
    return information


def read_report(information: Dataset) -> tuple[str, Report]:
    """Read the Event Information of a report to us: its Transaction UID and what it says."""
    committed = {
        str(item.get("ReferencedSOPInstanceUID", "")) for item in information.get("ReferencedSOPSequence") or ()
    }
    failed = {
        str(item.get("ReferencedSOPInstanceUID", "")): int(item.get("FailureReason") or 0x0110)
        for item in information.get("FailedSOPSequence") or ()
    }
    return str(information.get("TransactionUID") or ""), Report(frozenset(committed - set(failed)), failed)


def was_taken(status: int) -> bool:
    """Tell whether a peer that answered with this Status has the report."""
    return status in _TAKEN


def _reference(item: CommitmentItem) -> Dataset:
    reference = Dataset()
    reference.ReferencedSOPClassUID = item.sop_class_uid
    reference.ReferencedSOPInstanceUID = item.sop_instance_uid
    if item.failure_reason is not None:
        reference.FailureReason = item.failure_reason
    return reference
