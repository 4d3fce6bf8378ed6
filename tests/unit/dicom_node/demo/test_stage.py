from __future__ import annotations

from pathlib import Path

import pytest

from dicom_node.demo.stage import DemoFailed, Stage, clear


def test_a_folder_that_the_demo_did_not_make_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(DemoFailed, match="holds something that the demo did not make"):
        clear(tmp_path)
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


def test_its_own_folder_is_emptied(tmp_path: Path) -> None:
    clear(tmp_path / "demo")
    (tmp_path / "demo" / "index.html").touch()
    clear(tmp_path / "demo")
    assert [path.name for path in (tmp_path / "demo").iterdir()] == [".dicom-node-demo"]


def test_its_ports_are_three_and_free_of_the_shipped_ones(tmp_path: Path) -> None:
    ports = Stage(tmp_path / "demo").ports
    assert len({ports.dimse, ports.http, ports.pacs}) == 3
    assert {ports.dimse, ports.http}.isdisjoint({11112, 8080})
