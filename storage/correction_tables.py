"""Tables of what is taken back: removed and rejected instances, retracted results; and notices of it to others."""

from __future__ import annotations

from sqlalchemy import Column, ForeignKey, Index, Integer, String, Table, Text

from storage.tables import UID, UtcDateTime, metadata

#: Instances that were kept and were removed: what became of them stays known.
removed_instances = Table(
    "removed_instances",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=True),
    Column("sop_instance_uid", UID, nullable=False),
    Column("study_instance_uid", UID, nullable=False),
    Column("series_instance_uid", UID, nullable=False),
    Column("role", String(16), nullable=False),
    Column("sha256", String(64), nullable=False),
    Column("cause", String(16), nullable=False),
    Column("reason", Text, nullable=False),
    Column("removed_by", Text, nullable=False),
    Column("removed_at", UtcDateTime, nullable=False),
    Index("ix_removed_instances_study_instance_uid", "study_instance_uid"),
    Index("ix_removed_instances_sop_instance_uid", "sop_instance_uid"),
)

#: Files whose rows are gone and that are to be deleted: written with the removal, so that none is taken for an orphan.
removed_files = Table(
    "removed_files",
    metadata,
    Column("path", Text, primary_key=True),
    Column("removed_at", UtcDateTime, nullable=False),
)

#: Studies whose sources were changed: results that were made from them are to be looked at.
changed_sources = Table(
    "changed_sources",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=True),
    Column("study_instance_uid", UID, nullable=False),
    Column("title", String(16), nullable=False),  # code value of the rejection, CID 7011
    Column("said", Text, nullable=False),
    Column("asked_by", Text, nullable=False),
    Column("at", UtcDateTime, nullable=False),
)

#: Runs whose results are taken back, and whether the notes that say so were made.
retractions = Table(
    "retractions",
    metadata,
    Column("run_key", String(64), ForeignKey("findings.run_key"), primary_key=True),
    Column("study_instance_uid", UID, nullable=False),
    Column("title", String(16), nullable=False),  # code value of the rejection, CID 7011
    Column("said", Text, nullable=False),
    Column("asked_by", Text, nullable=False),
    Column("asked_at", UtcDateTime, nullable=False),
    Column("noted_at", UtcDateTime),  # NULL: its notes are to be made
    Index("ix_retractions_noted_at", "noted_at"),
    Index("ix_retractions_study_instance_uid", "study_instance_uid"),
)

#: Key Object Selections that came from peers: whether they reject anything, and what was made of it.
rejection_notes = Table(
    "rejection_notes",
    metadata,
    Column("sop_instance_uid", UID, primary_key=True),
    Column("study_instance_uid", UID, nullable=False),
    Column("state", String(16), nullable=False),
    Column("reason", Text, nullable=False, default=""),
    Column("title", String(16), nullable=False, default=""),  # code value; empty: not read yet, or no rejection
    Column("peer", Text, nullable=False, default=""),
    Column("received_at", UtcDateTime, nullable=False),
    Index("ix_rejection_notes_state", "state"),
)

#: What a rejection note names, whether it is here or not.
rejected_instances = Table(
    "rejected_instances",
    metadata,
    Column("note_uid", UID, ForeignKey("rejection_notes.sop_instance_uid", ondelete="CASCADE"), primary_key=True),
    Column("sop_instance_uid", UID, primary_key=True),
    Column("study_instance_uid", UID, nullable=False),
    Index("ix_rejected_instances_sop_instance_uid", "sop_instance_uid"),
    Index("ix_rejected_instances_study_instance_uid", "study_instance_uid"),
)

#: What is to be told to a webhook.
notices = Table(
    "notices",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=True),
    Column("hook", String(64), nullable=False),
    Column("event", String(32), nullable=False),
    Column("subject_id", String(255), nullable=False),
    Column("body", Text, nullable=False),  # JSON, as it is sent
    Column("state", String(16), nullable=False),
    Column("reason", Text, nullable=False, default=""),
    Column("attempts", Integer, nullable=False, default=0),
    Column("next_attempt_at", UtcDateTime, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("ended_at", UtcDateTime),
    Index("ix_notices_state", "hook", "state", "next_attempt_at"),
)

#: How far somebody has read the ledger.
cursors = Table(
    "cursors",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("number", Integer, nullable=False),
)
