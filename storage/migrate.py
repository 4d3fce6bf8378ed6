"""Bring a database to this version's schema."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config

from storage.database import make_engine

MIGRATIONS = Path(__file__).parent / "migrations"


def migrate(url: str, revision: str = "head") -> None:
    """Apply all migrations that are missing, each in a transaction.

    To be called before any role starts, in a process that ends with it.
    """
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    engine = make_engine(url)
    try:
        with engine.connect() as connection:
            sqlite = connection.dialect.name == "sqlite"
            if sqlite:  # a table is altered by a copy that takes its place: rows must not go with the former one
                connection.exec_driver_sql("PRAGMA foreign_keys = OFF")
                connection.commit()
            config.attributes["connection"] = connection
            command.upgrade(config, revision)
            if sqlite and (broken := connection.exec_driver_sql("PRAGMA foreign_key_check").first()):
                raise RuntimeError(f"the migration left rows of {broken[0]} that refer to nothing")
            connection.commit()
    finally:
        engine.dispose()
