"""What leaves storage: frozen records, never rows. Times are aware, UTC."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from configs.routes import Priority


class OriginKind(StrEnum):
    """Which door-step an instance stood on."""

    DIMSE = "dimse"
    STOW = "stow"
    UPLOAD = "upload"
    OURS = "ours"
    RECOVERED = "recovered"
    """Found as a file without a row: left by a kill or an outage."""


@dataclass(frozen=True)
class Origin:
    """Where an instance came from."""

    kind: OriginKind
    peer: str = ""
    """Name of the configured peer; empty for our own."""
    calling_ae_title: str = ""
    called_ae_title: str = ""
    host: str = ""
    association_id: str | None = None
    """One association of one receiver, unique over all time; None without DIMSE."""


class InstanceRole(StrEnum):
    """What an instance is to the node (DESIGN section 2)."""

    INPUT = "input"
    """Sent by a peer and to be analysed: counts for completeness, reopening, routing, run keys."""
    DOCUMENT = "document"
    """Sent by a peer, but SR, SEG, KO, PR, document, dose report or marked as an AI object."""
    RESULT = "result"
    """Made by this node."""


class Outcome(StrEnum):
    """What keeping came to; each of them is Success to the sender."""

    KEPT = "kept"
    ALREADY_KEPT = "already kept"
    SET_ASIDE = "set aside"
    """Other bytes under a kept SOP Instance UID: durable in the side store, to be classed."""


@dataclass(frozen=True)
class Kept:
    """The answer of the one door."""

    outcome: Outcome
    role: InstanceRole
    study_instance_uid: str
    series_instance_uid: str
    sop_instance_uid: str
    path: str
    """Blob key of the bytes in question."""
    sha256: str
    """Hex digest of the data set, File Meta apart."""


class StudyState(StrEnum):
    """Where a study is on its way."""

    DOCUMENTS = "documents only"
    GATHERING = "gathering"
    ANALYSING = "analysing"
    WAITING_FOR_ENGINE = "waiting for engine"
    UNMATCHED = "unmatched"
    ANSWERED = "answered"
    DECLINED = "declined"
    FAILED = "failed"
    QUARANTINED = "quarantined"


class InstanceState(StrEnum):
    """An instance's own state, where it differs from its study's."""

    FOLLOWS_STUDY = "follows study"
    QUARANTINED = "quarantined"
    EXCLUDED = "excluded"
    SUPERSEDED = "superseded"


class VariantState(StrEnum):
    """What became of other bytes under a kept SOP Instance UID."""

    UNCLASSED = "unclassed"
    NOTED = "noted"
    """Re-encoded or harmlessly coerced."""
    HELD = "held"
    """A correction that waits for a person."""
    APPLIED = "applied"
    """A correction that was made: these bytes are current now."""
    REPLACED = "replaced"
    """Current once, until a correction was applied."""
    CONFLICT = "conflict"


class JobState(StrEnum):
    """Where a job is."""

    QUEUED = "queued"
    RUNNING = "running"
    WAITING_FOR_ENGINE = "waiting for engine"
    DONE = "done"
    DECLINED = "declined"
    FAILED = "failed"
    SUPERSEDED = "superseded"


class DeliveryState(StrEnum):
    """Where a result set is on its way to one destination."""

    WAITING = "waiting"
    SENDING = "sending"
    DELIVERED = "delivered"
    CONFIRMED = "confirmed"
    FAILED = "failed"
    SUPERSEDED = "superseded"
    WITHDRAWN = "withdrawn"
    """What was to go out was taken back, or is kept no more."""


class ResultState(StrEnum):
    """Where one result object is."""

    NAMED = "named"
    """Its UID is reserved; the object itself is not kept yet."""
    KEPT = "kept"
    SUPERSEDED = "superseded"
    """A later revision is kept."""
    RETRACTED = "retracted"
    EXPIRED = "expired"
    """Removed here by retention; where it was delivered, it is."""


class RemovalCause(StrEnum):
    """Why an instance is kept no more."""

    DELETED = "deleted"
    """Somebody asked for it: what was made from it is to be looked at."""
    EXPIRED = "expired"
    """Retention: what was made from it stands."""


class NoteState(StrEnum):
    """What a Key Object Selection from a peer came to."""

    UNREAD = "unread"
    NOTED = "noted"
    """It rejects nothing, or nothing that is here can be rejected."""
    HELD = "held"
    """A rejection that waits for a person."""
    APPLIED = "applied"


class ItemState(StrEnum):
    """Where one instance of a delivery is."""

    WAITING = "waiting"
    ACCEPTED = "accepted"
    REFUSED = "refused"
    REPLACED = "replaced"
    """It does not go: the same said in another form went instead; or, of originals, it counts no more here."""


@dataclass(frozen=True)
class StudyFilter:
    """Which studies a caller may see; every query takes one."""

    sender_peers: frozenset[str] | None = None
    """Only studies that one of these peers sent; None: all."""


EVERYTHING = StudyFilter()


@dataclass(frozen=True)
class Sender:
    """One peer that brought instances of a study."""

    peer: str
    calling_ae_title: str
    called_ae_title: str
    host: str
    last_instance_at: datetime
    active: bool
    """It has an association open that brought instances of this study and had traffic lately."""


@dataclass(frozen=True)
class StudyRecord:
    """One study as the index has it."""

    study_instance_uid: str
    patient_id: str
    patient_name: str
    accession_number: str
    study_date: str
    study_time: str
    study_description: str
    modalities: tuple[str, ...]
    number_of_series: int
    number_of_instances: int
    """Everything kept under the study: inputs, documents, results."""
    number_of_inputs: int
    state: StudyState
    reason: str
    input_version: int
    """Counts changes of the study's input; a decision is taken on one version."""
    decision_number: int
    first_received_at: datetime
    gathering_since: datetime
    """First input since the last decision."""
    last_instance_at: datetime
    """Last input."""
    state_since: datetime


