"""Others are told of work items."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add subscriptions to work items, and what is to be told."""
    op.create_table(
        "workitem_subscriptions",
        sa.Column("subscriber", sa.String(length=16), nullable=False),
        sa.Column("workitem_uid", sa.String(length=64), nullable=False),
        sa.Column("owner", sa.String(length=64), nullable=False),
        sa.Column("subscribed", sa.Boolean(), nullable=False),
        sa.Column("deletion_lock", sa.Boolean(), nullable=False),
        sa.Column("filter", sa.Text(), nullable=False),
        sa.Column("after_event", sa.Integer(), nullable=False),
        sa.Column("suspended_at", sa.String(length=27), nullable=True),
        sa.Column("created_at", sa.String(length=27), nullable=False),
        sa.PrimaryKeyConstraint("subscriber", "workitem_uid", name="pk_workitem_subscriptions"),
    )
    op.create_table(
        "workitem_events",
        sa.Column("number", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("workitem_uid", sa.String(length=64), nullable=False),
        sa.Column("event_type", sa.Integer(), nullable=False),
        sa.Column("subscriber", sa.String(length=16), nullable=False),
        sa.Column("information", sa.Text(), nullable=False),
        sa.Column("at", sa.String(length=27), nullable=False),
        sa.PrimaryKeyConstraint("number", name="pk_workitem_events"),
    )
