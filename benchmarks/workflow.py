"""`make bench-workflow`: from a study's last Success to its SEG and SR at the PACS, and what each part of that takes.

The node and the PACS (DCMTK storescp) are processes; the parts are read from the node's own records:

- complete: last Success → decision (with evidence, or by quiet time);
- start: decision → the worker has the job;
- read: instances → volume;
- engine: the model alone;
- objects: findings → SEG and SR built, checked and kept, with their delivery asked for;
- delivery: → the PACS has answered Success for both.

What lies beyond is the whole less completion and engine.
"""

from __future__ import annotations

import argparse
import contextlib
import math
import os
import platform
import re
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from statistics import median

from pydicom import dcmread
from sqlalchemy import select

from benchmarks.processes import free_port, running
from benchmarks.receivers import Listening, node
from configs.peers import Peer
from dicom_node.demo.phantom import write_phantom_study
from dicom_node.scu.files import outgoing
from dicom_node.scu.store import send
from storage import tables
from storage.database import Database, default_url
from storage.records import DeliveryState
from tests.builders.announcing import MPPS, a_step, an_end, create, set_
from tests.builders.dimse import EXPLICIT, associated

STORESCP = Path("/usr/bin/storescp")
EVIDENCE = ("mpps", "required", "quiet")
PARTS = ("complete", "start", "read", "engine", "objects", "delivery")
_WITHIN_S = 180.0
_PEERS = """peers:
  modality:
    {{ae_title: CT1, from: [127.0.0.1], accept: [echo, store, mpps], settle_s: 0, quiet_after_s: {quiet}}}
  pacs:
    {{ae_title: PACS, host: 127.0.0.1, port: {port}, accept: [echo], deliver: {{by: dimse, send: [sr, seg]}}}}
"""
_ROUTES = """routes:
  - name: chest-ct
    engine: classical-lung
    when: {{Modality: CT}}
    series: best
    deliver_to: [pacs]
    requires: {requires}
"""
_ANSWERED = re.compile(r"action=volume_analysed study_instance_uid=(\S+) .*read_s=([\d.]+) engine_s=([\d.]+)")


@dataclass(frozen=True)
class Way:
    """Seconds that each part of one study's way took."""

    complete: float
    start: float
    read: float
    engine: float
    objects: float
    delivery: float
    total: float

    @property
    def beyond(self) -> float:
        """What the node adds to the wait for completeness and to the engine."""
        return self.total - self.complete - self.engine


