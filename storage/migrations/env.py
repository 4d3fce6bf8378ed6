"""How alembic meets the database: with the connection that `storage.migrate` gives it."""

from __future__ import annotations

from alembic import context

from storage import correction_tables

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=correction_tables.notices.metadata,
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