@dataclass(frozen=True)
class SeriesRecord:
    """One series as the index has it."""

    study_instance_uid: str
    series_instance_uid: str
    modality: str
    series_number: int | None
    series_description: str
    number_of_instances: int
    number_of_inputs: int


@dataclass(frozen=True)
class InstanceRecord:
    """One kept instance."""

    study_instance_uid: str
    series_instance_uid: str
    sop_instance_uid: str
    sop_class_uid: str
    transfer_syntax_uid: str
    instance_number: int | None
    number_of_frames: int
    role: InstanceRole
    state: InstanceState
    reason: str
    path: str
    """Blob key of the Part 10 file."""
    size: int
    """Bytes of the Part 10 file."""
    sha256: str
    received_at: datetime
    origin: Origin


@dataclass(frozen=True)
class VariantRecord:
    """Other bytes under a kept SOP Instance UID."""

    sop_instance_uid: str
    sha256: str
    transfer_syntax_uid: str
    path: str
    """Blob key of its Part 10 file in the side store."""
    size: int
    state: VariantState
    reason: str
    received_at: datetime
    peer: str
    calling_ae_title: str
    host: str


@dataclass(frozen=True)
class Transition:
    """One change of state, as the ledger keeps it."""

    subject: str
    """`study`, `instance`, `variant`, `job`, `result`, `delivery`, `commitment` or `note`."""
    subject_id: str
    from_state: str
    to_state: str
    reason: str
    at: datetime


@dataclass(frozen=True)
class RouteOutcome:
    """What one rule said of one study."""

    route: str
    engine: str
    matched: bool
    reason: str
    """Which term failed and on what value, or what matched; without patient data."""


@dataclass(frozen=True)
class NewJob:
    """One job that a decision asks for."""

    engine: str
    route: str
    task: str
    series_instance_uids: tuple[str, ...]
    """Series that the rule chose among; for `best` the worker takes the fittest of them."""
    selection: str
    """`best`, `all` or `each`."""
    deliver_to: tuple[str, ...]
    """Names of destinations, `sender` already resolved."""
    deliver_refusals: bool
    settle_until: datetime
    """Results leave no earlier."""
    waiting_for_engine: bool = False
    """The rule's engine is not installed: the job is recorded and not enqueued."""
    priority: Priority = Priority.ROUTINE
    at_most_per_hour: int | None = None
    """Jobs of its rule that start within an hour; a further one waits."""


