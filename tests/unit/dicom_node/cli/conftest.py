"""The command line in this process, on data of the test's own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from dicom_node.cli import main


@dataclass(frozen=True)
class Said:
    """How a command ended."""

    status: int
    out: str
    err: str


Run = Callable[..., Said]


@pytest.fixture
def data_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data directory on which no node was started."""
    path = tmp_path / "data"
    monkeypatch.setenv("DICOM_NODE_DATA_DIR", str(path))
    monkeypatch.chdir(tmp_path)
    return path


@pytest.fixture
def started(data_dir: Path, sqlite_template: Path) -> Path:
    """A data directory on which a node was started once."""
    (data_dir / "blobs").mkdir(parents=True)
    (data_dir / "node.db").write_bytes(sqlite_template.read_bytes())
    return data_dir


@pytest.fixture
def run(data_dir: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run one command as a shell would."""

    def one(*words: str) -> Said:
        try:
            main(words)
            status = 0
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else 1 if end.code else 0
        said = capsys.readouterr()
        return Said(status, said.out, said.err)

    return one
