"""Instances that a rejection took out of the count are found at once."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Index the excluded instances alone: there are few."""
    excluded = sa.text("state = 'excluded'")
    op.create_index(
        "ix_instances_excluded",
        "instances",
        ["study_instance_uid", "series_instance_uid"],
        sqlite_where=excluded,
        postgresql_where=excluded,
    )
