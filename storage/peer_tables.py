"""Tables of whom the node meets: callers, their associations and announcements, keys, and the record of access."""

from __future__ import annotations

from sqlalchemy import Boolean, Column, Float, ForeignKey, Index, Integer, LargeBinary, String, Table, Text

from storage.tables import UID, UtcDateTime, metadata

#: Associations as requested by peers; `last_traffic_at` is refreshed at most twice a second.
associations = Table(
    "associations",
    metadata,
    Column("association_id", String(64), primary_key=True),
    Column("receiver", Text, nullable=False),
    Column("peer", Text, nullable=False, default=""),
    Column("calling_ae_title", String(16), nullable=False, default=""),
    Column("called_ae_title", String(16), nullable=False, default=""),
    Column("host", Text, nullable=False, default=""),
    Column("opened_at", UtcDateTime, nullable=False),
    Column("last_traffic_at", UtcDateTime, nullable=False),
    Column("closed_at", UtcDateTime),
    Column("end", String(16), nullable=False, default=""),  # released, aborted, lost
    Index("ix_associations_closed_at", "closed_at"),
)

refused_callers = Table(
    "refused_callers",
    metadata,
    Column("calling_ae_title", String(16), primary_key=True),
    Column("called_ae_title", String(16), primary_key=True),
    Column("host", String(255), primary_key=True),
    Column("reason", Text, nullable=False),
    Column("count", Integer, nullable=False, default=1),
    Column("last_at", UtcDateTime, nullable=False),
)

#: What peers announced: procedure steps (MPPS) and available instances (IAN), as evidence of completeness.
announcements = Table(
    "announcements",
    metadata,
    Column("sop_instance_uid", UID, primary_key=True),
    Column("kind", String(16), nullable=False),
    Column("state", String(16), nullable=False),
    Column("peer", Text, nullable=False, default=""),
    Column("calling_ae_title", String(16), nullable=False, default=""),
    Column("called_ae_title", String(16), nullable=False, default=""),
    Column("host", Text, nullable=False, default=""),
    Column("received_at", UtcDateTime, nullable=False),
    Column("changed_at", UtcDateTime, nullable=False),
    Column("number_named", Integer, nullable=False, default=0),
    Column("attributes", Text, nullable=False, default="{}"),  # DICOM JSON, as the peer gave it
)

announced_studies = Table(
    "announced_studies",
    metadata,
    Column("study_instance_uid", UID, primary_key=True),  # it may not have come yet
    Column("announcement_uid", UID, ForeignKey("announcements.sop_instance_uid"), primary_key=True),
)

announced_instances = Table(
    "announced_instances",
    metadata,
    Column("announcement_uid", UID, ForeignKey("announcements.sop_instance_uid"), primary_key=True),
    Column("sop_instance_uid", UID, primary_key=True),
    Column("series_instance_uid", UID, nullable=False, default=""),
    Column("sop_class_uid", UID, nullable=False, default=""),
    Index("ix_announced_instances_sop_instance_uid", "sop_instance_uid"),
)

audit_events = Table(
    "audit_events",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=True),
    Column("at", UtcDateTime, nullable=False),
    Column("action", String(32), nullable=False),
    Column("actor", Text, nullable=False),
    Column("study_instance_uid", UID),
    Column("outcome", String(16), nullable=False),
    Column("detail", Text, nullable=False, default=""),
    Index("ix_audit_events_at", "at"),
)

api_keys = Table(
    "api_keys",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("salt", LargeBinary, nullable=False),
    Column("digest", LargeBinary, nullable=False),
    Column("permissions", Text, nullable=False),  # JSON list
    Column("sender_peers", Text),  # JSON list; NULL: every study
    Column("created_at", UtcDateTime, nullable=False),
    Column("revoked_at", UtcDateTime),
    Column("expires_at", UtcDateTime),  # NULL: never
)

#: What destinations answered for SOP Classes: those that one refused are not tried there first.
peer_classes = Table(
    "peer_classes",
    metadata,
    Column("peer", String(255), primary_key=True),
    Column("sop_class_uid", UID, primary_key=True),
    Column("accepted", Boolean, nullable=False),
    Column("reason", Text, nullable=False, default=""),
    Column("at", UtcDateTime, nullable=False),
)

#: The longest pause that a sender made within a study.
sender_pauses = Table(
    "sender_pauses",
    metadata,
    Column("study_instance_uid", UID, primary_key=True),
    Column("peer", String(255), primary_key=True),
    Column("calling_ae_title", String(16), primary_key=True),
    Column("longest_s", Float, nullable=False),
    Column("at", UtcDateTime, nullable=False),
    Index("ix_sender_pauses_at", "at"),
)
