"""What C-MOVE and C-GET have in common: which instances, how the sub-operations stand, how it ends.

Source: PS3.4 C.4.2, C.4.3; PS3.7 9.1.3, 9.1.4.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

from dicom_node.scp.answers import Answers, Counts
from dicom_node.scp.encoding import Form, encode_identifier
from dicom_node.scp.identifier import UNIQUE_KEY, Identifier
from dicom_node.scp.status import (
    CANCELLED,
    OUT_OF_RESOURCES_FOR_MATCHES,
    OUT_OF_RESOURCES_FOR_SUB_OPERATIONS,
    PENDING,
    SUB_OPERATIONS_FAILED,
    SUCCESS,
)
from dicom_node.scu.store import Outgoing
from storage.blobs import BlobStore
from storage.index import Index
from storage.matching import Query
from storage.records import InstanceRecord, StudyFilter

#: The counts of sub-operations are US. Source: PS3.7 9.3.4.
MOST_SUB_OPERATIONS = 65535
#: Seconds between pending responses.
PENDING_EVERY_S = 1.0
_FAILED_SOP_INSTANCE_UID_LIST = 0x00080058
#: Statuses that say: taken, with a remark. Source: PS3.7 Annex C.1, C.4, PS3.4 B.2.3.
_WARNINGS = frozenset({0x0001, 0x0107, 0x0116, *range(0xB000, 0xC000)})


def instances_of(identifier: Identifier, index: Index, visible: StudyFilter) -> list[InstanceRecord]:
    """Give what an identifier names; one more than can be counted where there are too many.

    Only unique keys count (PS3.4 C.4.2.2.1); what else stands there is passed over.
    """
    unique = {(tag,) for tag in UNIQUE_KEY.values()}
    keys = tuple(key for key in identifier.keys if key.path in unique)
    return index.instances_matching(Query(keys, limit=MOST_SUB_OPERATIONS + 1), visible)


def outgoing(record: InstanceRecord, blobs: BlobStore) -> Outgoing:
    """Give an instance as it can be sent."""
    return Outgoing(
        record.sop_instance_uid,
        record.sop_class_uid,
        record.transfer_syntax_uid,
        open=partial(blobs.open, record.path),
    )


@dataclass
class Retrieval:
    """One retrieval on its way: told how each sub-operation ended, it says so to the requestor."""

    answers: Answers
    form: Form
    counts: Counts
    monotonic: Callable[[], float] = time.monotonic
    failed: list[str] = field(default_factory=list)
    """SOP Instance UIDs of what was not taken."""
    said_at: float | None = None
    """When the last pending response was given."""

    def ended(self, sop_instance_uid: str, status: int | None) -> None:
        """Take note of a sub-operation; None: it never came to a Status."""
        self.counts.remaining -= 1
        if status == SUCCESS:
            self.counts.completed += 1
        elif status in _WARNINGS:
            self.counts.warning += 1
        else:
            self.counts.failed += 1
            self.failed.append(sop_instance_uid)

    def rest_failed(self, items: Sequence[Outgoing]) -> None:
        """Take note that what remains, the last of `items`, will not be sent."""
        for item in items[len(items) - self.counts.remaining :]:
            self.ended(item.sop_instance_uid, None)

    def say(self) -> None:
        """Give a pending response, unless there was one just now."""
        now = self.monotonic()
        if self.said_at is None or now - self.said_at >= PENDING_EVERY_S:
            self.said_at = now
            self.answers.pending(PENDING, None, self.counts)

    def finish(self, *, cancelled: bool) -> int:
        """Give the final response; return its Status."""
        status = CANCELLED if cancelled and self.counts.remaining else self._status()
        self.answers.final(
            status,
            identifier=self._failed_list() if status != SUCCESS else None,
            counts=self.counts,
            cancelled=status == CANCELLED,
        )
        return status

    def _status(self) -> int:
        if not self.counts.failed and not self.counts.warning:
            return SUCCESS
        if not self.counts.completed and not self.counts.warning:
            return OUT_OF_RESOURCES_FOR_SUB_OPERATIONS
        return SUB_OPERATIONS_FAILED

    def _failed_list(self) -> bytes:
        element = {"vr": "UI", "Value": self.failed}
        return encode_identifier({_FAILED_SOP_INSTANCE_UID_LIST: element}, self.form, ())


def begin(answers: Answers, form: Form, records: Sequence[InstanceRecord]) -> Retrieval | None:
    """Begin a retrieval; None: the final response is given already, as nothing or too much matches."""
    if len(records) > MOST_SUB_OPERATIONS:
        answers.final(OUT_OF_RESOURCES_FOR_MATCHES, comment=f"More than {MOST_SUB_OPERATIONS} instances match")
        return None
    retrieval = Retrieval(answers, form, Counts(remaining=len(records)))
    if not records:
        retrieval.finish(cancelled=False)
        return None
    retrieval.say()
    return retrieval
