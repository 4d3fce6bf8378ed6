from __future__ import annotations

from pathlib import Path

import pytest

from configs.errors import ConfigError
from configs.load import read_peers
from dicom_node.peers_file import add_peer, remove_peer

SHIPPED = Path(__file__).parents[3] / "configs" / "peers.yaml"
ENTRY = {"ae_title": "PACS1", "host": "10.1.2.3", "port": 104, "deliver": {"by": "dimse", "send": ["sr", "seg"]}}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    copy = tmp_path / "peers.yaml"
    copy.write_text(SHIPPED.read_text())
    return copy


def test_adding_and_removing_leaves_the_rest_as_it_was(path: Path) -> None:
    former = path.read_text()
    add_peer(path, "pacs1", ENTRY)
    assert list(read_peers(path)) == ["loopback", "pacs1"]
    assert "# anything on this machine" in path.read_text()
    add_peer(path, "pacs2", ENTRY | {"ae_title": "PACS2"})
    remove_peer(path, "pacs1")
    assert list(read_peers(path)) == ["loopback", "pacs2"]
    remove_peer(path, "pacs2")
    assert path.read_text().split() == former.split()


@pytest.mark.parametrize("text", ["", "peers: {}\n", "peers:\n"])
def test_an_empty_list_takes_a_first_peer(path: Path, text: str) -> None:
    path.write_text(text)
    add_peer(path, "pacs1", ENTRY)
    assert list(read_peers(path)) == ["pacs1"]


@pytest.mark.parametrize(
    ("name", "entry"), [("loopback", ENTRY), ("a b", ENTRY), ("../x", ENTRY), ("pacs1", ENTRY | {"port": 0})]
)
def test_what_is_wrong_is_refused_and_the_file_stays(path: Path, name: str, entry: dict[str, object]) -> None:
    former = path.read_text()
    with pytest.raises(ConfigError):
        add_peer(path, name, entry)
    assert path.read_text() == former


def test_removing_a_stranger_is_refused(path: Path) -> None:
    with pytest.raises(ConfigError, match="no peer"):
        remove_peer(path, "nobody")
