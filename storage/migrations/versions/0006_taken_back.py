"""What is taken back, who is told, and where results are."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the tables, and give each result its state."""
    _give_results_states()
    _make_tables()


def _give_results_states() -> None:
    op.add_column("results", sa.Column("state", sa.String(length=16), nullable=False, server_default="named"))
    op.add_column("results", sa.Column("reason", sa.Text(), nullable=False, server_default=""))
    op.add_column("results", sa.Column("state_since", sa.String(length=27), nullable=False, server_default=""))
    # A result is there since its run was made; it is kept where its instance is, and the last kept revision counts.
    op.execute(
        "UPDATE results SET state_since = (SELECT analysed_at FROM findings f WHERE f.run_key = results.run_key)"
    )
    op.execute(
        "UPDATE results SET state = 'kept' WHERE EXISTS "
        "(SELECT 1 FROM instances i WHERE i.sop_instance_uid = results.sop_instance_uid)"
    )
    op.execute(
        "UPDATE results SET state = 'superseded', reason = 'A later revision took its place.' WHERE state = 'kept' "
        "AND EXISTS (SELECT 1 FROM findings mine JOIN findings later ON later.study_instance_uid = "
        "mine.study_instance_uid AND later.engine = mine.engine AND later.task = mine.task AND later.revision > "
        "mine.revision JOIN results r ON r.run_key = later.run_key AND r.state <> 'named' "
        "WHERE mine.run_key = results.run_key)"
    )
    op.execute(
        "INSERT INTO transitions (subject, subject_id, from_state, to_state, reason, at) "
        "SELECT 'result', sop_instance_uid, '', state, reason, state_since FROM results"
    )


def _make_tables() -> None:
    op.create_table(
        "changed_sources",
        sa.Column("number", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("study_instance_uid", sa.String(length=64), nullable=False),
        sa.Column("title", sa.String(length=16), nullable=False),
        sa.Column("said", sa.Text(), nullable=False),
        sa.Column("asked_by", sa.Text(), nullable=False),
        sa.Column("at", sa.String(length=27), nullable=False),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_changed_sources")),
    )
    op.create_table(
        "cursors",
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_cursors")),
    )
    op.create_table(
        "notices",
        sa.Column("number", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("hook", sa.String(length=64), nullable=False),
        sa.Column("event", sa.String(length=32), nullable=False),
        sa.Column("subject_id", sa.String(length=255), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("next_attempt_at", sa.String(length=27), nullable=False),
        sa.Column("created_at", sa.String(length=27), nullable=False),
        sa.Column("ended_at", sa.String(length=27), nullable=True),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_notices")),
    )
    op.create_index("ix_notices_state", "notices", ["hook", "state", "next_attempt_at"], unique=False)
    op.create_table(
        "rejection_notes",
        sa.Column("sop_instance_uid", sa.String(length=64), nullable=False),
        sa.Column("study_instance_uid", sa.String(length=64), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("title", sa.String(length=16), nullable=False),
        sa.Column("peer", sa.Text(), nullable=False),
        sa.Column("received_at", sa.String(length=27), nullable=False),
        sa.PrimaryKeyConstraint("sop_instance_uid", name=op.f("pk_rejection_notes")),
    )
    op.create_index("ix_rejection_notes_state", "rejection_notes", ["state"], unique=False)
    op.create_table(
        "removed_files",
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("removed_at", sa.String(length=27), nullable=False),
        sa.PrimaryKeyConstraint("path", name=op.f("pk_removed_files")),
    )
    op.create_table(
        "removed_instances",
        sa.Column("number", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("sop_instance_uid", sa.String(length=64), nullable=False),
        sa.Column("study_instance_uid", sa.String(length=64), nullable=False),
        sa.Column("series_instance_uid", sa.String(length=64), nullable=False),
        sa.Column("role", sa.String(length=16), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("cause", sa.String(length=16), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("removed_by", sa.Text(), nullable=False),
        sa.Column("removed_at", sa.String(length=27), nullable=False),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_removed_instances")),
    )
    op.create_index("ix_removed_instances_sop_instance_uid", "removed_instances", ["sop_instance_uid"], unique=False)
    op.create_index(
        "ix_removed_instances_study_instance_uid", "removed_instances", ["study_instance_uid"], unique=False
    )
    op.create_table(
        "rejected_instances",
        sa.Column("note_uid", sa.String(length=64), nullable=False),
        sa.Column("sop_instance_uid", sa.String(length=64), nullable=False),
        sa.Column("study_instance_uid", sa.String(length=64), nullable=False),
        sa.ForeignKeyConstraint(
            ["note_uid"],
            ["rejection_notes.sop_instance_uid"],
            name=op.f("fk_rejected_instances_note_uid_rejection_notes"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("note_uid", "sop_instance_uid", name=op.f("pk_rejected_instances")),
    )
    op.create_index("ix_rejected_instances_sop_instance_uid", "rejected_instances", ["sop_instance_uid"], unique=False)
    op.create_index(
        "ix_rejected_instances_study_instance_uid", "rejected_instances", ["study_instance_uid"], unique=False
    )
    op.create_table(
        "retractions",
        sa.Column("run_key", sa.String(length=64), nullable=False),
        sa.Column("study_instance_uid", sa.String(length=64), nullable=False),
        sa.Column("title", sa.String(length=16), nullable=False),
        sa.Column("said", sa.Text(), nullable=False),
        sa.Column("asked_by", sa.Text(), nullable=False),
        sa.Column("asked_at", sa.String(length=27), nullable=False),
        sa.Column("noted_at", sa.String(length=27), nullable=True),
        sa.ForeignKeyConstraint(["run_key"], ["findings.run_key"], name=op.f("fk_retractions_run_key_findings")),
        sa.PrimaryKeyConstraint("run_key", name=op.f("pk_retractions")),
    )
    op.create_index("ix_retractions_noted_at", "retractions", ["noted_at"], unique=False)
    op.create_index("ix_retractions_study_instance_uid", "retractions", ["study_instance_uid"], unique=False)
