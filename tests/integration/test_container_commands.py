"""The container's own commands as plain processes: entrypoint, health check, stop."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import yaml

from tests.builders.dockerfile import DOCKER, compose, environ, stages
from tests.builders.node import ROOT, free_ports, wait_until

pytestmark = pytest.mark.timeout(180)

IMAGE = stages(DOCKER / "Dockerfile.cpu")[-1]


class Container:
    """What the image would run, with its environment, on a data directory of the test's own."""

    def __init__(self, folder: Path) -> None:
        self.opt, self.data = folder / "opt", folder / "data"
        self.opt.mkdir()
        self.data.mkdir()
        for name in ("entrypoint.sh", "healthcheck.py", "peers.yaml"):
            shutil.copy(DOCKER / name, self.opt / name)
        self.dimse_port, self.http_port = free_ports(2)
        said = environ(IMAGE) | compose()["services"]["node"]["environment"]
        self.environ = {
            **{name: value for name, value in said.items() if name.startswith("DICOM_NODE_")},
            "DICOM_NODE_DATA_DIR": str(self.data),
            "DICOM_NODE_DIMSE__PORT": str(self.dimse_port),
            "DICOM_NODE_HTTP__PORT": str(self.http_port),
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
        }
        self.log = folder / "log"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """ENTRYPOINT with CMD."""
        (entrypoint,) = [each.command for each in IMAGE if each.name == "ENTRYPOINT"]
        (command,) = [each.command for each in IMAGE if each.name == "CMD"]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*self._here(entrypoint), *command],
                env=self.environ,
                cwd=self.data,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def is_healthy(self) -> bool:
        """HEALTHCHECK."""
        (words,) = [each.words for each in IMAGE if each.name == "HEALTHCHECK"]
        command = self._here(words.partition(" CMD ")[2].strip("[]").replace('"', "").split(", "))
        return subprocess.run(command, env=self.environ, check=False).returncode == 0

    def stop(self) -> int:
        """STOPSIGNAL."""
        (name,) = [each.words for each in IMAGE if each.name == "STOPSIGNAL"]
        if self.process is None or self.process.poll() is not None:
            return 0
        self.process.send_signal(signal.Signals[name])
        return self.process.wait(30)

    def _here(self, command: list[str]) -> list[str]:
        return [word.replace("/opt/node/", f"{self.opt}/") for word in command]


@pytest.fixture
def container(tmp_path: Path) -> Iterator[Container]:
    made = Container(tmp_path)
    yield made
    made.stop()


def test_it_starts_on_an_empty_volume_is_healthy_asks_for_a_key_and_stops_when_told(container: Container) -> None:
    assert not container.is_healthy()
    container.start()
    wait_until(container.is_healthy, within_s=60, what="the container is healthy")
    url = f"http://127.0.0.1:{container.http_port}"
    # Published ports make every caller look foreign or local alike: nothing is open without a key.
    assert httpx.get(f"{url}/api/studies").status_code == 401
    key = subprocess.run(
        ["dicom-node", "keys", "show-admin"], env=container.environ, capture_output=True, text=True, check=True
    ).stdout.strip()
    assert httpx.get(f"{url}/api/studies", headers={"Authorization": f"Bearer {key}"}).json()["studies"] == []
    peers = container.data / "config" / "peers.yaml"
    assert list(yaml.safe_load(peers.read_text())["peers"]) == ["pacs1"]
    assert container.stop() == 0
    assert not container.is_healthy()


def test_a_peer_list_that_is_there_is_not_written_over(container: Container) -> None:
    peers = container.data / "config" / "peers.yaml"
    peers.parent.mkdir()
    peers.write_text("peers: {ct1: {ae_title: CT1, from: [10.0.0.0/8]}}\n")
    entrypoint = ["sh", str(container.opt / "entrypoint.sh"), "peers", "list", "--json"]
    said = subprocess.run(
        entrypoint, env=container.environ, cwd=container.data, capture_output=True, text=True, check=True
    )
    assert list(yaml.safe_load(said.stdout)) == ["ct1"]
    assert peers.read_text() == "peers: {ct1: {ae_title: CT1, from: [10.0.0.0/8]}}\n"
