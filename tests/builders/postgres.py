"""A throw-away PostgreSQL cluster for the tests, run by a user without privileges."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import create_engine, text

from storage.migrate import migrate

MISSING = "PostgreSQL is not installed: apt-get install postgresql"
_TEMPLATE = "node_template"


def server_programs() -> Path | None:
    """Directory of initdb and pg_ctl, the newest version; None where there is none."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    if found:
        return found[-1].parent
    initdb = shutil.which("initdb")
    return Path(initdb).resolve().parent if initdb else None


@contextmanager
def cluster(programs: Path) -> Iterator[Cluster]:
    """Start a cluster that answers on a socket in its own directory alone; stop and remove it at the end."""
    folder = Path(tempfile.mkdtemp(prefix="node-pg-"))
    data = folder / "data"
    try:
        user = _owner(folder)
        _run(user, programs / "initdb", "-D", data, "-A", "trust", "-U", "node", "-E", "UTF8", "--locale=C")
        options = f"-k {folder} -c listen_addresses='' -c fsync=off -c max_connections=200"
        _run(user, programs / "pg_ctl", "-D", data, "-l", folder / "log", "-w", "-o", options, "start")
        try:
            yield Cluster(
                folder,
                restart=lambda mode: _run(
                    user,
                    programs / "pg_ctl",
                    "-D",
                    data,
                    "-l",
                    folder / "log",
                    "-w",
                    "-m",
                    mode,
                    "-o",
                    options,
                    "restart",
                ),
            )
        finally:
            _run(user, programs / "pg_ctl", "-D", data, "-m", "immediate", "-w", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class Cluster:
    """Gives each test a migrated database of its own."""

    def __init__(self, folder: Path, *, restart: Callable[[str], None]) -> None:
        self._folder = folder
        self.restart = restart
        """End the server and start it again; `immediate`: without a word to its clients, as a crash does."""
        self._number = 0
        self._execute(f"CREATE DATABASE {_TEMPLATE}")
        migrate(self._url(_TEMPLATE))

    def new_database(self) -> str:
        """Copy the migrated template and give the new database's URL."""
        self._number += 1
        name = f"test_{self._number}"
        self._execute(f"CREATE DATABASE {name} TEMPLATE {_TEMPLATE}")
        return self._url(name)

    def empty_database(self) -> str:
        """Make a database without tables and give its URL."""
        self._number += 1
        name = f"test_{self._number}"
        self._execute(f"CREATE DATABASE {name}")
        return self._url(name)

    def _url(self, name: str) -> str:
        return f"postgresql+psycopg://node@/{name}?host={self._folder}"

    def _execute(self, statement: str) -> None:
        engine = create_engine(self._url("postgres"), isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.execute(text(statement))
        engine.dispose()


def _owner(folder: Path) -> str | None:
    """Who runs the server: PostgreSQL refuses root."""
    if os.getuid() != 0:
        return None
    user = "postgres" if _exists("postgres") else "nobody"
    account = pwd.getpwnam(user)
    os.chown(folder, account.pw_uid, account.pw_gid)
    return user


def _exists(user: str) -> bool:
    try:
        pwd.getpwnam(user)
    except KeyError:
        return False
    return True


def _run(user: str | None, *command: object) -> None:
    words = [str(word) for word in command]
    if user:
        words = ["runuser", "-u", user, "--", *words]
    # The server inherits the streams: given a pipe, this call would never end.
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/")
