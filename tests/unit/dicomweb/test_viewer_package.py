"""How the viewer's package is fetched and laid out."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
from pathlib import Path

import pytest

from dicomweb.viewer import package
from dicomweb.viewer.package import CONTENTS, ViewerUnavailable, install, is_installed, lay_out, main, registry
from tests.builders.viewer import FILES, SCRIPT, WORKER, make_package


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package whose digest is the pinned one."""
    path = make_package(tmp_path / "viewer.tgz")
    digest = base64.b64encode(hashlib.sha512(path.read_bytes()).digest()).decode()
    monkeypatch.setattr(package, "INTEGRITY", f"sha512-{digest}")
    return path


def test_what_is_served_is_rebased_and_what_loads_from_elsewhere_is_left_out(made: Path, tmp_path: Path) -> None:
    lay_out(made, tmp_path / "viewer")
    names = {path.relative_to(tmp_path / "viewer").as_posix() for path in (tmp_path / "viewer").rglob("*.*")}
    assert names == {
        *(name for plain in (SCRIPT, WORKER, "app.bundle.css") for name in (plain, f"{plain}.gz")),
        *("a.woff2", "assets/favicon.ico", CONTENTS),
    }
    assert (tmp_path / "viewer" / "LICENSE").read_bytes() == FILES["package/LICENSE"]
    for name in (SCRIPT, WORKER):
        assert b'__webpack_require__.p = "/viewer/";' in (tmp_path / "viewer" / name).read_bytes()
    assert b"url(/viewer/a.woff2)" in (tmp_path / "viewer" / "app.bundle.css").read_bytes()
    packed = (tmp_path / "viewer" / f"{SCRIPT}.gz").read_bytes()
    assert gzip.decompress(packed) == (tmp_path / "viewer" / SCRIPT).read_bytes()
    contents = json.loads((tmp_path / "viewer" / CONTENTS).read_text())
    assert (contents["script"], contents["style"]) == (SCRIPT, "app.bundle.css")
    assert set(contents["files"]) == {SCRIPT, WORKER, "app.bundle.css", "a.woff2", "assets/favicon.ico", "LICENSE"}


def test_another_file_than_the_pinned_one_is_refused_and_harms_nothing(made: Path, tmp_path: Path) -> None:
    install(made, tmp_path / "viewer")
    other = make_package(tmp_path / "other.tgz", FILES | {f"package/dist/{SCRIPT}": b"something else"})
    with pytest.raises(ViewerUnavailable, match="digests differ"):
        install(other, tmp_path / "viewer")
    assert is_installed(tmp_path / "viewer")
    assert not list(tmp_path.glob(".viewer-*"))


def test_a_package_that_is_not_built_as_expected_is_refused(tmp_path: Path) -> None:
    for files in (
        {name: content for name, content in FILES.items() if not name.endswith("index.html")},
        FILES | {f"package/dist/{name}": b"" for name in (SCRIPT, WORKER, "app.bundle.css")},
    ):
        with pytest.raises(ViewerUnavailable, match="not built as expected"):
            lay_out(make_package(tmp_path / "odd.tgz", files), tmp_path / "viewer")


@pytest.mark.parametrize("before", [before for before, _ in package.MENDED])
def test_what_is_to_be_mended_must_be_there_once(tmp_path: Path, before: bytes) -> None:
    name = f"package/dist/{WORKER}"
    for content in (FILES[name].replace(before, b""), FILES[name] + before):
        with pytest.raises(ViewerUnavailable, match="is not there"):
            lay_out(make_package(tmp_path / "odd.tgz", FILES | {name: content}), tmp_path / "viewer")


def test_reports_without_coordinates_are_mended(made: Path, tmp_path: Path) -> None:
    lay_out(made, tmp_path / "viewer")
    content = (tmp_path / "viewer" / WORKER).read_bytes()
    assert all(after in content and before not in content for before, after in package.MENDED)
    assert is_installed(tmp_path / "viewer")


def test_other_rules_lay_it_out_anew(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lay_out(made, tmp_path / "viewer")
    monkeypatch.setattr(package, "_LAYOUT", "other")
    assert not is_installed(tmp_path / "viewer")


def test_no_file_leaves_the_folder(tmp_path: Path) -> None:
    lay_out(
        make_package(tmp_path / "odd.tgz", FILES | {"package/dist/../../../out.js": b""}), tmp_path / "in" / "viewer"
    )
    assert not (tmp_path / "out.js").exists()


def test_a_file_given_by_hand_is_laid_out_once(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DICOM_NODE_DATA_DIR", str(tmp_path / "data"))
    assert main(["--from", str(made)]) == 0
    assert is_installed(tmp_path / "data" / "viewer")
    assert main(["--from", "/nowhere"]) == 0
    assert "is there already" in capsys.readouterr().err


def test_a_file_that_is_missing_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--from", str(tmp_path / "gone.tgz"), "--to", str(tmp_path / "viewer")]) == 1
    assert "gone.tgz cannot be read: No such file" in capsys.readouterr().err


def test_the_registry_is_what_the_environment_or_npm_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert registry({"NPM_CONFIG_REGISTRY": "https://npm.example"}, tmp_path) == "https://npm.example"
    npm = tmp_path / "npm"
    npm.write_text("#!/bin/sh\nprintf 'https://mirror.example/\\n'\n")
    npm.chmod(0o700)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert registry({}, tmp_path) == "https://mirror.example/"


def test_without_any_registry_the_ways_out_are_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(package, "_borrowed_npm", lambda *_: None)
    with pytest.raises(ViewerUnavailable, match=r"REGISTRY=https.*FROM=ohif-app-"):
        registry({}, tmp_path)


def test_a_registry_that_does_not_answer_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--registry", "http://127.0.0.1:1", "--to", str(tmp_path / "viewer")]) == 1
    assert "The npm registry does not give @ohif/app" in capsys.readouterr().err
    assert not (tmp_path / "viewer").exists()
