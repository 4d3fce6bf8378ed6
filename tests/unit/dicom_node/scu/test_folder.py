from __future__ import annotations

import io
from pathlib import Path

import pytest

from dicom_node.errors import PeerUnreachable
from dicom_node.scu import folder
from dicom_node.scu.store import Outgoing


def outgoing(uid: str = "1.2.3", content: bytes = b"DICM") -> Outgoing:
    return Outgoing(uid, "1.2", "1.2.1", open=lambda: io.BytesIO(content))


def put(into: Path, *items: Outgoing, study: str = "1.1") -> list[tuple[str, int]]:
    told: list[tuple[str, int]] = []
    folder.put(into, study, items, lambda item, status: told.append((item.sop_instance_uid, status)))
    return told


def files(into: Path) -> dict[str, bytes]:
    return {str(path.relative_to(into)): path.read_bytes() for path in into.rglob("*") if path.is_file()}


def test_each_instance_stands_whole_under_its_study_and_its_own_name(tmp_path: Path) -> None:
    assert put(tmp_path, outgoing(), outgoing("1.2.4", b"two")) == [("1.2.3", 0), ("1.2.4", 0)]
    assert files(tmp_path) == {"1.1/1.2.3.dcm": b"DICM", "1.1/1.2.4.dcm": b"two"}


def test_the_same_again_leaves_the_file_alone(tmp_path: Path) -> None:
    put(tmp_path, outgoing())
    before = (tmp_path / "1.1/1.2.3.dcm").stat().st_ino
    put(tmp_path, outgoing())
    assert (tmp_path / "1.1/1.2.3.dcm").stat().st_ino == before


@pytest.mark.parametrize("name", ["../../x", "/etc/x", "..", ".", "", "1.2\0", "1" * 65, "1..2"])
def test_a_name_that_is_no_uid_stays_within_the_folder(tmp_path: Path, name: str) -> None:
    into = tmp_path / "out"
    into.mkdir()
    put(into, outgoing(name), study=name)
    assert len(files(into)) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_what_breaks_off_leaves_no_file(tmp_path: Path) -> None:
    class Breaking(io.BytesIO):
        def read(self, _size: int | None = -1) -> bytes:
            raise OSError(5, "Input/output error")

    broken = Outgoing("1.2.3", "1.2", "1.2.1", open=Breaking)
    with pytest.raises(PeerUnreachable, match="Input/output error"):
        put(tmp_path, broken)
    assert files(tmp_path) == {}


def test_a_folder_that_is_not_there_is_tried_again_later(tmp_path: Path) -> None:
    with pytest.raises(PeerUnreachable, match="is not there"):
        put(tmp_path / "unmounted", outgoing())


def test_a_folder_holds_what_has_the_same_bytes(tmp_path: Path) -> None:
    put(tmp_path, outgoing())
    assert folder.holds(tmp_path, "1.1", outgoing())
    assert not folder.holds(tmp_path, "1.1", outgoing(content=b"other"))
    assert not folder.holds(tmp_path, "1.1", outgoing("1.2.9"))