@dataclass(frozen=True)
class WantedPriors:
    """Which earlier studies of the patient a rule asks for."""

    route: str
    wanted: str
    """JSON of the rule's `priors`."""


@dataclass(frozen=True)
class Onward:
    """Who gets the study itself, as a rule asks for."""

    route: str
    destination: str
    ae_title: str
    """Of the destination: what came from it under that title does not go back. Empty: it has none."""


@dataclass(frozen=True)
class Decision:
    """That a study is complete, on what evidence, and what follows."""

    study_instance_uid: str
    decision_number: int
    input_version: int
    evidence: str
    """`quiet`, `ceiling` or the kind of evidence."""
    reason: str
    decided_at: datetime
    routes: tuple[RouteOutcome, ...]
    jobs: tuple[NewJob, ...]
    priors: tuple[WantedPriors, ...] = ()
    """Earlier studies that are asked for."""
    onward: tuple[Onward, ...] = ()
    """Who gets the originals, each destination once."""


@dataclass(frozen=True)
class JobRecord:
    """One job: one engine on one decision of one study."""

    job_id: str
    """`{study_instance_uid}:{decision_number}:{engine}`."""
    study_instance_uid: str
    decision_number: int
    engine: str
    route: str
    task: str
    series_instance_uids: tuple[str, ...]
    selection: str
    deliver_to: tuple[str, ...]
    deliver_refusals: bool
    settle_until: datetime
    state: JobState
    reason: str
    attempts: int
    """How often the job was started."""
    run_keys: tuple[str, ...]
    """Runs that this job came to; empty until it knows them."""
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    priority: Priority = Priority.ROUTINE
    not_before: datetime | None = None
    """Its rule lets it start no earlier; None: at once."""


@dataclass(frozen=True)
class FindingsRecord:
    """What an engine said once about one set of inputs; never made again."""

    run_key: str
    study_instance_uid: str
    engine: str
    task: str
    revision: int
    """Order of distinct run keys of (study, engine, task), from 1."""
    analysed_at: datetime
    """Start of the analysis: the time that result objects carry."""
    content: bytes
    facts: dict[str, Any] = field(default_factory=dict)
    """What the run was: used instances, engine version and digest, parameters."""


@dataclass(frozen=True)
class ResultRecord:
    """One result object of one run."""

    run_key: str
    form: str
    """`{SEG form}+{SR SOP Class name}`; canonical: `binary+comprehensive-3d`."""
    kind: str
    """`sr` or `seg`."""
    study_instance_uid: str
    series_instance_uid: str
    sop_instance_uid: str
    sop_class_uid: str
    engine: str
    revision: int
    refusal: bool
    current: bool
    """No later revision of (study, engine, task) exists, and it was not taken back."""
    state: ResultState = ResultState.NAMED
    reason: str = ""


@dataclass(frozen=True)
class DeliveryItem:
    """One instance of a delivery, in sending order."""

    sop_instance_uid: str
    kind: str
    state: ItemState
    status: int | None
    """Last DIMSE Status of the destination."""
    reason: str
    accepted_at: datetime | None
    transfer_syntax_uid: str = ""
    """Syntax that it last went in; empty: it did not go yet."""


@dataclass(frozen=True)
class DeliveryRecord:
    """One result set, or the originals of one decision, on the way to one destination."""

    delivery_id: str
    """`{run_key}:{form}:{destination}`, or `{study_instance_uid}:{decision_number}:originals:{destination}`."""
    job_id: str
    """Empty for originals."""
    run_key: str
    """Empty for originals."""
    form: str
    """Of results, of a note that takes them back, or `originals`."""
    study_instance_uid: str
    destination: str
    state: DeliveryState
    reason: str
    attempts: int
    next_attempt_at: datetime
    created_at: datetime
    ended_at: datetime | None
    items: tuple[DeliveryItem, ...]
