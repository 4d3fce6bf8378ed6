"""Orthanc, a stranger, asks the node for storage commitment and takes the report."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from configs.settings import DeliverySettings
from dicom_node.scp.commitment import CommitmentService
from dicom_node.scu.association import Timeouts
from dicom_node.worker.commitments import ReportParts, tell
from storage.blobs import LocalBlobs
from storage.commitments import Commitments
from storage.confirmations import Confirmations
from storage.database import Database
from storage.records import Kept
from tests.builders.ct import make_ct_instance, uid
from tests.builders.dimse import a_peer, listening
from tests.builders.node import free_ports, wait_until

CT = "1.2.840.10008.5.1.4.1.1.2"


@pytest.fixture
def database(sqlite_database: Database) -> Database:
    """One engine is enough for what goes over the wire."""
    return sqlite_database


@pytest.fixture
def ports() -> list[int]:
    """Ports of Orthanc: DICOM, HTTP."""
    return free_ports(2)


@pytest.fixture
def orthanc(tmp_path: Path, ports: list[int]) -> Iterator[Callable[[int], str]]:
    """Start Orthanc with the node as its modality at a port; give its URL."""
    program = shutil.which("Orthanc")
    if program is None:
        pytest.skip("Orthanc is not installed: apt-get install orthanc")
    folder = tmp_path / "orthanc"
    folder.mkdir()
    running: list[subprocess.Popen[bytes]] = []
    url = f"http://127.0.0.1:{ports[1]}"

    def start(node_port: int) -> str:
        settings = {
            "DicomAet": "ORTHANC",
            "DicomPort": ports[0],
            "HttpPort": ports[1],
            "DicomModalities": {"node": ["DICOMNODE", "127.0.0.1", node_port]},
            "StorageDirectory": str(folder / "storage"),
            "IndexDirectory": str(folder / "storage"),
            "RemoteAccessAllowed": False,
            "AuthenticationEnabled": False,
            "Plugins": [],
        }
        (folder / "orthanc.json").write_text(json.dumps(settings))
        with (folder / "log").open("wb") as log:
            running.append(subprocess.Popen([program, str(folder / "orthanc.json")], stdout=log, stderr=log))
        wait_until(lambda: _answers(url), within_s=30, what="Orthanc answers")
        return url

    yield start
    for process in running:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/system", timeout=2).status_code == 200
    except httpx.HTTPError:
        return False


def test_orthanc_asks_and_hears_what_is_committed_and_what_is_not(
    orthanc: Callable[[int], str],
    ports: list[int],
    database: Database,
    blobs: LocalBlobs,
    receive: Callable[..., Kept],
) -> None:
    kept = [receive(make_ct_instance(number)).sop_instance_uid for number in (1, 2)]
    book = Commitments(database, blobs)
    peers = {"orthanc": a_peer(ae_title="ORTHANC", host="127.0.0.1", port=ports[0], accept=["echo", "commit"])}
    parts = ReportParts(
        commitments=book,
        peers=peers,
        delivery=DeliverySettings(first_retry_s=0.2, retry_at_most_s=0.5),
        timeouts=Timeouts(connect_s=5, associate_s=5, answer_s=5),
        now=lambda: datetime.now(UTC),
    )
    with listening(peers=peers, services=[CommitmentService(book, Confirmations(database))]) as here:
        url = orthanc(here.port)
        reports = {
            wanted: _committed(url, instances, parts)
            for wanted, instances in {"Success": kept, "Failure": [*kept, uid(9, 9, 9)]}.items()
        }
    assert {wanted: report["Status"] for wanted, report in reports.items()} == {
        "Success": "Success",
        "Failure": "Failure",
    }
    assert sorted(each["SOPInstanceUID"] for each in reports["Success"]["Success"]) == sorted(kept)
    (failed,) = reports["Failure"]["Failures"]
    assert (failed["SOPInstanceUID"], failed["FailureReason"]) == (uid(9, 9, 9), 0x0112)
    assert book.exempt(kept) == set(kept)


def _committed(url: str, sop_instance_uids: list[str], parts: ReportParts) -> dict[str, Any]:
    named = [{"SOPClassUID": CT, "SOPInstanceUID": each} for each in sop_instance_uids]
    asked = httpx.post(f"{url}/modalities/node/storage-commitment", json={"DicomInstances": named}, timeout=30)
    assert asked.status_code == 200, asked.text
    path = f"{url}{asked.json()['Path']}"

    def report() -> dict[str, Any] | None:
        due = parts.commitments.due(parts.now())
        if due:
            tell(due, parts)
        found = dict(httpx.get(path, timeout=10).json())
        return found if found["Status"] != "Pending" else None

    return dict(wait_until(report, within_s=30, what="Orthanc has the report"))
