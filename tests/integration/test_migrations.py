from __future__ import annotations

from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import column, insert, select, table

from storage import correction_tables, peer_tables, tables  # noqa: F401 - each adds its tables to the one schema
from storage.database import Database
from storage.migrate import migrate


def test_migrations_lead_to_the_tables_that_the_code_uses(database: Database) -> None:
    with database.read() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, tables.metadata) == []


@pytest.mark.parametrize(("pragma", "value"), [("journal_mode", "wal"), ("synchronous", 2), ("foreign_keys", 1)])
def test_sqlite_connections_are_durable(sqlite_database: Database, pragma: str, value: object) -> None:
    with sqlite_database.read() as connection:
        assert connection.exec_driver_sql(f"PRAGMA {pragma}").scalar_one() == value


def test_deliveries_stay_with_what_refers_to_them_when_their_table_is_made_anew(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'node.db'}"
    migrate(url, "0010")
    before = Database(url)
    with before.write() as connection:
        for name, row in _A_DELIVERY.items():
            connection.execute(insert(table(name, *map(column, row))).values(row))
    before.close()
    migrate(url)
    database = Database(url)
    with database.read() as connection:
        for name in ("deliveries", "delivery_items", "confirmations"):
            assert connection.execute(select(column("delivery_id")).select_from(table(name))).scalar_one() == "d"
        assert connection.exec_driver_sql("PRAGMA foreign_key_check").all() == []
    database.close()


_TIME = "2026-11-24T09:30:00.000000Z"
_STUDY_TEXTS = (
    *("patient_name", "patient_name_folded", "patient_id", "issuer_of_patient_id", "patient_birth_date"),
    *("patient_sex", "study_date", "study_time", "accession_number", "study_id", "study_description"),
    *("referring_physician_name", "modalities", "attributes", "reason"),
)
_STUDY_NUMBERS = ("number_of_series", "number_of_instances", "number_of_inputs", "size_bytes", "input_version")
_STUDY_TIMES = ("state_since", "first_received_at", "gathering_since", "last_instance_at")
#: One row of each table that a delivery touches, in the order of their references, with the columns of that time.
_A_DELIVERY: dict[str, dict[str, object]] = {
    "studies": {"study_instance_uid": "1.2", "state": "answered", "decision_number": 1}
    | dict.fromkeys(_STUDY_TEXTS, "")
    | dict.fromkeys(_STUDY_NUMBERS, 0)
    | dict.fromkeys(_STUDY_TIMES, _TIME),
    "jobs": {"job_id": "j", "study_instance_uid": "1.2", "decision_number": 1, "engine": "e", "route": "r"}
    | {"task": "t", "series_instance_uids": "[]", "selection": "best", "deliver_to": "[]", "deliver_refusals": False}
    | {"settle_until": _TIME, "state": "done", "reason": "", "attempts": 1, "run_keys": "[]", "created_at": _TIME},
    "findings": {"run_key": "k", "study_instance_uid": "1.2", "engine": "e", "task": "t", "revision": 1}
    | {"analysed_at": _TIME, "path": "findings/k", "facts": "{}"},
    "deliveries": {"delivery_id": "d", "job_id": "j", "run_key": "k", "form": "f", "study_instance_uid": "1.2"}
    | {"destination": "pacs", "state": "delivered", "reason": "", "attempts": 1}
    | {"next_attempt_at": _TIME, "created_at": _TIME},
    "delivery_items": {"delivery_id": "d", "position": 0, "sop_instance_uid": "1.2.3", "kind": "sr"}
    | {"state": "accepted", "reason": ""},
    "confirmations": {"delivery_id": "d", "transaction_uid": "", "answer": "", "attempts": 0, "misses": 0}
    | {"sent_again": 0, "next_attempt_at": _TIME, "reason": ""},
}
