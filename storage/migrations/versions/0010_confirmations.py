"""Deliveries are confirmed."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add how the confirmation of each delivery stands; what was delivered before is not asked about."""
    op.create_table(
        "confirmations",
        sa.Column("delivery_id", sa.String(length=255), nullable=False),
        sa.Column("transaction_uid", sa.String(length=64), nullable=False),
        sa.Column("answer", sa.Text(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("misses", sa.Integer(), nullable=False),
        sa.Column("sent_again", sa.Integer(), nullable=False),
        sa.Column("next_attempt_at", sa.String(length=27), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("ended_at", sa.String(length=27), nullable=True),
        sa.ForeignKeyConstraint(
            ["delivery_id"], ["deliveries.delivery_id"], name=op.f("fk_confirmations_delivery_id_deliveries")
        ),
        sa.PrimaryKeyConstraint("delivery_id", name=op.f("pk_confirmations")),
    )
    op.create_index("ix_confirmations_next_attempt_at", "confirmations", ["ended_at", "next_attempt_at"])
    op.create_index("ix_confirmations_transaction_uid", "confirmations", ["transaction_uid"])
