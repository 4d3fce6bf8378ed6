"""The ledger: every state, every change of state, and why. Nothing else changes a state."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import Column, Connection, Table, insert, select, update

from storage import correction_tables, tables
from storage.errors import ForbiddenTransition, NotKept
from storage.peer_records import CommitmentState, WorkitemState
from storage.records import DeliveryState, InstanceState, JobState, NoteState, ResultState, StudyState, VariantState

#: Allowed changes of state, per subject. A change to the state that already holds is no change.
STUDY: dict[StudyState, frozenset[StudyState]] = {
    StudyState.DOCUMENTS: frozenset({StudyState.GATHERING}),
    StudyState.GATHERING: frozenset(
        {StudyState.ANALYSING, StudyState.WAITING_FOR_ENGINE, StudyState.UNMATCHED, StudyState.QUARANTINED}
    ),
    StudyState.ANALYSING: frozenset(
        {
            StudyState.ANSWERED,
            StudyState.DECLINED,
            StudyState.FAILED,
            StudyState.WAITING_FOR_ENGINE,
            StudyState.GATHERING,
            StudyState.QUARANTINED,
        }
    ),
    StudyState.WAITING_FOR_ENGINE: frozenset(
        {StudyState.ANALYSING, StudyState.GATHERING, StudyState.QUARANTINED, StudyState.DOCUMENTS}
    ),
    StudyState.UNMATCHED: frozenset({StudyState.GATHERING, StudyState.ANALYSING, StudyState.DOCUMENTS}),
    StudyState.ANSWERED: frozenset(
        {StudyState.GATHERING, StudyState.ANALYSING, StudyState.QUARANTINED, StudyState.DOCUMENTS}
    ),
    StudyState.DECLINED: frozenset(
        {StudyState.GATHERING, StudyState.ANALYSING, StudyState.QUARANTINED, StudyState.DOCUMENTS}
    ),
    StudyState.FAILED: frozenset(
        {StudyState.GATHERING, StudyState.ANALYSING, StudyState.QUARANTINED, StudyState.DOCUMENTS}
    ),
    StudyState.QUARANTINED: frozenset({StudyState.GATHERING, StudyState.DOCUMENTS}),
}

INSTANCE: dict[InstanceState, frozenset[InstanceState]] = {
    InstanceState.FOLLOWS_STUDY: frozenset(
        {InstanceState.QUARANTINED, InstanceState.EXCLUDED, InstanceState.SUPERSEDED}
    ),
    InstanceState.QUARANTINED: frozenset({InstanceState.FOLLOWS_STUDY, InstanceState.EXCLUDED}),
    InstanceState.EXCLUDED: frozenset({InstanceState.FOLLOWS_STUDY}),
    InstanceState.SUPERSEDED: frozenset(),
}

VARIANT: dict[VariantState, frozenset[VariantState]] = {
    VariantState.UNCLASSED: frozenset(
        {VariantState.NOTED, VariantState.HELD, VariantState.APPLIED, VariantState.CONFLICT}
    ),
    VariantState.NOTED: frozenset(),
    VariantState.HELD: frozenset({VariantState.APPLIED, VariantState.CONFLICT, VariantState.NOTED}),
    VariantState.APPLIED: frozenset({VariantState.REPLACED}),
    VariantState.REPLACED: frozenset({VariantState.APPLIED}),  # a correction is taken back by another
    VariantState.CONFLICT: frozenset({VariantState.NOTED}),
}

JOB: dict[JobState, frozenset[JobState]] = {
    JobState.QUEUED: frozenset({JobState.RUNNING, JobState.FAILED, JobState.SUPERSEDED}),
    JobState.RUNNING: frozenset(
        {JobState.DONE, JobState.DECLINED, JobState.FAILED, JobState.SUPERSEDED, JobState.WAITING_FOR_ENGINE}
    ),
    JobState.WAITING_FOR_ENGINE: frozenset({JobState.QUEUED, JobState.SUPERSEDED}),
    JobState.DONE: frozenset({JobState.QUEUED}),
    JobState.DECLINED: frozenset({JobState.QUEUED}),
    JobState.FAILED: frozenset({JobState.QUEUED}),
    JobState.SUPERSEDED: frozenset({JobState.QUEUED}),
}

DELIVERY: dict[DeliveryState, frozenset[DeliveryState]] = {
    DeliveryState.WAITING: frozenset(
        {DeliveryState.SENDING, DeliveryState.SUPERSEDED, DeliveryState.FAILED, DeliveryState.WITHDRAWN}
    ),
    DeliveryState.SENDING: frozenset(
        {DeliveryState.DELIVERED, DeliveryState.WAITING, DeliveryState.FAILED, DeliveryState.WITHDRAWN}
    ),
    # accepted again and again, and not there: FAILED
    DeliveryState.DELIVERED: frozenset({DeliveryState.CONFIRMED, DeliveryState.WAITING, DeliveryState.FAILED}),
    DeliveryState.CONFIRMED: frozenset(),
    DeliveryState.FAILED: frozenset({DeliveryState.WAITING, DeliveryState.SUPERSEDED, DeliveryState.WITHDRAWN}),
    DeliveryState.SUPERSEDED: frozenset(),
    DeliveryState.WITHDRAWN: frozenset(),
}

RESULT: dict[ResultState, frozenset[ResultState]] = {
    ResultState.NAMED: frozenset({ResultState.KEPT, ResultState.RETRACTED}),
    ResultState.KEPT: frozenset({ResultState.SUPERSEDED, ResultState.RETRACTED, ResultState.EXPIRED}),
    ResultState.SUPERSEDED: frozenset({ResultState.RETRACTED, ResultState.EXPIRED}),
    ResultState.EXPIRED: frozenset({ResultState.KEPT, ResultState.RETRACTED}),  # its bytes may come back
    ResultState.RETRACTED: frozenset(),
}

NOTE: dict[NoteState, frozenset[NoteState]] = {
    NoteState.UNREAD: frozenset({NoteState.NOTED, NoteState.HELD, NoteState.APPLIED}),
    NoteState.HELD: frozenset({NoteState.APPLIED, NoteState.NOTED}),
    NoteState.NOTED: frozenset(),
    NoteState.APPLIED: frozenset(),
}

COMMITMENT: dict[CommitmentState, frozenset[CommitmentState]] = {
    CommitmentState.WAITING: frozenset({CommitmentState.TAKEN, CommitmentState.GIVEN_UP}),
    CommitmentState.TAKEN: frozenset({CommitmentState.WAITING}),  # asked for again
    CommitmentState.GIVEN_UP: frozenset({CommitmentState.WAITING}),
}

#: Source: PS3.4 Table CC.1.1-2.
WORKITEM: dict[WorkitemState, frozenset[WorkitemState]] = {
    WorkitemState.SCHEDULED: frozenset({WorkitemState.IN_PROGRESS}),
    WorkitemState.IN_PROGRESS: frozenset({WorkitemState.COMPLETED, WorkitemState.CANCELED}),
    WorkitemState.COMPLETED: frozenset(),
    WorkitemState.CANCELED: frozenset(),
}

#: Where the ledger leads what is deleted; its row goes in the same transaction.
DELETED = "deleted"

_SUBJECTS: dict[type[StrEnum], tuple[str, Table, tuple[Column[str], ...], Mapping[Any, frozenset[Any]]]] = {
    StudyState: ("study", tables.studies, (tables.studies.c.study_instance_uid,), STUDY),
    InstanceState: ("instance", tables.instances, (tables.instances.c.sop_instance_uid,), INSTANCE),
    VariantState: (
        "variant",
        tables.variants,
        (tables.variants.c.sop_instance_uid, tables.variants.c.sha256, tables.variants.c.transfer_syntax_uid),
        VARIANT,
    ),
    JobState: ("job", tables.jobs, (tables.jobs.c.job_id,), JOB),
    DeliveryState: ("delivery", tables.deliveries, (tables.deliveries.c.delivery_id,), DELIVERY),
    ResultState: ("result", tables.results, (tables.results.c.sop_instance_uid,), RESULT),
    NoteState: (
        "note",
        correction_tables.rejection_notes,
        (correction_tables.rejection_notes.c.sop_instance_uid,),
        NOTE,
    ),
    WorkitemState: ("workitem", tables.workitems, (tables.workitems.c.workitem_uid,), WORKITEM),
    CommitmentState: ("commitment", tables.commitments, (tables.commitments.c.commitment_id,), COMMITMENT),
}


def begin(
    connection: Connection, subject_id: str | tuple[str, ...], state: StrEnum, *, reason: str, at: datetime
) -> None:
    """Record the first state of a row that the caller inserts in the same transaction."""
    subject = _SUBJECTS[type(state)][0]
    _record(connection, subject, subject_id, "", state, reason=reason, at=at)


def move(connection: Connection, subject_id: str | tuple[str, ...], to: StrEnum, *, reason: str, at: datetime) -> bool:
    """Change a state inside the caller's transaction, and record when and why.

    Parameters
    ----------
    subject_id
        Primary key of the row; a tuple where the key has several columns.
    to
        A state of the subject's own enumeration: it tells which table is meant.

    Returns
    -------
    bool
        False where the state holds already: nothing is written.

    Raises
    ------
    ForbiddenTransition
        The table above does not allow it; the transaction must not be committed.
    NotKept
        There is no such row.
    """
    subject, table, key_columns, allowed = _SUBJECTS[type(to)]
    key = (subject_id,) if isinstance(subject_id, str) else subject_id
    this_row = [column == value for column, value in zip(key_columns, key, strict=True)]
    held = connection.execute(select(table.c.state).where(*this_row).with_for_update()).scalar_one_or_none()
    if held is None:
        raise NotKept(f"the ledger has no such {subject}", subject=subject, subject_id=key)
    if held == to:
        return False
    if to not in allowed[type(to)(held)]:
        raise ForbiddenTransition(f"a {subject} cannot go from {held} to {to}", subject=subject, subject_id=key)
    values: dict[str, object] = {"state": to.value, "reason": reason}
    if "state_since" in table.c:
        values["state_since"] = at
    connection.execute(update(table).where(*this_row).values(values))
    _record(connection, subject, subject_id, held, to, reason=reason, at=at)
    return True


def end(connection: Connection, subject_id: str | tuple[str, ...], held: StrEnum, *, reason: str, at: datetime) -> None:
    """Record the end of a row that the caller deletes in the same transaction; `held`: the state that it has."""
    _record(connection, _SUBJECTS[type(held)][0], subject_id, held, DELETED, reason=reason, at=at)


def _record(
    connection: Connection,
    subject: str,
    subject_id: str | tuple[str, ...],
    from_state: str,
    to: str,
    *,
    reason: str,
    at: datetime,
) -> None:
    key = subject_id if isinstance(subject_id, str) else " ".join(subject_id)
    connection.execute(
        insert(tables.transitions).values(
            subject=subject, subject_id=key, from_state=str(from_state), to_state=str(to), reason=reason, at=at
        )
    )
