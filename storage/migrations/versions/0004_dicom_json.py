"""DICOM JSON of instances, made once; those that are kept already are to be made too."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make their tables."""
    op.create_table(
        "json_pending",
        sa.Column("sop_instance_uid", sa.String(length=64), nullable=False),
        sa.ForeignKeyConstraint(
            ["sop_instance_uid"],
            ["instances.sop_instance_uid"],
            name=op.f("fk_json_pending_sop_instance_uid_instances"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("sop_instance_uid", name=op.f("pk_json_pending")),
    )
    op.create_table(
        "json_segments",
        sa.Column("study_instance_uid", sa.String(length=64), nullable=False),
        sa.Column("series_instance_uid", sa.String(length=64), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("number_of_instances", sa.Integer(), nullable=False),
        sa.Column("entries", sa.Text(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["study_instance_uid", "series_instance_uid"],
            ["series.study_instance_uid", "series.series_instance_uid"],
            name="fk_json_segments_series",
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("study_instance_uid", "series_instance_uid", "number", name=op.f("pk_json_segments")),
    )
    op.execute("INSERT INTO json_pending (sop_instance_uid) SELECT sop_instance_uid FROM instances")
