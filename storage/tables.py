"""Tables of the index, one schema for SQLite and PostgreSQL. Rows never leave this room.

Times are UTC, stored as fixed-width ISO 8601 text by `UtcDateTime`, so that both engines compare them alike.
"""

from __future__ import annotations

from datetime import UTC, datetime

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeDecorator


class UtcDateTime(TypeDecorator[datetime]):
    """An aware time, kept as text such as `2026-11-24T09:30:00.123456Z`."""

    impl = String(27)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> str | None:
        """Refuse naive times; write UTC with microseconds."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a time without a zone cannot be kept")
        return value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")

    def process_result_value(self, value: str | None, dialect: Dialect) -> datetime | None:
        """Give an aware UTC time."""
        if value is None:
            return None
        return datetime.fromisoformat(value)  # its Z says UTC; a twentieth of what strptime takes


metadata = MetaData(
    naming_convention={
        "ix": "ix_%(column_0_label)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)

UID = String(64)

studies = Table(
    "studies",
    metadata,
    Column("study_instance_uid", UID, primary_key=True),
    # Values as QIDO-RS and C-FIND give them (decoded Unicode), and folded for matching.
    Column("patient_name", Text, nullable=False, default=""),
    Column("patient_name_folded", Text, nullable=False, default=""),
    Column("patient_id", Text, nullable=False, default=""),
    Column("issuer_of_patient_id", Text, nullable=False, default=""),
    Column("patient_birth_date", String(64), nullable=False, default=""),
    Column("patient_sex", String(64), nullable=False, default=""),
    Column("study_date", String(64), nullable=False, default=""),
    Column("study_time", String(64), nullable=False, default=""),
    Column("accession_number", Text, nullable=False, default=""),
    Column("study_id", Text, nullable=False, default=""),
    Column("study_description", Text, nullable=False, default=""),
    Column("referring_physician_name", Text, nullable=False, default=""),
    Column("modalities", Text, nullable=False, default=""),  # sorted, joined by a backslash
    Column("attributes", Text, nullable=False, default="{}"),  # DICOM JSON of the study level
    Column("number_of_series", Integer, nullable=False, default=0),
    Column("number_of_instances", Integer, nullable=False, default=0),
    Column("number_of_inputs", Integer, nullable=False, default=0),
    Column("size_bytes", BigInteger, nullable=False, default=0),  # of all that is kept of it, side store apart
    Column("state", String(32), nullable=False),
    Column("reason", Text, nullable=False, default=""),
    Column("state_since", UtcDateTime, nullable=False),
    Column("input_version", Integer, nullable=False, default=0),
    Column("decision_number", Integer, nullable=False, default=0),
    Column("first_received_at", UtcDateTime, nullable=False),
    Column("gathering_since", UtcDateTime, nullable=False),
    Column("last_instance_at", UtcDateTime, nullable=False),
    Index("ix_studies_state", "state"),
    Index("ix_studies_patient_id", "patient_id"),
    Index("ix_studies_accession_number", "accession_number"),
    Index("ix_studies_study_date", "study_date", "study_time"),
    Index("ix_studies_patient_name_folded", "patient_name_folded", "study_instance_uid"),
    Index("ix_studies_last_instance_at", "last_instance_at"),
)

series = Table(
    "series",
    metadata,
    Column("study_instance_uid", UID, ForeignKey("studies.study_instance_uid"), primary_key=True),
    Column("series_instance_uid", UID, primary_key=True),
    Column("modality", String(32), nullable=False, default=""),
    Column("series_number", Integer),
    Column("series_description", Text, nullable=False, default=""),
    Column("attributes", Text, nullable=False, default="{}"),  # DICOM JSON of the series level
    Column("number_of_instances", Integer, nullable=False, default=0),
    Column("number_of_inputs", Integer, nullable=False, default=0),
    Column("first_received_at", UtcDateTime, nullable=False),
)

instances = Table(
    "instances",
    metadata,
    Column("sop_instance_uid", UID, primary_key=True),
    Column("study_instance_uid", UID, ForeignKey("studies.study_instance_uid"), nullable=False),
    Column("series_instance_uid", UID, nullable=False),
    Column("sop_class_uid", UID, nullable=False),
    Column("transfer_syntax_uid", UID, nullable=False),
    Column("instance_number", Integer),
    Column("number_of_frames", Integer, nullable=False, default=1),
    Column("attributes", Text, nullable=False, default="{}"),  # DICOM JSON of the instance level
    # Whom the instance says it is of: JSON list of ID, issuer, name, birth date, sex, each normalised.
    Column("patient", Text, nullable=False, default="[]"),
    Column("role", String(16), nullable=False),
    Column("state", String(16), nullable=False),
    Column("reason", Text, nullable=False, default=""),
    Column("path", Text, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("sha256", String(64), nullable=False),
    Column("received_at", UtcDateTime, nullable=False),
    Column("origin_kind", String(16), nullable=False),
    Column("peer", Text, nullable=False, default=""),
    Column("calling_ae_title", String(16), nullable=False, default=""),
    Column("called_ae_title", String(16), nullable=False, default=""),
    Column("host", Text, nullable=False, default=""),
    Column("association_id", String(64)),
    Index("ix_instances_series", "study_instance_uid", "series_instance_uid", "instance_number"),
    # The few that a rejection took out of the count.
    Index(
        "ix_instances_excluded",
        "study_instance_uid",
        "series_instance_uid",
        sqlite_where=text("state = 'excluded'"),
        postgresql_where=text("state = 'excluded'"),
    ),
)

#: Instances whose DICOM JSON is to be made: written with the instance, removed with the segment that holds it.
json_pending = Table(
    "json_pending",
    metadata,
    Column("sop_instance_uid", UID, ForeignKey("instances.sop_instance_uid", ondelete="CASCADE"), primary_key=True),
)

#: DICOM JSON of instances of a series, many in one row: they share most of their text and compress 60-fold together.
json_segments = Table(
    "json_segments",
    metadata,
    Column("study_instance_uid", UID, primary_key=True),
    Column("series_instance_uid", UID, primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("number_of_instances", Integer, nullable=False),
    Column("entries", Text, nullable=False),  # JSON list of [SOP Instance UID, beginning of its SHA-256, bytes]
    Column("body", LargeBinary, nullable=False),  # the instances' JSON one after another, deflated
    ForeignKeyConstraint(
        ["study_instance_uid", "series_instance_uid"],
        ["series.study_instance_uid", "series.series_instance_uid"],
        name="fk_json_segments_series",
        ondelete="CASCADE",
    ),
)

#: Other bytes under a kept SOP Instance UID: durable, answered Success, classed later by the courier.
variants = Table(
    "variants",
    metadata,
    Column("sop_instance_uid", UID, ForeignKey("instances.sop_instance_uid"), primary_key=True),
    Column("sha256", String(64), primary_key=True),
    Column("transfer_syntax_uid", UID, primary_key=True),
    Column("path", Text, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("state", String(16), nullable=False),
    Column("reason", Text, nullable=False, default=""),
    Column("received_at", UtcDateTime, nullable=False),
    Column("peer", Text, nullable=False, default=""),
    Column("calling_ae_title", String(16), nullable=False, default=""),
    Column("host", Text, nullable=False, default=""),
    Index("ix_variants_state", "state"),
)

#: Who brought input instances of a study, over which association.
contributions = Table(
    "contributions",
    metadata,
    Column("study_instance_uid", UID, ForeignKey("studies.study_instance_uid"), primary_key=True),
    Column("association_id", String(64), primary_key=True),  # or the origin's kind where there is no association
    Column("peer", Text, nullable=False, default=""),
    Column("calling_ae_title", String(16), nullable=False, default=""),
    Column("called_ae_title", String(16), nullable=False, default=""),
    Column("host", Text, nullable=False, default=""),
    Column("last_instance_at", UtcDateTime, nullable=False),
)

decisions = Table(
    "decisions",
    metadata,
    Column("study_instance_uid", UID, ForeignKey("studies.study_instance_uid"), primary_key=True),
    Column("decision_number", Integer, primary_key=True),
    Column("input_version", Integer, nullable=False),
    Column("evidence", String(32), nullable=False),
    Column("reason", Text, nullable=False),
    Column("decided_at", UtcDateTime, nullable=False),
    Column("routes", Text, nullable=False, default="[]"),  # JSON of RouteOutcome
)

jobs = Table(
    "jobs",
    metadata,
    Column("job_id", String(160), primary_key=True),
    Column("study_instance_uid", UID, ForeignKey("studies.study_instance_uid"), nullable=False),
    Column("decision_number", Integer, nullable=False),
    Column("engine", String(64), nullable=False),
    Column("route", Text, nullable=False),
    Column("task", String(64), nullable=False),
    Column("series_instance_uids", Text, nullable=False),  # JSON list
    Column("selection", String(8), nullable=False),
    Column("deliver_to", Text, nullable=False),  # JSON list
    Column("deliver_refusals", Boolean, nullable=False),
    Column("settle_until", UtcDateTime, nullable=False),
    Column("state", String(32), nullable=False),
    Column("reason", Text, nullable=False, default=""),
    Column("attempts", Integer, nullable=False, default=0),
    Column("run_keys", Text, nullable=False, default="[]"),  # JSON list
    Column("created_at", UtcDateTime, nullable=False),
    Column("started_at", UtcDateTime),
    Column("ended_at", UtcDateTime),
    Column("priority", String(8), nullable=False, server_default="routine"),
    Column("not_before", UtcDateTime),  # NULL: at once
    Index("ix_jobs_study_instance_uid", "study_instance_uid"),
    Index("ix_jobs_route", "route", "created_at"),
    Index("ix_jobs_state", "state"),
)

findings = Table(
    "findings",
    metadata,
    Column("run_key", String(64), primary_key=True),
    Column("study_instance_uid", UID, ForeignKey("studies.study_instance_uid"), nullable=False),
    Column("engine", String(64), nullable=False),
    Column("task", String(64), nullable=False),
    Column("revision", Integer, nullable=False),
    Column("analysed_at", UtcDateTime, nullable=False),
    Column("path", Text, nullable=False),  # blob key of the encoded findings
    Column("facts", Text, nullable=False, default="{}"),
    UniqueConstraint("study_instance_uid", "engine", "task", "revision", name="uq_findings_revision"),
)

results = Table(
    "results",
    metadata,
    Column("sop_instance_uid", UID, primary_key=True),  # reserved before the instance itself is kept
    Column("run_key", String(64), ForeignKey("findings.run_key"), nullable=False),
    Column("form", String(64), nullable=False),
    Column("kind", String(16), nullable=False),
    Column("study_instance_uid", UID, nullable=False),
    Column("series_instance_uid", UID, nullable=False),
    Column("sop_class_uid", UID, nullable=False),
    Column("refusal", Boolean, nullable=False, default=False),
    Column("state", String(16), nullable=False),
    Column("reason", Text, nullable=False, default=""),
    Column("state_since", UtcDateTime, nullable=False),
    UniqueConstraint("run_key", "form", "kind", name="uq_results_run"),
    Index("ix_results_study_instance_uid", "study_instance_uid"),
)

deliveries = Table(
    "deliveries",
    metadata,
    Column("delivery_id", String(255), primary_key=True),
    Column("job_id", String(160), ForeignKey("jobs.job_id")),  # NULL: originals
    Column("run_key", String(64), ForeignKey("findings.run_key")),  # NULL: originals
    Column("form", String(64), nullable=False),
    Column("study_instance_uid", UID, nullable=False),
    Column("destination", Text, nullable=False),
    Column("state", String(16), nullable=False),
    Column("reason", Text, nullable=False, default=""),
    Column("attempts", Integer, nullable=False, default=0),
    Column("next_attempt_at", UtcDateTime, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("ended_at", UtcDateTime),
    Index("ix_deliveries_state", "state", "next_attempt_at"),
    Index("ix_deliveries_study_instance_uid", "study_instance_uid"),
)

delivery_items = Table(
    "delivery_items",
    metadata,
    Column("delivery_id", String(255), ForeignKey("deliveries.delivery_id"), primary_key=True),
    Column("position", Integer, primary_key=True),
    Column("sop_instance_uid", UID, nullable=False),
    Column("kind", String(16), nullable=False),
    Column("state", String(16), nullable=False),
    Column("status", Integer),
    Column("reason", Text, nullable=False, default=""),
    Column("accepted_at", UtcDateTime),
    Column("transfer_syntax_uid", UID, nullable=False, default="", server_default=""),  # that it went in
    Column("sha256", String(64), nullable=False, server_default=""),  # of an original, as it was when it was asked for
    Index("ix_delivery_items_sop_instance_uid", "sop_instance_uid"),
)

#: Deliveries whose keeping at the destination is to be made sure of: how that stands.
confirmations = Table(
    "confirmations",
    metadata,
    Column("delivery_id", String(255), ForeignKey("deliveries.delivery_id"), primary_key=True),
    Column("transaction_uid", UID, nullable=False, default=""),  # of the storage commitment that was asked for
    Column("answer", Text, nullable=False, default=""),  # JSON: what its report says; empty: none came
    Column("attempts", Integer, nullable=False, default=0),
    Column("misses", Integer, nullable=False, default=0),
    Column("sent_again", Integer, nullable=False, default=0),
    Column("next_attempt_at", UtcDateTime, nullable=False),
    Column("reason", Text, nullable=False, default=""),
    Column("ended_at", UtcDateTime),
    Index("ix_confirmations_next_attempt_at", "ended_at", "next_attempt_at"),
    Index("ix_confirmations_transaction_uid", "transaction_uid"),
)

#: Storage commitments that peers asked for. A committed instance is exempt from purging.
commitments = Table(
    "commitments",
    metadata,
    Column("commitment_id", String(128), primary_key=True),
    Column("transaction_uid", UID, nullable=False),
    Column("peer", Text, nullable=False, default=""),
    Column("calling_ae_title", String(16), nullable=False),
    Column("called_ae_title", String(16), nullable=False),
    Column("host", Text, nullable=False, default=""),
    Column("association_id", String(64), nullable=False, default=""),
    Column("state", String(16), nullable=False),
    Column("reason", Text, nullable=False, default=""),
    Column("attempts", Integer, nullable=False, default=0),
    Column("next_attempt_at", UtcDateTime, nullable=False),
    Column("requested_at", UtcDateTime, nullable=False),
    Column("ended_at", UtcDateTime),
    Index("ix_commitments_state", "state", "next_attempt_at"),
    Index("ix_commitments_transaction_uid", "transaction_uid"),
)

commitment_items = Table(
    "commitment_items",
    metadata,
    Column("commitment_id", String(128), ForeignKey("commitments.commitment_id"), primary_key=True),
    Column("position", Integer, primary_key=True),
    Column("sop_class_uid", UID, nullable=False),
    Column("sop_instance_uid", UID, nullable=False),
    Column("failure_reason", Integer),  # NULL: committed
    Column("committed_at", UtcDateTime),
    Index("ix_commitment_items_sop_instance_uid", "sop_instance_uid"),
)

#: Work items (UPS), asked for over HTTP.
workitems = Table(
    "workitems",
    metadata,
    Column("workitem_uid", UID, primary_key=True),
    Column("state", String(16), nullable=False),
    Column("reason", Text, nullable=False, default=""),
    Column("transaction_uid", UID, nullable=False, default=""),  # of who performs it
    Column("study_instance_uid", UID, nullable=False, default=""),  # that it is about; it may not be kept
    Column("engine", String(64), nullable=False, default=""),  # of ours that is to do it; empty: others do it
    Column("job_id", String(160), nullable=False, default=""),
    Column("attributes", Text, nullable=False),  # DICOM JSON, state and transaction UID apart
    Column("created_at", UtcDateTime, nullable=False),
    Column("changed_at", UtcDateTime, nullable=False),
    Index("ix_workitems_state", "state", "created_at"),
    Index("ix_workitems_study_instance_uid", "study_instance_uid"),
)

#: Who is told of work items; all and filtered ones have well-known UIDs in place of a work item's.
workitem_subscriptions = Table(
    "workitem_subscriptions",
    metadata,
    Column("subscriber", String(16), primary_key=True),
    Column("workitem_uid", UID, primary_key=True),
    Column("owner", String(64), nullable=False),  # who may change it
    Column("subscribed", Boolean, nullable=False),  # false: left out of what is told of all
    Column("deletion_lock", Boolean, nullable=False),
    Column("filter", Text, nullable=False),  # JSON list of [tags, value]
    Column("after_event", Integer, nullable=False),  # number of the event before it: what came earlier is not told
    Column("suspended_at", UtcDateTime),  # of work items that are created later nothing is told
    Column("created_at", UtcDateTime, nullable=False),
)

#: What subscribers are to be told of work items; the oldest are removed.
workitem_events = Table(
    "workitem_events",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=True),
    Column("workitem_uid", UID, nullable=False),
    Column("event_type", Integer, nullable=False),
    Column("subscriber", String(16), nullable=False, default=""),  # alone; empty: whoever subscribed
    Column("information", Text, nullable=False),  # DICOM JSON
    Column("at", UtcDateTime, nullable=False),
)

#: How urgent others say that a study is: a UPS workitem, a worklist. It may not have come yet.
study_priorities = Table(
    "study_priorities",
    metadata,
    Column("study_instance_uid", UID, primary_key=True),
    Column("source", String(128), primary_key=True),
    Column("priority", String(8), nullable=False),
    Column("at", UtcDateTime, nullable=False),
)

#: That a rule asked for earlier studies of a study's patient.
prior_fetches = Table(
    "prior_fetches",
    metadata,
    Column("study_instance_uid", UID, primary_key=True),
    Column("route", String(255), primary_key=True),
    Column("wanted", Text, nullable=False),  # JSON of PriorsWanted
    Column("state", String(16), nullable=False),
    Column("reason", Text, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("next_attempt_at", UtcDateTime, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("ended_at", UtcDateTime),
    Index("ix_prior_fetches_state", "state", "next_attempt_at"),
)

#: Studies that the node itself fetched: kept beside the study that they are for, not analysed.
prior_studies = Table(
    "prior_studies",
    metadata,
    Column("study_instance_uid", UID, primary_key=True),
    Column("for_study", UID, nullable=False),
    Column("peer", Text, nullable=False),
    Column("requested_at", UtcDateTime, nullable=False),
)

transitions = Table(
    "transitions",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=True),
    Column("subject", String(16), nullable=False),
    Column("subject_id", String(255), nullable=False),
    Column("from_state", String(32), nullable=False),
    Column("to_state", String(32), nullable=False),
    Column("reason", Text, nullable=False),
    Column("at", UtcDateTime, nullable=False),
    Index("ix_transitions_subject", "subject", "subject_id"),
)
