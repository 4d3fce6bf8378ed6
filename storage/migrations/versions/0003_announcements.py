"""What peers announce: procedure steps and available instances."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make their tables."""
    op.create_table(
        "announcements",
        sa.Column("sop_instance_uid", sa.String(length=64), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("peer", sa.Text(), nullable=False),
        sa.Column("calling_ae_title", sa.String(length=16), nullable=False),
        sa.Column("called_ae_title", sa.String(length=16), nullable=False),
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("received_at", sa.String(length=27), nullable=False),
        sa.Column("changed_at", sa.String(length=27), nullable=False),
        sa.Column("number_named", sa.Integer(), nullable=False),
        sa.Column("attributes", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("sop_instance_uid", name=op.f("pk_announcements")),
    )
    op.create_table(
        "announced_studies",
        sa.Column("study_instance_uid", sa.String(length=64), nullable=False),
        sa.Column("announcement_uid", sa.String(length=64), nullable=False),
        sa.ForeignKeyConstraint(
            ["announcement_uid"],
            ["announcements.sop_instance_uid"],
            name=op.f("fk_announced_studies_announcement_uid_announcements"),
        ),
        sa.PrimaryKeyConstraint("study_instance_uid", "announcement_uid", name=op.f("pk_announced_studies")),
    )
    op.create_table(
        "announced_instances",
        sa.Column("announcement_uid", sa.String(length=64), nullable=False),
        sa.Column("sop_instance_uid", sa.String(length=64), nullable=False),
        sa.Column("series_instance_uid", sa.String(length=64), nullable=False),
        sa.Column("sop_class_uid", sa.String(length=64), nullable=False),
        sa.ForeignKeyConstraint(
            ["announcement_uid"],
            ["announcements.sop_instance_uid"],
            name=op.f("fk_announced_instances_announcement_uid_announcements"),
        ),
        sa.PrimaryKeyConstraint("announcement_uid", "sop_instance_uid", name=op.f("pk_announced_instances")),
    )
    op.create_index(
        "ix_announced_instances_sop_instance_uid", "announced_instances", ["sop_instance_uid"], unique=False
    )
