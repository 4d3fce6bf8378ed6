"""Keys may expire."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add when a key ends; NULL: never."""
    op.add_column("api_keys", sa.Column("expires_at", sa.String(length=27), nullable=True))
