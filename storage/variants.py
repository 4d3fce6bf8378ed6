"""Other bytes under a kept SOP Instance UID: what waits to be classed, and what it was classed as."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Row, select

from storage import ledger, tables
from storage.database import Database
from storage.records import VariantRecord, VariantState


class Variants:
    """The side store's rows."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def unclassed(self, *, limit: int) -> list[VariantRecord]:
        """Give variants that nobody has looked at, the oldest first."""
        table = tables.variants
        with self._database.read() as connection:
            rows = connection.execute(
                select(table)
                .where(table.c.state == VariantState.UNCLASSED.value)
                .order_by(table.c.received_at, table.c.sop_instance_uid)
                .limit(limit)
            ).all()
        return [_record(row) for row in rows]

    def of(self, sop_instance_uid: str) -> list[VariantRecord]:
        """Give all variants of one instance, the oldest first."""
        table = tables.variants
        with self._database.read() as connection:
            rows = connection.execute(
                select(table).where(table.c.sop_instance_uid == sop_instance_uid).order_by(table.c.received_at)
            ).all()
        return [_record(row) for row in rows]

    def classed(self, variant: VariantRecord, state: VariantState, reason: str, at: datetime) -> None:
        """Record what a variant is. Its bytes stay where they are."""
        key = (variant.sop_instance_uid, variant.sha256, variant.transfer_syntax_uid)
        with self._database.write() as connection:
            ledger.move(connection, key, state, reason=reason, at=at)


def _record(row: Row[tuple[object, ...]]) -> VariantRecord:
    values = dict(row._mapping)
    return VariantRecord(**{**values, "state": VariantState(values["state"])})