def main() -> None:
    """Measure and print a table for each kind of evidence."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=10)
    parser.add_argument("--slices", type=int, default=200)
    parser.add_argument("--evidence", choices=EVIDENCE, nargs="*", default=["mpps", "quiet"])
    parser.add_argument("--studies-in", type=Path, help="where the studies lie, or are made to be used again")
    parser.add_argument("--quiet-after", type=float, default=5.0, help="seconds of silence, where nothing else speaks")
    given = parser.parse_args()
    if not STORESCP.exists():
        raise SystemExit("Not measured: storescp is missing (apt-get install dcmtk).")
    load, cores = os.getloadavg()[0], os.cpu_count()
    print(f"{cores} cores ({platform.machine()}), load {load:.1f} at the start, Python {platform.python_version()}")
    with tempfile.TemporaryDirectory(prefix="dicom-node-bench-") as name:
        folder = Path(name)
        sources = make_studies(given.studies_in or folder / "studies", slices=given.slices, count=given.studies + 1)
        for evidence in given.evidence:
            ways = measure(folder / evidence, sources, evidence, slices=given.slices, quiet_s=given.quiet_after)
            print(f"\n{table(ways, evidence, given.slices)}", flush=True)


def measure(folder: Path, sources: Sequence[Path], evidence: str, *, slices: int, quiet_s: float) -> list[Way]:
    """Send each study when the one before has arrived; the first one warms the node and does not count."""
    folder.mkdir()
    with hospital(folder, evidence, slices=slices, quiet_s=quiet_s) as (listening, database):
        made = [_one(sorted(source.iterdir()), evidence, listening, database, folder) for source in sources]
    return made[1:]


def make_studies(folder: Path, *, slices: int, count: int) -> list[Path]:
    """Write the same chest as so many studies: each has UIDs of its own, and so a run of its own.

    What lies there already is taken as it is.
    """
    sources = [folder / f"{slices}-slices-{number}" for number in range(count)]
    if not sources[0].exists():
        sources[0].mkdir(parents=True)
        write_phantom_study(sources[0], slices=slices, seed=1)
    files = sorted(sources[0].iterdir())
    for number, source in enumerate(sources[1:], 1):
        if source.exists():
            continue
        source.mkdir()
        for file in files:
            dataset = dcmread(file)
            for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "FrameOfReferenceUID"):
                name = f"{dataset[keyword].value}/{number}"
                setattr(dataset, keyword, f"2.25.{uuid.uuid5(uuid.NAMESPACE_OID, name).int}")
            dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
            dataset.save_as(source / file.name)
    return sources


@contextlib.contextmanager
def hospital(folder: Path, evidence: str, *, slices: int, quiet_s: float) -> Iterator[tuple[Listening, Database]]:
    """Have a node and a PACS; give where the node listens, and its database."""
    (folder / "pacs").mkdir()
    port = free_port()
    pacs = [str(STORESCP), "-od", str(folder / "pacs"), "--aetitle", "PACS", "--max-pdu", "131072", str(port)]
    requires = f"[{{when: {{Modality: CT}}, images: {slices}}}]" if evidence == "required" else "[]"
    with (
        running(pacs, port=port, log=folder / "pacs.log"),
        node(
            folder / "node",
            peers=_PEERS.format(port=port, quiet=quiet_s if evidence == "quiet" else 120),
            routes=_ROUTES.format(requires=requires),
            log_level="INFO",
        ) as listening,
    ):
        database = Database(default_url(folder / "node" / "data"))
        try:
            yield listening, database
        finally:
            database.close()


def _one(files: Sequence[Path], evidence: str, listening: Listening, database: Database, folder: Path) -> Way:
    first = dcmread(files[0], stop_before_pixels=True)
    study, series = str(first.StudyInstanceUID), str(first.SeriesInstanceUID)
    items = [outgoing(path) for path in files]
    if evidence == "mpps":
        uids = [item.sop_instance_uid for item in items]
        with associated(listening.port, [(MPPS, [EXPLICIT])], calling="CT1") as to:
            step = f"{study}.9"[:64]
            assert create(to, a_step(study), step).Status == 0x0000
            assert set_(to, an_end({series: uids}), step).Status == 0x0000
    statuses: list[tuple[int, float]] = []
    send(
        Peer(ae_title=listening.ae_title, host="127.0.0.1", port=listening.port),
        calling_ae_title="CT1",
        items=items,
        on_status=lambda _, status: statuses.append((status, time.time())),
    )
    assert {status for status, _ in statuses} == {0x0000}
    return _way(study, statuses[-1][1], database, folder)


def _way(study: str, last_success: float, database: Database, folder: Path) -> Way:
    """Wait until both objects of a study are at the PACS, and read how they came there."""
    _await_delivered(study, database, folder)
    with database.read() as connection:
        deliveries, items = tables.deliveries.c, tables.delivery_items.c
        of_study = select(deliveries.delivery_id).where(deliveries.study_instance_uid == study)
        accepted = connection.execute(
            select(items.sop_instance_uid, items.accepted_at).where(items.delivery_id.in_(of_study))
        ).all()
        job = connection.execute(select(tables.jobs).where(tables.jobs.c.study_instance_uid == study)).one()
        asked = connection.execute(select(deliveries.created_at).where(deliveries.study_instance_uid == study))
        asked_at = asked.scalar_one()
    received = list((folder / "pacs").iterdir())
    assert len(accepted) == 2
    assert all(any(uid in path.name for path in received) for uid, _ in accepted), "the PACS has not got it"
    read_s, engine_s = _said(study, folder / "node" / "node.log")
    begun, started = _at(job.created_at), _at(job.started_at)
    arrived = max(_at(at) for _, at in accepted)
    return Way(
        complete=begun - last_success,
        start=started - begun,
        read=read_s,
        engine=engine_s,
        objects=_at(asked_at) - started - read_s - engine_s,
        delivery=arrived - _at(asked_at),
        total=arrived - last_success,
    )


def _await_delivered(study: str, database: Database, folder: Path) -> None:
    deadline = time.monotonic() + _WITHIN_S
    wanted = select(tables.deliveries.c.state).where(tables.deliveries.c.study_instance_uid == study)
    while True:
        with database.read() as connection:
            states = connection.execute(wanted).scalars().all()
        if states and all(state == DeliveryState.DELIVERED for state in states):
            return
        if time.monotonic() > deadline:
            log = (folder / "node" / "node.log").read_text(errors="replace")
            raise RuntimeError(f"{study} was not delivered in time ({states}); {log[-3000:]}")
        time.sleep(0.05)


def _said(study: str, log: Path) -> tuple[float, float]:
    for found in _ANSWERED.finditer(log.read_text(errors="replace")):
        if found[1] == study:
            return float(found[2]), float(found[3])
    raise RuntimeError(f"the log does not say how long {study} was read")


def _at(when: datetime) -> float:
    return when.timestamp()


def percentile(values: Sequence[float], share: float) -> float:
    """Give the least value that so large a share of all do not exceed."""
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


def table(ways: Sequence[Way], evidence: str, slices: int) -> str:
    """Lay out the parts: median, 95 of 100, the longest."""
    lines = [
        f"{slices}-slice CT, {len(ways)} studies, evidence: {evidence}, settle_s: 0, PACS: {_version()}; seconds",
        "",
        "| part | median | p95 | longest |",
        "|---|---|---|---|",
    ]
    rows = {name: [getattr(way, name) for way in ways] for name in PARTS}
    rows["last Success → SEG and SR at the PACS"] = [way.total for way in ways]
    rows["**beyond completion and engine** (goal: p95 <= 1)"] = [way.beyond for way in ways]
    for name, values in rows.items():
        lines.append(f"| {name} | {median(values):.2f} | {percentile(values, 0.95):.2f} | {max(values):.2f} |")
    return "\n".join(lines)


def _version() -> str:
    said = subprocess.run([str(STORESCP), "--version"], capture_output=True, text=True, check=False).stdout
    found = re.search(r"storescp v(\S+)", said)
    return f"DCMTK storescp {found[1]}" if found else "DCMTK storescp"


if __name__ == "__main__":
    main()
