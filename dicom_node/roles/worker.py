"""The worker: engines read volumes here, and results are built and kept."""

from __future__ import annotations

import gc
import os
import threading
from collections.abc import Mapping
from dataclasses import replace
from functools import partial

from configs.peers import Peer
from configs.settings import Settings
from dicom_node.live_peers import LivePeers
from dicom_node.parts import Storage, identity, now
from dicom_node.supervisor import RoleContext
from dicom_node.worker.analyse import infer, publish
from dicom_node.worker.deadlines import Deadlines
from dicom_node.worker.parts import WorkerParts
from inference.pixel_process import PixelProcess
from inference.registry import engines
from inference.results.gate import load_tables
from storage.deliveries import Deliveries
from storage.findings_store import FindingsStore
from storage.index import Index
from storage.intake import Intake
from storage.job_book import JobBook
from storage.jobs import Analysis, Queue, Runner
from storage.peer_classes import PeerClasses
from storage.results import ResultBook

#: Processes that decode compressed frames at most; they start with the first such series.
_MOST_DECODERS = 4
#: Seconds that a job in hand may take to end when the node stops; later it starts again next time.
_STOP_WITHIN_S = 10.0
#: Exit status of a worker whose engine did not come to an end.
_OVERDUE = 75


def worker_parts(settings: Settings, storage: Storage, intake: Intake, peers: Mapping[str, Peer]) -> WorkerParts:
    """Put together what the story of a study needs."""
    return WorkerParts(
        index=Index(storage.database),
        blobs=storage.blobs,
        intake=intake,
        job_book=JobBook(storage.database),
        findings=FindingsStore(storage.database, storage.blobs),
        results=ResultBook(storage.database),
        deliveries=Deliveries(storage.database, Queue(storage.database)),
        engines=engines(settings.engines),
        peers=peers,
        identity=identity(settings),
        timezone=settings.node.timezone,
        now=now,
        refused_by=PeerClasses(storage.database).refused_by,
    )


def run(context: RoleContext) -> None:
    """Do jobs until told to stop."""
    settings = context.settings
    storage = Storage.open(settings)
    intake = storage.intake(settings)
    peers = LivePeers(context.config_dir / "peers.yaml", settings.peers)
    pixels = PixelProcess(children=min(_MOST_DECODERS, os.cpu_count() or 1))
    parts = replace(worker_parts(settings, storage, intake, peers), decoder=pixels)
    limits_s = {name: section.deadline_s for name, section in settings.engines.items()}
    deadlines = Deadlines(parts.job_book, limits_s, now=now, end=partial(os._exit, _OVERDUE))
    steps = (
        ("infer", deadlines.watched(partial(infer, node=parts))),
        ("publish", deadlines.watched(partial(publish, node=parts))),
    )
    watchdog = threading.Thread(target=deadlines.run, args=(context.stop,), name="deadlines", daemon=True)
    runner = Runner(
        storage.database,
        executor_id="worker-1",
        lock_dir=settings.data_dir,
        analysis=Analysis(steps=steps, book=parts.job_book),
    )
    runner.start()
    watchdog.start()
    # What was made by now stays for good: no collection is to walk through it while a study waits.
    gc.collect()
    gc.freeze()
    try:
        context.ready(engines=sorted(parts.engines))
        load_tables()
        gc.freeze()
        context.stop.wait()
    finally:
        runner.stop(_STOP_WITHIN_S)
        pixels.close()
        intake.close()
        storage.close()
