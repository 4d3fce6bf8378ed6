"""What destinations take is remembered."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add what destinations answered for SOP Classes."""
    op.create_table(
        "peer_classes",
        sa.Column("peer", sa.String(length=255), nullable=False),
        sa.Column("sop_class_uid", sa.String(length=64), nullable=False),
        sa.Column("accepted", sa.Boolean(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("at", sa.String(length=27), nullable=False),
        sa.PrimaryKeyConstraint("peer", "sop_class_uid", name=op.f("pk_peer_classes")),
    )
