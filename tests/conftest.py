"""Parts that tests are made of."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path

import pytest
from hypothesis import settings
from pydicom import Dataset

from storage.blobs import LocalBlobs
from storage.database import Database
from storage.intake import Intake
from storage.jobs import Queue, prepare_queue
from storage.migrate import migrate
from storage.records import Kept, Origin, OriginKind
from tests.builders import postgres
from tests.builders.ct import encode

# How long an example takes says more of the machine's other work than of the code. The same examples in every run,
# so that a run says something of the change and nothing of chance; HYPOTHESIS_PROFILE=hunt looks for new ones.
settings.register_profile("same", deadline=None, derandomize=True)
settings.register_profile("hunt", deadline=None, max_examples=2000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "same"))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say what was not run and why, one line per reason; what follows a colon tells only which file was missing."""
    reasons = Counter(
        report.longrepr[2].removeprefix("Skipped: ").partition(": ")[0]
        if "not on this machine" in report.longrepr[2]
        else report.longrepr[2].removeprefix("Skipped: ")
        for report in terminalreporter.stats.get("skipped", [])
        if isinstance(report.longrepr, tuple)
    )
    if reasons:
        terminalreporter.section("not run, and why")
    for reason, count in reasons.most_common():
        terminalreporter.line(f"{count} {'test' if count == 1 else 'tests'}: {reason}")


SENDER = Origin(OriginKind.DIMSE, peer="ct1", calling_ae_title="CT1", called_ae_title="DICOMNODE", host="127.0.0.1")


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated, empty SQLite file, to be copied."""
    path = tmp_path_factory.mktemp("template") / "node.db"
    migrate(f"sqlite:///{path}")
    return path


@pytest.fixture(scope="session")
def postgres_cluster() -> Iterator[postgres.Cluster]:
    """A PostgreSQL server of the test session's own."""
    programs = postgres.server_programs()
    if programs is None:
        pytest.skip(postgres.MISSING)
    with postgres.cluster(programs) as cluster:
        yield cluster


@pytest.fixture
def sqlite_url(sqlite_template: Path, tmp_path: Path) -> str:
    """A migrated SQLite database of the test's own."""
    path = tmp_path / "node.db"
    path.write_bytes(sqlite_template.read_bytes())
    return f"sqlite:///{path}"


@pytest.fixture
def sqlite_database(sqlite_url: str) -> Iterator[Database]:
    """An open SQLite database."""
    database = Database(sqlite_url)
    yield database
    database.close()


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest) -> str:
    """A migrated database: the test runs on both engines."""
    if request.param == "sqlite":
        return str(request.getfixturevalue("sqlite_url"))
    cluster: postgres.Cluster = request.getfixturevalue("postgres_cluster")
    return cluster.new_database()


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    """An open database: the test runs on both engines."""
    made = Database(database_url)
    yield made
    made.close()


@pytest.fixture
def queue(database: Database) -> Iterator[Queue]:
    """The way into the queue, on both engines, with nothing in it."""
    prepare_queue(database.url)
    made = Queue(database)
    yield made
    made.close()


@pytest.fixture
def blobs(tmp_path: Path) -> LocalBlobs:
    """An empty blob store."""
    return LocalBlobs(tmp_path / "blobs")


@pytest.fixture
def intake(database: Database, blobs: LocalBlobs) -> Iterator[Intake]:
    """The one door, on both engines."""
    made = Intake(database, blobs, reserve_bytes=0)
    yield made
    made.close()


@pytest.fixture
def receive(intake: Intake) -> Callable[..., Kept]:
    """Keep a data set as if a modality had sent it."""

    def keep(dataset: Dataset, origin: Origin = SENDER) -> Kept:
        return intake.receive(BytesIO(encode(dataset)), origin)

    return keep
