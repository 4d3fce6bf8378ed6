"""Which language model the settings come to, and what is said where it is none."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from typing import Any

import pytest

from configs.errors import ConfigError
from configs.settings import Settings
from dicom_node.chat_backend import backend_of, chat_socket
from dicom_node.main import needed
from dicom_node.roles import ROLES

HERE = {"url": "http://10.1.2.3:8000"}


@pytest.fixture(autouse=True)
def installed(monkeypatch: pytest.MonkeyPatch) -> dict[str, bool]:
    """What runs a model here is installed, unless a test says otherwise."""
    said = {"there": True}
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: object() if said["there"] else None)
    return said


def settings(data_dir: Path, **chat: Any) -> Settings:
    return Settings.model_validate({"data_dir": data_dir, "chat": chat})


def put(data_dir: Path, *names: str) -> None:
    (data_dir / "models").mkdir(exist_ok=True)
    for name in names:
        (data_dir / "models" / name).touch()


@pytest.mark.parametrize(
    ("chat", "kind"),
    [
        ({}, "llama_cpp"),
        ({"upstreams": [HERE]}, "upstream"),
        ({"upstreams": [HERE], "backend": "llama_cpp"}, "llama_cpp"),
        ({"backend": "upstream"}, "none"),
        ({"upstreams": [HERE], "backend": "none"}, "none"),
        ({"upstreams": [HERE], "enabled": False}, "none"),
    ],
)
def test_upstreams_come_before_a_model_of_the_nodes_own(tmp_path: Path, chat: dict[str, Any], kind: str) -> None:
    put(tmp_path, "medgemma-4b-it-Q8_0.gguf")
    backend = backend_of(settings(tmp_path, **chat))
    assert backend.kind == kind
    assert bool(backend.absent) == (kind == "none")


@pytest.mark.parametrize(
    ("files", "quantization", "model"),
    [
        (("a-F16.gguf",), "Q8_0", "a-F16.gguf"),
        (("a-F16.gguf", "a-q8_0.gguf"), "Q8_0", "a-q8_0.gguf"),
        (("a-F16.gguf", "a-Q8_0.gguf"), "F16", "a-F16.gguf"),
        (("a-Q8_0-00001-of-00002.gguf", "a-Q8_0-00002-of-00002.gguf"), "Q8_0", "a-Q8_0-00001-of-00002.gguf"),
        (("mmproj-a-Q8_0.gguf", "a-F16.gguf"), "Q8_0", "a-F16.gguf"),
    ],
)
def test_of_several_files_the_one_is_taken_that_the_settings_name(
    tmp_path: Path, files: tuple[str, ...], quantization: str, model: str
) -> None:
    put(tmp_path, *files)
    backend = backend_of(settings(tmp_path, llama_cpp={"quantization": quantization}))
    assert backend.model == tmp_path / "models" / model
    assert (backend.projector is not None) == any("mmproj" in name for name in files)


def test_what_is_missing_is_said_with_where_it_belongs(tmp_path: Path, installed: dict[str, bool]) -> None:
    assert f"into {tmp_path}/models." in backend_of(settings(tmp_path)).absent
    put(tmp_path, "a-F16.gguf", "b-F16.gguf")
    assert "none with Q8_0 in its name" in backend_of(settings(tmp_path)).absent
    put(tmp_path, "c-Q8_0.gguf")
    installed["there"] = False
    assert "python3 scripts/bootstrap.py chat" in backend_of(settings(tmp_path)).absent
    with pytest.raises(ConfigError, match=r"chat\.llama_cpp\.model_path: .*there is no such file"):
        backend_of(settings(tmp_path, llama_cpp={"model_path": str(tmp_path / "none.gguf")}))


def test_the_role_is_started_only_where_there_is_a_model_to_run(tmp_path: Path) -> None:
    assert "chat" not in needed(ROLES, settings(tmp_path))
    with pytest.raises(ConfigError, match="No language model is set up"):
        needed(("chat",), settings(tmp_path))
    put(tmp_path, "a.gguf")
    assert needed(ROLES, settings(tmp_path)) == list(ROLES)


def test_a_socket_whose_path_is_too_long_lies_in_a_directory_of_our_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path))
    assert chat_socket(Path("/data")) == Path("/data/chat.sock")
    long = Path("/" + "d" * 120)
    path = chat_socket(long)
    assert path == chat_socket(long)
    assert path.parent.parent == tmp_path
    assert path.parent.stat().st_mode & 0o777 == 0o700
    os.chmod(path.parent, 0o755)  # noqa: S103 (others could put theirs there)
    with pytest.raises(ConfigError, match="is not this node's own directory"):
        chat_socket(long)
