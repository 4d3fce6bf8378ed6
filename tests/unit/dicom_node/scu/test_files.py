from __future__ import annotations

from pathlib import Path

import pytest

from dicom_node.scu.files import copy_instances, instances_in, outgoing
from storage.errors import UnreadableInstance
from tests.builders.ct import encode, make_ct_instance, uid


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two instances, and what lies beside them in real folders."""
    folder = tmp_path / "in"
    (folder / "deep").mkdir(parents=True)
    (folder / "b.dcm").write_bytes(encode(make_ct_instance(2)))
    (folder / "deep" / "no suffix").write_bytes(encode(make_ct_instance(1)))
    (folder / "readme.txt").write_text("hello")
    (folder / "empty").touch()
    broken = encode(make_ct_instance(3))
    (folder / "broken.dcm").write_bytes(broken[:400])
    return folder


def test_a_folder_gives_its_instances_and_passes_over_the_rest(folder: Path) -> None:
    assert [each.sop_instance_uid for each in instances_in(folder)] == [uid(1, 1, 2), uid(1, 1, 1)]


def test_copies_have_numbers_for_names(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    copies = copy_instances(folder, tmp_path / "out")
    assert [each.name for each in copies] == ["000001.dcm", "000002.dcm"]
    assert copies[0].read_bytes() == (folder / "b.dcm").read_bytes()


def test_a_sequence_that_breaks_off_is_no_instance(tmp_path: Path) -> None:
    whole = encode(make_ct_instance())
    at = whole.index(b"\x08\x00\x16\x00UI")  # SOP Class UID (0008,0016)
    broken = tmp_path / "broken.dcm"
    broken.write_bytes(whole[:at] + b"\x08\x00\x06\x00SQ\x00\x00\xff\xff\xff\xff\xfe\xff")
    with pytest.raises(UnreadableInstance, match=r"broken\.dcm"):
        outgoing(broken)


def test_a_file_that_the_system_does_not_give_says_why(tmp_path: Path) -> None:
    with pytest.raises(UnreadableInstance, match=r"gone\.dcm cannot be read: No such file"):
        outgoing(tmp_path / "gone.dcm")
