"""A node between a modality and a PACS, as processes."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from pydicom import Dataset, dcmread

from configs.peers import Peer
from dicom_node.scu.files import outgoing
from dicom_node.scu.store import send
from tests.builders.node import NodeProcess, free_ports

ROUTES = [
    {"name": "chest-ct", "engine": "classical-lung", "when": {"Modality": "CT"}, "deliver_to": ["pacs"]},
]


class Hospital:
    """A node, and a PACS stand-in that gets its results."""

    def __init__(self, folder: Path, *, environ: Mapping[str, str] | None = None) -> None:
        self.folder = folder
        (self.pacs_port,) = free_ports(1)
        self.received = folder / "pacs"
        self.received.mkdir()
        peers = {
            "modality": {"ae_title": "CT1", "from": ["127.0.0.1"], "accept": ["echo", "store"], "settle_s": 0},
            "pacs": {
                "ae_title": "PACS",
                "host": "127.0.0.1",
                "port": self.pacs_port,
                "accept": ["echo", "store"],
                "deliver": {"by": "dimse", "send": ["sr", "seg"]},
                "settle_s": 0,
            },
        }
        self.node = NodeProcess(folder, peers=peers, routes=ROUTES, environ=environ)
        arguments = ["--folder", str(self.received), "--port", str(self.pacs_port), "--ae", "PACS"]
        self._pacs = subprocess.Popen(
            [sys.executable, "-m", "dicom_node.demo.pacs", *arguments],
            stdout=subprocess.DEVNULL,
            env=self.node.environ,
        )

    def close(self) -> None:
        self.node.stop()
        self._pacs.terminate()
        self._pacs.wait(20)

    def send(self, files: list[Path], calling: str = "CT1") -> list[int]:
        peer = Peer(ae_title="DICOMNODE", host="127.0.0.1", port=self.node.dimse_port)
        statuses: list[int] = []
        send(
            peer,
            calling_ae_title=calling,
            items=[outgoing(path) for path in files],
            on_status=lambda _, status: statuses.append(status),
        )
        return statuses

    def objects(self) -> list[Dataset]:
        return [dcmread(path) for path in sorted(self.received.rglob("*.dcm"))]
