"""Originals are sent onward too: a delivery need not be of a job's results."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Let a delivery have no job and no run, and an item know the bytes that were asked for."""
    with op.batch_alter_table("deliveries") as deliveries:
        deliveries.alter_column("job_id", existing_type=sa.String(length=160), nullable=True)
        deliveries.alter_column("run_key", existing_type=sa.String(length=64), nullable=True)
    op.add_column("delivery_items", sa.Column("sha256", sa.String(length=64), nullable=False, server_default=""))
    op.create_index("ix_delivery_items_sop_instance_uid", "delivery_items", ["sop_instance_uid"])
