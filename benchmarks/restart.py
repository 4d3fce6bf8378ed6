"""`python -m benchmarks.restart`: a node that starts on a backlog: 10,000 kept instances in 500 studies, a job each.

Seconds from the command until it answers C-ECHO and `/ready`, and until the backlog goes on: once on the untouched
backlog, then after kills of all its processes at work.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import platform
import random
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

from sqlalchemy import func, select

from configs.errors import NodeError
from configs.peers import Peer
from dicom_node.scu.echo import echo
from storage import tables
from storage.blobs import LocalBlobs
from storage.database import Database, default_url
from storage.decisions import take
from storage.index import Index
from storage.intake import Intake
from storage.jobs import Queue, prepare_queue
from storage.migrate import migrate
from storage.records import Decision, JobState, NewJob, Origin, OriginKind, StudyState
from tests.builders.ct import encode, make_ct_instance, uid
from tests.builders.node import NodeProcess

_PEERS = {"modality": {"ae_title": "CT1", "from": ["127.0.0.1"], "accept": ["echo", "store"]}}
_ROUTES = [{"name": "chest-ct", "engine": "classical-lung", "when": {"Modality": "CT"}, "deliver_to": []}]
_CT1 = Origin(OriginKind.DIMSE, peer="modality", calling_ae_title="CT1", called_ae_title="DICOMNODE", host="127.0.0.1")
_AT_ONCE = 16
_WITHIN_S = 60.0


@dataclass(frozen=True)
class Start:
    """Seconds of one start."""

    ready: float
    goes_on: float
    """Until the next job has ended."""
    waiting: int
    """Jobs that had not ended when it began."""


def main() -> None:
    """Fill, start, kill, start again; print what it took."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--instances", type=int, default=10_000)
    parser.add_argument("--jobs", type=int, default=500)
    parser.add_argument("--starts", type=int, default=5)
    parser.add_argument("--seed", type=int, default=20261124)
    given = parser.parse_args()
    load, cores = os.getloadavg()[0], os.cpu_count()
    print(f"{cores} cores ({platform.machine()}), load {load:.1f} at the start, Python {platform.python_version()}")
    with tempfile.TemporaryDirectory(prefix="dicom-node-bench-") as folder:
        starts = measure(Path(folder), instances=given.instances, jobs=given.jobs, starts=given.starts, seed=given.seed)
    print(f"\n{summary(starts, given.instances, given.jobs)}")


def measure(folder: Path, *, instances: int, jobs: int, starts: int, seed: int) -> list[Start]:
    """Start a node on a backlog so many times, each time after a kill of all its processes at work."""
    chance = random.Random(seed)  # noqa: S311 (when to kill)
    node = NodeProcess(folder, peers=_PEERS, routes=_ROUTES)
    fill(node.data_dir, instances=instances, jobs=jobs)
    database = Database(default_url(node.data_dir))
    try:
        made = []
        for number in range(starts):
            if number:
                time.sleep(chance.uniform(0.5, 3.0))
                node.kill()
            made.append(_start(node, database))
        return made
    finally:
        node.stop()
        database.close()


def fill(data_dir: Path, *, instances: int, jobs: int) -> None:
    """Keep instances as senders bring them, and decide on each study; nobody works yet."""
    url = default_url(data_dir)
    data_dir.mkdir(parents=True)
    migrate(url)
    prepare_queue(url)
    database, blobs = Database(url), LocalBlobs(data_dir / "blobs")
    intake, queue = Intake(database, blobs, reserve_bytes=0), Queue(database)
    studies, slices = range(1, jobs + 1), range(1, instances // jobs + 1)

    def keep(study: int) -> None:
        for number in slices:
            intake.receive(io.BytesIO(encode(make_ct_instance(number, study=study))), _CT1)

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        list(pool.map(keep, studies))
    for study in studies:
        _decide(database, queue, uid(study))
    intake.close()
    queue.close()
    database.close()


def _decide(database: Database, queue: Queue, study_instance_uid: str) -> None:
    study, now = Index(database).study(study_instance_uid), datetime.now(UTC)
    job = NewJob(
        engine="classical-lung",
        route="chest-ct",
        task="default",
        series_instance_uids=tuple(each.series_instance_uid for each in Index(database).series_of(study_instance_uid)),
        selection="best",
        deliver_to=(),
        deliver_refusals=False,
        settle_until=now,
    )
    decision = Decision(study_instance_uid, 1, study.input_version, "quiet", "Quiet.", now, (), (job,))
    if not take(database, queue, decision, to=StudyState.ANALYSING, reason="Complete."):
        raise RuntimeError(f"{study_instance_uid} could not be decided on")


def _start(node: NodeProcess, database: Database) -> Start:
    waiting, began = _waiting(database), time.monotonic()
    node.start()
    _await_echo(node, began)
    ready = time.monotonic() - began
    while _waiting(database) == waiting and time.monotonic() - began < _WITHIN_S:
        time.sleep(0.02)
    return Start(ready, time.monotonic() - began, waiting)


def _await_echo(node: NodeProcess, began: float) -> None:
    peer = Peer(ae_title="DICOMNODE", host="127.0.0.1", port=node.dimse_port)
    while time.monotonic() - began < _WITHIN_S:
        with contextlib.suppress(NodeError):
            echo(peer, "CT1")
            return
        time.sleep(0.05)
    raise RuntimeError(f"no answer to C-ECHO; {node.log()[-3000:]}")


def _waiting(database: Database) -> int:
    state = tables.jobs.c.state
    wanted = select(func.count()).select_from(tables.jobs).where(state.in_([JobState.QUEUED, JobState.RUNNING]))
    with database.read() as connection:
        return int(connection.execute(wanted).scalar_one())


def summary(starts: Sequence[Start], instances: int, jobs: int) -> str:
    """Lay out the starts, and the longest of them."""
    lines = [
        f"{instances:,} instances kept in {jobs} studies, a job waiting for each; seconds from the command",
        "",
        "| start | jobs waiting | C-ECHO and /ready | next job ended |",
        "|---|---|---|---|",
    ]
    for number, each in enumerate(starts):
        name = "on the backlog" if number == 0 else f"after kill {number}"
        lines.append(f"| {name} | {each.waiting} | {each.ready:.1f} | {each.goes_on:.1f} |")
    ready, goes_on = [each.ready for each in starts], [each.goes_on for each in starts]
    lines.append(f"| median | | {median(ready):.1f} | {median(goes_on):.1f} |")
    lines.append(f"| longest (goals: 5, 10) | | {max(ready):.1f} | {max(goes_on):.1f} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
