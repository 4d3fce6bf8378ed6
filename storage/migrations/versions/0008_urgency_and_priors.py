"""How urgent jobs are, when they may start, how long senders pause, and which earlier studies are fetched."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

_UID = sa.String(length=64)
_MOMENT = sa.String(length=27)


def upgrade() -> None:
    """Add urgency, pauses and priors."""
    op.add_column("jobs", sa.Column("priority", sa.String(length=8), nullable=False, server_default="routine"))
    op.add_column("jobs", sa.Column("not_before", _MOMENT, nullable=True))
    op.create_index("ix_jobs_route", "jobs", ["route", "created_at"])
    op.create_table(
        "study_priorities",
        sa.Column("study_instance_uid", _UID, nullable=False),
        sa.Column("source", sa.String(length=128), nullable=False),
        sa.Column("priority", sa.String(length=8), nullable=False),
        sa.Column("at", _MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("study_instance_uid", "source", name="pk_study_priorities"),
    )
    op.create_table(
        "sender_pauses",
        sa.Column("study_instance_uid", _UID, nullable=False),
        sa.Column("peer", sa.String(length=255), nullable=False),
        sa.Column("calling_ae_title", sa.String(length=16), nullable=False),
        sa.Column("longest_s", sa.Float(), nullable=False),
        sa.Column("at", _MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("study_instance_uid", "peer", "calling_ae_title", name="pk_sender_pauses"),
    )
    op.create_index("ix_sender_pauses_at", "sender_pauses", ["at"])
    op.create_table(
        "prior_fetches",
        sa.Column("study_instance_uid", _UID, nullable=False),
        sa.Column("route", sa.String(length=255), nullable=False),
        sa.Column("wanted", sa.Text(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("next_attempt_at", _MOMENT, nullable=False),
        sa.Column("created_at", _MOMENT, nullable=False),
        sa.Column("ended_at", _MOMENT, nullable=True),
        sa.PrimaryKeyConstraint("study_instance_uid", "route", name="pk_prior_fetches"),
    )
    op.create_index("ix_prior_fetches_state", "prior_fetches", ["state", "next_attempt_at"])
    op.create_table(
        "prior_studies",
        sa.Column("study_instance_uid", _UID, nullable=False),
        sa.Column("for_study", _UID, nullable=False),
        sa.Column("peer", sa.Text(), nullable=False),
        sa.Column("requested_at", _MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("study_instance_uid", name="pk_prior_studies"),
    )
