"""The demo's own node and PACS stand-in: free ports, own data, own configuration; nothing else is touched."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx

from configs.errors import NodeError
from configs.load import copy_shipped

MODALITY = "DEMO_CT"
PACS = "DEMO_PACS"
NODE = "DICOMNODE"
#: Says that a directory is the demo's, so that clearing it harms nobody.
_MARK = ".dicom-node-demo"
_START_WITHIN_S = 60.0


class DemoFailed(NodeError):
    """The demo did not come to its end."""


@dataclass(frozen=True)
class Ports:
    """Where the demo's processes listen, all on this machine."""

    dimse: int
    http: int
    pacs: int


class Stage:
    """Starts the demo's processes and ends them; a context manager."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.sent = folder / "sent"
        self.received = folder / "pacs"
        self.config_dir = folder / "config"
        self.ports = Ports(*_free_ports(3))
        self._children: list[subprocess.Popen[bytes]] = []

    @property
    def base_url(self) -> str:
        """The demo node's HTTP address."""
        return f"http://127.0.0.1:{self.ports.http}"

    def __enter__(self) -> Self:
        clear(self.folder)
        self._write_config()
        for directory in (self.sent, self.received):
            directory.mkdir()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for child in reversed(self._children):
            child.send_signal(signal.SIGTERM)
        for child in reversed(self._children):
            try:
                child.wait(20)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()

    def start_pacs(self) -> None:
        """Start the stand-in and wait until it listens."""
        arguments = ["--folder", str(self.received), "--port", str(self.ports.pacs), "--ae", PACS]
        self._start("pacs.log", [sys.executable, "-m", "dicom_node.demo.pacs", *arguments], {})
        self._await("the PACS stand-in", "pacs.log", lambda: _listens(self.ports.pacs))

    def start_node(self) -> None:
        """Start the node and wait until it is ready."""
        environ = {
            "DICOM_NODE_DATA_DIR": str(self.folder / "data"),
            "DICOM_NODE_DIMSE__PORT": str(self.ports.dimse),
            "DICOM_NODE_HTTP__PORT": str(self.ports.http),
        }
        command = [sys.executable, "-m", "dicom_node.cli", "--config", str(self.config_dir), "up"]
        self._start("node.log", command, environ)
        self._await("the node", "node.log", lambda: _answers(self.base_url + "/ready") and _listens(self.ports.dimse))

    def get(self, path: str) -> Any:
        """Ask the node for JSON."""
        answer = httpx.get(self.base_url + path, timeout=30)
        answer.raise_for_status()
        return answer.json()

    def get_text(self, path: str) -> str:
        """Ask the node for text."""
        answer = httpx.get(self.base_url + path, timeout=30)
        answer.raise_for_status()
        return answer.text

    def _start(self, log_name: str, command: list[str], environ: dict[str, str]) -> None:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("DICOM_NODE_")}
        inherited.pop("PORT", None)
        with (self.folder / log_name).open("wb") as log:
            child = subprocess.Popen(
                command,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self.folder,
                env=inherited | environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
                start_new_session=True,
            )
        self._children.append(child)

    def _await(self, what: str, log_name: str, done: Any) -> None:
        deadline = time.monotonic() + _START_WITHIN_S
        while not done():
            if self._children[-1].poll() is not None or time.monotonic() > deadline:
                said = (self.folder / log_name).read_text(errors="replace")[-2000:]
                raise DemoFailed(f"{what} did not start; it said:\n{said}")
            time.sleep(0.05)

    def _write_config(self) -> None:
        copy_shipped(self.config_dir)
        (self.config_dir / "peers.yaml").write_text(
            f"""peers:
  modality:                  # sends the study
    ae_title: {MODALITY}
    from: [127.0.0.1]
    accept: [echo, store]
  pacs:                      # gets the results
    ae_title: {PACS}
    host: 127.0.0.1
    port: {self.ports.pacs}
    accept: [echo, store]
    deliver: {{by: dimse, send: [sr, seg]}}
"""
        )
        routes = (self.config_dir / "routes.yaml").read_text()
        routes = routes.replace("deliver_to: [sender]", "deliver_to: [pacs]  ")
        (self.config_dir / "routes.yaml").write_text(
            routes.replace("deliver_refusals: false", "deliver_refusals: true ")
        )


def clear(folder: Path) -> None:
    """Empty the demo's directory; refuse one that holds something else."""
    if folder.exists():
        if any(folder.iterdir()) and not (folder / _MARK).exists():
            raise DemoFailed(f"{folder} holds something that the demo did not make; move it away first.")
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    (folder / _MARK).write_text(json.dumps({"made_by": "dicom-node demo"}))


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(0.2)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=1).status_code == 200
    except httpx.HTTPError:
        return False
