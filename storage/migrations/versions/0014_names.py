"""Names are searched in an index that says whose study it is."""

from __future__ import annotations

from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Have a name be matched without reading the study's row."""
    op.drop_index("ix_studies_patient_name_folded", "studies")
    op.create_index("ix_studies_patient_name_folded", "studies", ["patient_name_folded", "study_instance_uid"])
