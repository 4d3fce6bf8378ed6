"""What peers and callers asked of the node, announced to it, or were refused: frozen records. Times are aware, UTC."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from storage.records import StudyFilter


class CommitmentState(StrEnum):
    """Where the report of a storage commitment is."""

    WAITING = "waiting"
    TAKEN = "taken"
    """The peer took the report."""
    GIVEN_UP = "given up"


@dataclass(frozen=True)
class CommitmentItem:
    """One instance that a peer asked us to be answerable for."""

    sop_class_uid: str
    sop_instance_uid: str
    failure_reason: int | None
    """None: we committed to keep it."""


@dataclass(frozen=True)
class CommitmentRecord:
    """One storage commitment request and its report."""

    commitment_id: str
    """`{calling AE title}:{Transaction UID}:{number}`."""
    transaction_uid: str
    peer: str
    calling_ae_title: str
    called_ae_title: str
    host: str
    state: CommitmentState
    reason: str
    attempts: int
    """How often the report was sent, or tried to be."""
    next_attempt_at: datetime
    requested_at: datetime
    items: tuple[CommitmentItem, ...]


class AnnouncementKind(StrEnum):
    """How a peer said what it has."""

    PROCEDURE_STEP = "mpps"
    AVAILABILITY = "availability"


class AnnouncementState(StrEnum):
    """Where an announced procedure step is; a notice of availability is complete from the start."""

    IN_PROGRESS = "in progress"
    COMPLETED = "completed"
    DISCONTINUED = "discontinued"


@dataclass(frozen=True)
class Announcement:
    """What one peer announced of one study, in short."""

    announcement_uid: str
    kind: AnnouncementKind
    state: AnnouncementState
    peer: str
    calling_ae_title: str
    number_named: int
    """Instances that it names."""
    changed_at: datetime


@dataclass(frozen=True)
class Coverage:
    """How what is here compares with what was announced of a study."""

    named: int
    """Distinct instances that ended steps and notices name."""
    missing: int
    """Of those: not here."""
    unnamed_inputs: int
    """Inputs here that no completed step and no notice names."""


@dataclass(frozen=True)
class RefusedCaller:
    """Somebody who was not let in."""

    calling_ae_title: str
    called_ae_title: str
    host: str
    reason: str
    count: int
    last_at: datetime


@dataclass(frozen=True)
class KeyRecord:
    """One API key, without its secret."""

    name: str
    permissions: frozenset[str]
    visible: StudyFilter
    created_at: datetime
    revoked_at: datetime | None
    expires_at: datetime | None = None
    """From then on it opens nothing; None: never."""


class WorkitemState(StrEnum):
    """Procedure Step State of a work item. Source: PS3.4 CC.1.1."""

    SCHEDULED = "SCHEDULED"
    IN_PROGRESS = "IN PROGRESS"
    COMPLETED = "COMPLETED"
    CANCELED = "CANCELED"
