from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).parents[3] / "scripts" / "bootstrap.py"


@pytest.fixture
def bootstrap(tmp_path: Path) -> ModuleType:
    """The script, with a `.venv` of the test's own that has an interpreter and nothing installed."""
    spec = importlib.util.spec_from_file_location("bootstrap", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.VENV = tmp_path
    module.PYTHON = tmp_path / "python"
    module.PYTHON.touch()
    return module


def test_what_was_installed_with_more_is_not_installed_again(bootstrap: ModuleType) -> None:
    assert not bootstrap.is_installed([])
    (bootstrap.VENV / ".installed-base-dev").write_text(bootstrap.fingerprint())
    assert bootstrap.is_installed([])
    assert bootstrap.is_installed(["dev"])
    assert not bootstrap.is_installed(["dev", "chat"])


def test_other_pins_are_installed_again(bootstrap: ModuleType) -> None:
    (bootstrap.VENV / ".installed-base").write_text("another fingerprint")
    assert not bootstrap.is_installed([])


def test_stamps_without_an_interpreter_count_for_nothing(bootstrap: ModuleType) -> None:
    (bootstrap.VENV / ".installed-base").write_text(bootstrap.fingerprint())
    bootstrap.PYTHON.unlink()
    assert not bootstrap.is_installed([])
