"""Orthanc as the PACS: it forwards a study by its own auto-routing, gets SR and SEG, and forwards those back too."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydicom import dcmread

from configs.peers import Peer
from dicom_node.demo.phantom import write_phantom_study
from dicom_node.scu.echo import echo
from dicom_node.scu.files import outgoing
from dicom_node.scu.store import send
from tests.builders.node import ROOT, NodeProcess, free_ports, wait_until

pytestmark = pytest.mark.timeout(300)

GUIDE = (ROOT / "docs" / "connect-a-pacs.md").read_text()


def pasted(language: str, holding: str) -> str:
    """Give the block of the guide that an administrator would paste."""
    (block,) = [each for each in re.findall(rf"```{language}\n(.*?)```", GUIDE, re.DOTALL) if holding in each]
    return str(block)


class Orthanc:
    """Orthanc as the guide sets it up."""

    def __init__(self, folder: Path, *, dicom_port: int, node_port: int) -> None:
        program = shutil.which("Orthanc")
        if program is None:
            pytest.skip("Orthanc is not installed: apt-get install orthanc")
        folder.mkdir()
        self.dicom_port = dicom_port
        (http_port,) = free_ports(1)
        self.url = f"http://127.0.0.1:{http_port}"
        (folder / "forward.lua").write_text(pasted("lua", "OnStableStudy"))
        guide: dict[str, Any] = json.loads("{" + pasted("json", "DicomModalities").rstrip().rstrip(",") + "}")
        title, _, _ = guide["DicomModalities"]["dicomnode"]
        settings = guide | {
            "DicomModalities": {"dicomnode": [title, "127.0.0.1", node_port]},
            "Name": "PACS",
            "DicomAet": "ORTHANC",
            "DicomPort": self.dicom_port,
            "HttpPort": http_port,
            "StorageDirectory": str(folder / "storage"),
            "IndexDirectory": str(folder / "storage"),
            "LuaScripts": [str(folder / "forward.lua")],
            "StableAge": 2,
            "RemoteAccessAllowed": False,
            "AuthenticationEnabled": False,
            "Plugins": [],
        }
        (folder / "orthanc.json").write_text(json.dumps(settings))
        self._log = folder / "log"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen([program, str(folder / "orthanc.json")], stdout=log, stderr=log)
        wait_until(self._answers, within_s=30, what="Orthanc answers")

    def _answers(self) -> bool:
        assert self._process.poll() is None, self._log.read_text()[-3000:]
        try:
            return httpx.get(f"{self.url}/system", timeout=2).status_code == 200
        except httpx.HTTPError:
            return False

    def get(self, path: str) -> Any:
        return httpx.get(self.url + path, timeout=30).json()

    def modalities(self) -> list[str]:
        """Give the modality of each instance that it holds."""
        series = self.get("/series?expand")
        return sorted(each["MainDicomTags"]["Modality"] for each in series for _ in each["Instances"])

    def forwarded(self) -> int:
        """Count the jobs by which it stored to the node and that succeeded."""
        return sum(
            job["Type"] == "DicomModalityStore" and job["State"] == "Success" for job in self.get("/jobs?expand")
        )

    def log(self) -> str:
        return self._log.read_text(errors="replace")

    def stop(self) -> None:
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(30)


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[tuple[NodeProcess, Orthanc]]:
    """A node whose one peer is Orthanc, and Orthanc whose one modality is the node."""
    (dicom_port,) = free_ports(1)
    peers = {
        "orthanc": {
            "ae_title": "ORTHANC",
            "host": "127.0.0.1",
            "port": dicom_port,
            "accept": ["echo", "store"],
            "deliver": {"by": "dimse", "send": ["sr", "seg"]},
            "settle_s": 0,
        }
    }
    node = NodeProcess(tmp_path / "node", peers=peers)  # the shipped rules: CT, delivered to the sender
    node.start()
    try:
        orthanc = Orthanc(tmp_path / "orthanc", dicom_port=dicom_port, node_port=node.dimse_port)
    except BaseException:
        node.stop()
        raise
    yield node, orthanc
    orthanc.stop()
    node.stop()


def test_a_study_goes_from_orthanc_to_the_node_and_its_results_back_once(
    pair: tuple[NodeProcess, Orthanc], tmp_path: Path
) -> None:
    node, orthanc = pair
    (tmp_path / "chest").mkdir()
    files = write_phantom_study(tmp_path / "chest", slices=60, spacing_mm=5.0, seed=31)
    uid = str(dcmread(files[0], stop_before_pixels=True).StudyInstanceUID)
    pacs = Peer(ae_title="ORTHANC", host="127.0.0.1", port=orthanc.dicom_port)
    echo(pacs, "DICOMNODE")
    statuses: list[int] = []
    send(
        pacs,
        calling_ae_title="CT1",
        items=[outgoing(path) for path in files],
        on_status=lambda _, status: statuses.append(status),
    )
    assert statuses == [0x0000] * 60

    study = node.await_state(uid, "answered", within_s=120)
    assert [each["state"] for each in study["deliveries"]] in (["delivered"], ["confirmed"])
    held = wait_until(
        lambda: (found := orthanc.modalities()) == ["CT"] * 60 + ["SEG", "SR"] and found, within_s=30, what="results"
    )
    assert len(held) == 62

    # Orthanc takes the study to be changed by the results, and forwards all of it again, they among it.
    before = orthanc.forwarded()
    wait_until(lambda: orthanc.forwarded() > before, within_s=60, what="Orthanc forwards the study with the results")
    after = node.await_state(uid, "answered")
    assert len(after["results"]) == 2
    assert after["decision_number"] == 1
    assert len(after["deliveries"]) == 1
    assert orthanc.modalities() == held
    # Orthanc takes the node's request for storage commitment, and reports on an association of its own.
    (confirmed,) = wait_until(
        lambda: (found := node.await_state(uid, "answered")["deliveries"])[0]["state"] == "confirmed" and found,
        within_s=60,
        what="Orthanc commits itself to the results",
    )
    assert confirmed["reason"].endswith("Confirmed: it committed itself to keep them.")
    assert node.run("ledger").stdout.splitlines()[-1] == "0 unexplained"
