"""How alembic meets the database: with the connection that `storage.migrate` gives it."""

from __future__ import annotations

from alembic import context

from storage import correction_tables, peer_tables, tables  # noqa: F401 - each adds its tables to the one schema

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=tables.metadata,
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
