"""The same study from many senders at once, round after round."""

from __future__ import annotations

import threading
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import func, select

from storage import tables
from storage.database import Database, default_url
from tests.builders.node import NodeProcess, wait_until
from tests.builders.wire import Made, Mill, Modality
from tests.chaos.audit import Found, audit

_ANYONE = {"anyone": {"ae_title": "*", "from": ["127.0.0.1"], "accept": ["echo", "store"]}}
_ROUTES = [{"name": "chest-ct", "engine": "classical-lung", "when": {"Modality": "CT"}, "deliver_to": []}]


@dataclass(frozen=True)
class Storm:
    """What a storm came to."""

    sent: int
    statuses: dict[int, int]
    studies: int
    inputs: int
    decisions: int
    findings: int
    """Inferences that counted."""
    found: Found
    ledger: str
    seconds: float


def duplicate_storm(folder: Path, *, senders: int, instances: int, rounds: int, seed: int) -> Storm:
    """Send the same study from many senders at once; the node must come to one study and one inference."""
    began = time.monotonic()
    study = [Mill(1, seed=seed).make(1, number) for number in range(instances)]
    node = NodeProcess(folder, peers=_ANYONE, routes=_ROUTES)
    node.start()
    try:
        statuses: Counter[int] = Counter()
        for _ in range(rounds):
            statuses += _one_round(node, study, senders)
        uid = study[0].study_instance_uid
        wait_until(lambda: node.study(uid)["state"] in ("answered", "declined"), within_s=120, what="it is answered")
        ledger = node.run("ledger").stdout.splitlines()[-1]
    finally:
        node.stop()
    sent = {made.sop_instance_uid: made.sha256 for made in study}
    counts = _counts(node.data_dir)
    return Storm(
        sent=senders * instances * rounds,
        statuses=dict(statuses),
        found=audit(node.data_dir, acknowledged=sent, offered=sent),
        ledger=ledger,
        seconds=time.monotonic() - began,
        **counts,
    )


def _one_round(node: NodeProcess, study: list[Made], senders: int) -> Counter[int]:
    statuses: Counter[int] = Counter()
    lock, together = threading.Lock(), threading.Barrier(senders)

    def send(number: int) -> None:
        with Modality(node.dimse_port, calling=f"CT{number}") as modality:
            together.wait(60)
            answers = Counter(modality.store(made) for made in study)
            modality.release()
        with lock:
            statuses.update(answers)

    threads = [threading.Thread(target=send, args=(number,)) for number in range(senders)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return statuses


def _counts(data_dir: Path) -> dict[str, int]:
    database = Database(default_url(data_dir))
    try:
        with database.read() as connection:
            inputs = connection.execute(select(func.sum(tables.studies.c.number_of_inputs))).scalar_one()
            named = {"studies": tables.studies, "decisions": tables.decisions, "findings": tables.findings}
            counts = {
                name: connection.execute(select(func.count()).select_from(table)).scalar_one()
                for name, table in named.items()
            }
        return {**counts, "inputs": int(inputs)}
    finally:
        database.close()
