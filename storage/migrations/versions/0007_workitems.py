"""Work items, and the bytes of each study."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the tables; count what each study has."""
    op.create_table(
        "workitems",
        sa.Column("workitem_uid", sa.String(length=64), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("transaction_uid", sa.String(length=64), nullable=False),
        sa.Column("study_instance_uid", sa.String(length=64), nullable=False),
        sa.Column("engine", sa.String(length=64), nullable=False),
        sa.Column("job_id", sa.String(length=160), nullable=False),
        sa.Column("attributes", sa.Text(), nullable=False),
        sa.Column("created_at", sa.String(length=27), nullable=False),
        sa.Column("changed_at", sa.String(length=27), nullable=False),
        sa.PrimaryKeyConstraint("workitem_uid", name=op.f("pk_workitems")),
    )
    op.create_index("ix_workitems_state", "workitems", ["state", "created_at"], unique=False)
    op.create_index("ix_workitems_study_instance_uid", "workitems", ["study_instance_uid"], unique=False)
    op.add_column("studies", sa.Column("size_bytes", sa.BigInteger(), nullable=False, server_default="0"))
    op.execute(
        "UPDATE studies SET size_bytes = COALESCE((SELECT SUM(instances.size) FROM instances"
        " WHERE instances.study_instance_uid = studies.study_instance_uid), 0)"
    )
