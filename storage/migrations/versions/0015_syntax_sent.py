"""Deliveries know the transfer syntax that each instance went in."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add it; of what went before, nothing is known."""
    column = sa.Column("transfer_syntax_uid", sa.String(length=64), nullable=False, server_default="")
    op.add_column("delivery_items", column)
