"""Kill -9 of the whole node at random moments while several senders send."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.builders.node import NodeProcess
from tests.builders.wire import Gone, Made, Mill, Modality, Rejected
from tests.chaos.audit import Found, audit

_INSTANCES_A_STUDY = 25
_ANYONE = {"anyone": {"ae_title": "*", "from": ["127.0.0.1"], "accept": ["echo", "store"]}}


@dataclass
class Sent:
    """What senders offered and what was acknowledged: SOP Instance UID → digest of the data set."""

    offered: dict[str, str] = field(default_factory=dict)
    acknowledged: dict[str, str] = field(default_factory=dict)
    refused: dict[int, int] = field(default_factory=dict)
    """Status → how often."""
    repeats: int = 0
    """Instances sent again though they were acknowledged before."""


class Senders:
    """Some modalities that send until told to stop, and send again whatever got no answer."""

    def __init__(self, port: int, count: int, *, seed: int, calling: str | None = None) -> None:
        self.sent = Sent()
        self._port = port
        self._calling = calling
        self._seed = seed
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._send, args=(number,)) for number in range(count)]

    def __enter__(self) -> Senders:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _send(self, number: int) -> None:
        mill, chance = Mill(number, seed=self._seed), random.Random(f"{self._seed}/sender {number}")
        association: Modality | None = None
        before: list[Made] = []
        at = 0
        while not self._stop.is_set():
            again = bool(before) and chance.random() < 0.1
            made = chance.choice(before) if again else mill.make(at // _INSTANCES_A_STUDY, at % _INSTANCES_A_STUDY)
            at += not again
            association = self._bring(association, made, calling=self._calling or f"CT{number + 1}")
            with self._lock:
                self.sent.repeats += again
            if not again:
                before = [*before[-50:], made]
            if association is not None and chance.random() < 0.02:
                association.release()
                association = None
        if association is not None:
            association.release()

    def _bring(self, association: Modality | None, made: Made, *, calling: str) -> Modality | None:
        """Send one instance until it is acknowledged or the senders stop."""
        with self._lock:
            self.sent.offered[made.sop_instance_uid] = made.sha256
        while not self._stop.is_set():
            try:
                if association is None:
                    association = Modality(self._port, calling=calling)
                status = association.store(made)
            except (Gone, Rejected):
                if association is not None:
                    association.close()
                association = None
                self._stop.wait(0.05)
                continue
            with self._lock:
                if status == 0x0000:
                    self.sent.acknowledged[made.sop_instance_uid] = made.sha256
                    return association
                self.sent.refused[status] = self.sent.refused.get(status, 0) + 1
            self._stop.wait(0.05)
        return association


@dataclass(frozen=True)
class Outcome:
    """What a run came to."""

    kills: int
    senders: int
    seed: int
    seconds: float
    slowest_start_s: float
    sent: Sent
    found: Found
    ledger: str
    """Last line of `dicom-node ledger`."""


def ingest_under_kills(
    folder: Path,
    *,
    kills: int,
    senders: int,
    seed: int,
    environ: Mapping[str, str] | None = None,
    url: str | None = None,
) -> Outcome:
    """Kill the whole process group so many times, start it again each time, and audit what is kept at the end."""
    began = time.monotonic()
    chance = random.Random(seed)
    node = NodeProcess(folder, peers=_ANYONE, routes=[], environ=environ)
    slowest = node.start()
    try:
        with Senders(node.dimse_port, senders, seed=seed) as running:
            for _ in range(kills):
                time.sleep(chance.uniform(0.05, 2.0))
                node.kill()
                slowest = max(slowest, node.start())
            time.sleep(1.0)
        ledger = node.run("ledger").stdout.splitlines()
    finally:
        node.stop()
    sent = running.sent
    found = audit(node.data_dir, acknowledged=sent.acknowledged, offered=sent.offered, url=url)
    last = ledger[-1] if ledger else "nothing"
    return Outcome(kills, senders, seed, time.monotonic() - began, slowest, sent, found, last)
