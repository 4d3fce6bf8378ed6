"""The demo as a process: exit status 0 only if SR and SEG arrived and passed their checks."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from dicom_node.cli import main
from dicom_node.demo.pacs import PacsStandIn
from dicom_node.demo.phantom import write_phantom_study
from dicom_node.demo.stage import PACS, Stage
from tests.builders.ct import encode, make_ct_series
from tests.builders.node import ROOT, wait_until

pytestmark = pytest.mark.timeout(300)

#: Processing failure: a PACS that answers it will answer it again.
CANNOT_UNDERSTAND = 0xC000


@pytest.fixture(scope="module")
def chest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a phantom of thick slices, and a file that is no DICOM."""
    folder = tmp_path_factory.mktemp("chest")
    write_phantom_study(folder, slices=60, spacing_mm=5.0, seed=21)
    (folder / "readme.txt").write_text("not DICOM")
    return folder


def demo(tmp_path: Path, source: Path) -> subprocess.CompletedProcess[str]:
    """Run the demo beside settings that are another node's."""
    command = [
        sys.executable,
        "-m",
        "dicom_node.cli",
        "demo",
        "--from",
        str(source),
        "--folder",
        str(tmp_path / "demo"),
    ]
    environ = {**os.environ, "PYTHONPATH": str(ROOT), "DICOM_NODE_DATA_DIR": str(tmp_path / "other"), "PORT": "1"}
    return subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environ, timeout=240, check=False)


def test_the_demo_shows_the_way_the_report_and_the_outlines(tmp_path: Path, chest: Path) -> None:
    done = demo(tmp_path, chest)
    folder = tmp_path / "demo"
    assert done.returncode == 0, done.stdout + done.stderr
    assert "SR and SEG arrived and passed their checks." in done.stdout
    assert "1 files of" in done.stdout
    assert re.search(r"\+\d+\.\d s +DEMO_PACS +received +SR", done.stdout)
    assert "Segmented lung: total" in done.stdout
    assert len(list((folder / "sent").iterdir())) == 60
    assert sorted(path.name.partition("_")[0] for path in (folder / "pacs").iterdir()) == ["SEG", "SR"]
    page = (folder / "index.html").read_text()
    assert "Segmented lung: total" in page
    pictures = re.findall(r'img src="([^"]+)"', page)
    assert len(pictures) == 3
    assert all((folder / name).read_bytes().startswith(b"\x89PNG") for name in pictures)
    assert all((folder / name).exists() for name in re.findall(r'href="([^"]+)"', page))
    assert not (tmp_path / "other").exists(), "another node's data was touched"


def test_a_pacs_that_refuses_makes_the_demo_fail(
    tmp_path: Path, chest: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    refusing: list[PacsStandIn] = []

    def start_pacs(stage: Stage) -> None:
        made = PacsStandIn(stage.received, PACS, port=stage.ports.pacs, answer=lambda _: CANNOT_UNDERSTAND)
        refusing.append(made.__enter__())

    monkeypatch.setattr(Stage, "start_pacs", start_pacs)
    try:
        with pytest.raises(SystemExit) as ended:
            main(["demo", "--from", str(chest), "--folder", str(tmp_path / "demo")])
    finally:
        for each in refusing:
            each.__exit__(None, None, None)
    assert ended.value.code == 1
    said = capsys.readouterr().out
    assert "PROBLEM: 0 SR objects arrived, not one" in said
    assert "PROBLEM: 0 SEG objects arrived, not one" in said
    assert "Not as it should be" in (tmp_path / "demo" / "index.html").read_text()


def test_a_study_that_no_rule_wants_makes_the_demo_fail_with_the_reason(tmp_path: Path) -> None:
    source = tmp_path / "mr"
    source.mkdir()
    for number, made in enumerate(make_ct_series(3, Modality="MR")):
        (source / f"{number}.dcm").write_bytes(encode(made))
    done = demo(tmp_path, source)
    assert done.returncode == 1
    assert "The study is unmatched, not answered: No rule matched." in done.stdout
    assert "No report arrived." in (tmp_path / "demo" / "index.html").read_text()


def test_a_demo_that_is_told_to_end_takes_its_processes_with_it(tmp_path: Path, chest: Path) -> None:
    command = [sys.executable, "-m", "dicom_node.cli", "demo", "--from", str(chest), "--folder", str(tmp_path / "demo")]
    playing = subprocess.Popen(command, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)})
    log = tmp_path / "demo" / "node.log"
    wait_until(lambda: log.exists() and "is up" in log.read_text(), within_s=90, what="its node is up")
    (port,) = re.findall(r"DICOMNODE at 127\.0\.0\.1:(\d+)", log.read_text())
    playing.terminate()
    assert playing.wait(60) == 128 + signal.SIGTERM
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", int(port))) != 0, "its node listens still"


@pytest.mark.parametrize(("name", "said"), [("missing", "no such folder"), ("empty", "holds no DICOM instances")])
def test_nothing_to_send_is_said_in_one_line(tmp_path: Path, name: str, said: str) -> None:
    (tmp_path / "empty").mkdir()
    done = demo(tmp_path, tmp_path / name)
    assert done.returncode == 1
    assert said in done.stderr
    assert "Traceback" not in done.stderr
