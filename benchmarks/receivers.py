"""The receivers that are measured: the node, and those of others that are installed."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.processes import free_port, running

ROOT = Path(__file__).parents[1]
NODE, ORTHANC, FLOOR = "dicom-node", "Orthanc", "floor (receive, write, sync)"


@dataclass(frozen=True)
class Listening:
    """A receiver that is up."""

    port: int
    ae_title: str
    group: int
    """Process group."""
    http_port: int = 0
    """Where it serves DICOMweb, if it does."""


@dataclass(frozen=True)
class Receiver:
    """One kind of receiver."""

    name: str
    durable: str
    """What is on disk before the sender hears Success."""
    start: Callable[[Path], contextlib.AbstractContextManager[Listening]]


@contextlib.contextmanager
def node(
    folder: Path,
    *,
    peers: str | None = None,
    routes: str | None = None,
    roles: str = "",
    log_level: str = "WARNING",
    prepare: Callable[[Path], None] | None = None,
    module: str = "dicom_node.cli",
) -> Iterator[Listening]:
    """The node on its shipped configuration unless given another.

    `roles`: those that run; empty: all. `prepare`: called with the data directory before the start.
    `module`: the command line that starts it.
    """
    config = folder / "config"
    config.mkdir(parents=True)
    for name in ("node", "peers", "routes", "engines"):
        shutil.copyfile(ROOT / "configs" / f"{name}.yaml", config / f"{name}.yaml")
    if peers is not None:
        (config / "peers.yaml").write_text(peers)
    if routes is not None:
        (config / "routes.yaml").write_text(routes)
    dimse, http = free_port(), free_port()
    environ = dict(os.environ) | {
        "DICOM_NODE_DATA_DIR": str(folder / "data"),
        "DICOM_NODE_DIMSE__PORT": str(dimse),
        "DICOM_NODE_HTTP__PORT": str(http),
        "DICOM_NODE_LOG__LEVEL": log_level,
        "PYTHONPATH": str(ROOT),
    }
    if prepare is not None:
        prepare(folder / "data")
    command = [sys.executable, "-m", module, "--config", str(config), "up"]
    command += ["--roles", roles] if roles else []
    listens = http if roles == "web" else dimse
    with running(command, port=listens, log=folder / "node.log", environ=environ) as group:
        yield Listening(dimse, "DICOMNODE", group, http)


@contextlib.contextmanager
def receiving(folder: Path, *, prepare: Callable[[Path], None] | None = None) -> Iterator[Listening]:
    """The node as far as it keeps: supervisor, receiver, and courier with its DICOM JSON; nothing is analysed."""
    with node(folder, routes="routes: []\n", roles="receiver,courier", prepare=prepare) as listening:
        yield listening


@contextlib.contextmanager
def _receiver_alone(folder: Path) -> Iterator[Listening]:
    with node(folder, routes="routes: []\n", roles="receiver") as listening:
        yield listening


@contextlib.contextmanager
def _floor(folder: Path) -> Iterator[Listening]:
    (folder / "out").mkdir(parents=True)
    port = free_port()
    command = [sys.executable, "-m", "benchmarks.floor", str(port), str(folder / "out")]
    with running(command, port=port, log=folder / "log", cwd=ROOT) as group:
        yield Listening(port, "FLOOR", group)


@contextlib.contextmanager
def _orthanc(folder: Path) -> Iterator[Listening]:
    folder.mkdir(parents=True)
    port = free_port()
    settings = {
        "Name": "BENCH",
        "StorageDirectory": str(folder / "storage"),
        "IndexDirectory": str(folder / "storage"),
        "DicomAet": "ORTHANC",
        "DicomPort": port,
        "HttpPort": free_port(),
        "DicomAlwaysAllowStore": True,
        "DicomAlwaysAllowFind": True,
        "Plugins": [],
    }
    (folder / "orthanc.json").write_text(json.dumps(settings))
    with running(["Orthanc", str(folder / "orthanc.json")], port=port, log=folder / "log") as group:
        yield Listening(port, "ORTHANC", group)


@contextlib.contextmanager
def _storescp(folder: Path) -> Iterator[Listening]:
    (folder / "out").mkdir(parents=True)
    port = free_port()
    command = ["/usr/bin/storescp", "--fork", "+B", "-od", str(folder / "out"), "-aet", "STORESCP", str(port)]
    with running(command, port=port, log=folder / "log") as group:
        yield Listening(port, "STORESCP", group)


@contextlib.contextmanager
def _pynetdicom(folder: Path) -> Iterator[Listening]:
    (folder / "out").mkdir(parents=True)
    port = free_port()
    command = [sys.executable, "-m", "pynetdicom", "storescp", str(port), "-od", str(folder / "out"), "-q"]
    with running(command, port=port, log=folder / "log") as group:
        yield Listening(port, "STORESCP", group)


def installed() -> list[Receiver]:
    """The receivers that this machine has; the node first."""
    found = [
        Receiver(NODE, "file, directory, index", receiving),
        Receiver("dicom-node without courier", "file, directory, index", _receiver_alone),
    ]
    if shutil.which("Orthanc"):
        found.append(Receiver(ORTHANC, "file", _orthanc))
    if Path("/usr/bin/storescp").exists():
        found.append(Receiver("DCMTK storescp", "nothing", _storescp))
    found.append(Receiver("pynetdicom storescp", "nothing", _pynetdicom))
    found.append(Receiver(FLOOR, "file", _floor))
    return found
