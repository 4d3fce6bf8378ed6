"""Orthanc as an independent peer: a process of the test's own, asked over its REST interface."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx

from tests.builders.node import free_ports, wait_until

PROGRAM = shutil.which("Orthanc")
MISSING = "Orthanc is not installed"
AE_TITLE = "ORTHANC"
#: Its DICOMweb plugin, where it is installed.
DICOMWEB = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
WORKLISTS = Path("/usr/share/orthanc/plugins/libModalityWorklists.so")


class Orthanc:
    """A running Orthanc."""

    def __init__(self, dicom_port: int, http_port: int) -> None:
        self.dicom_port = dicom_port
        self.dicomweb_url = f"http://127.0.0.1:{http_port}/dicom-web"
        """Where its plugin is asked; only with `dicomweb`."""
        self._url = f"http://127.0.0.1:{http_port}"

    def get(self, path: str) -> Any:
        """Ask its REST interface."""
        answer = httpx.get(self._url + path, timeout=30)
        answer.raise_for_status()
        return answer.json()

    def post(self, path: str, body: object) -> Any:
        """Tell its REST interface; a text goes as it is."""
        content = body if isinstance(body, str) else json.dumps(body)
        answer = httpx.post(self._url + path, content=content, timeout=60)
        assert answer.status_code == 200, (path, answer.status_code, answer.text)
        return answer.json()

    def post_file(self, part10: bytes) -> None:
        """Give it an instance."""
        answer = httpx.post(f"{self._url}/instances", content=part10, timeout=60)
        assert answer.status_code == 200, (answer.status_code, answer.text)

    def is_up(self) -> bool:
        """Tell whether it answers."""
        try:
            return httpx.get(self._url + "/system", timeout=2).status_code == 200
        except httpx.HTTPError:
            return False


@contextlib.contextmanager
def orthanc(
    folder: Path,
    ports: tuple[int, int],
    modalities: Mapping[str, Sequence[object]],
    *,
    dicomweb: bool = False,
    worklist: Path | None = None,
) -> Iterator[Orthanc]:
    """Start Orthanc on these ports (DICOM, HTTP) with the modalities that it knows, and stop it.

    `worklist`: folder of the orders (`*.wl`) that it serves.
    """
    assert PROGRAM is not None
    folder.mkdir()
    configuration = {
        "Name": AE_TITLE,
        "DicomAet": AE_TITLE,
        "DicomPort": ports[0],
        "HttpPort": ports[1],
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": False,
        "StorageDirectory": str(folder / "db"),
        "IndexDirectory": str(folder / "db"),
        "Plugins": [str(DICOMWEB)] * dicomweb + [str(WORKLISTS)] * (worklist is not None),
        "Worklists": {"Enable": worklist is not None, "Database": str(worklist or folder)},
        "DicomModalities": {name: list(values) for name, values in modalities.items()},
    }
    (folder / "orthanc.json").write_text(json.dumps(configuration))
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([PROGRAM, str(folder / "orthanc.json")], stdout=log, stderr=log, cwd=folder)
    try:
        started = Orthanc(*ports)
        wait_until(started.is_up, within_s=60, what=(folder / "log").read_text(errors="replace")[-2000:])
        yield started
    finally:
        process.terminate()
        process.wait(20)


def two_ports() -> tuple[int, int]:
    """Give ports for DICOM and HTTP."""
    dicom, http = free_ports(2)
    return dicom, http
