"""Kill -9 while studies come, are read, written up, delivered and confirmed: one result set each, the same bytes."""

from __future__ import annotations

import random
import signal
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydicom import dcmread
from sqlalchemy import select

from configs.peers import Peer
from dicom_node.demo.phantom import write_phantom_study
from dicom_node.errors import PeerError
from dicom_node.scu.files import outgoing
from dicom_node.scu.store import Outgoing, send
from storage import tables
from storage.database import Database, default_url
from storage.errors import IndexUnavailable
from storage.records import DeliveryState, InstanceRole, JobState
from tests.builders.node import NodeProcess, free_ports, wait_until
from tests.chaos.pacs import RecordingPacs

#: What is killed: a role that the supervisor starts again, the supervisor alone, or everything at once.
VICTIMS = ("worker", "courier", "receiver", "web", "supervisor", "all")
PHASES = ("inference", "objects", "delivery", "commitment")
#: Seconds of a phase after which at most the kill comes.
_WITHIN_S = {"ingest": 0.8, "inference": 0.6, "objects": 0.3, "delivery": 0.4, "commitment": 0.8}
#: The PACS answers a C-STORE after at most so many seconds, and commits itself after at most twice as many.
_SLOWEST_S = 0.4
_ROUTES = [{"name": "chest-ct", "engine": "classical-lung", "when": {"Modality": "CT"}, "deliver_to": ["pacs"]}]


@dataclass
class Outcome:
    """What a run came to."""

    seed: int
    studies: int = 0
    kills: dict[str, int] = field(default_factory=dict)
    """Phase → kills that struck in it."""
    victims: dict[str, int] = field(default_factory=dict)
    receptions: int = 0
    """Result objects that the PACS was sent, repeats included."""
    problems: dict[str, list[str]] = field(default_factory=dict)
    """Study Instance UID → what is not as it should be; "" holds what belongs to no study."""
    seconds: float = 0.0
    ledger: str = ""


class _Hospital:
    def __init__(self, folder: Path, *, seed: int) -> None:
        (port,) = free_ports(1)
        peers = {
            "modality": {"ae_title": "CT1", "from": ["127.0.0.1"], "accept": ["echo", "store"], "settle_s": 0},
            "pacs": {
                "ae_title": "PACS",
                "host": "127.0.0.1",
                "port": port,
                "accept": ["echo", "store"],
                "deliver": {"by": "dimse", "send": ["sr", "seg"]},
                "settle_s": 0,
            },
        }
        self.node = NodeProcess(folder, peers=peers, routes=_ROUTES)
        self.pacs = RecordingPacs(port, node_port=self.node.dimse_port, seed=seed, slowest_s=_SLOWEST_S)
        self.node.start()
        self.database = Database(default_url(self.node.data_dir))

    def bring(self, files: Sequence[Path]) -> None:
        """Send a study as a modality does: again and again until every instance is acknowledged."""
        left: dict[str, Outgoing] = {each.sop_instance_uid: each for each in map(outgoing, files)}
        peer = Peer(ae_title="DICOMNODE", host="127.0.0.1", port=self.node.dimse_port)

        def on_status(item: Outgoing, status: int) -> None:
            if status == 0x0000:
                left.pop(item.sop_instance_uid, None)

        deadline = time.monotonic() + 120
        while left:
            assert time.monotonic() < deadline, "the study was not acknowledged in time"
            try:
                send(peer, calling_ae_title="CT1", items=list(left.values()), on_status=on_status)
            except PeerError:
                time.sleep(0.1)

    def strike(self, victim: str) -> None:
        """Kill -9, and have the node whole again."""
        node = self.node
        assert node.process is not None
        if victim == "all":
            node.kill()
        elif victim == "supervisor":
            node.process.send_signal(signal.SIGKILL)
            node.process.wait(10)
            wait_until(lambda: not node.role_pids(), within_s=20, what="no role outlives its supervisor")
        else:
            with suppress(KeyError, ProcessLookupError):
                node.kill_role(victim)
            wait_until(lambda: victim in node.role_pids(), within_s=30, what=f"{victim} is back")
            return
        node.start()

    def is_in(self, phase: str, uid: str) -> bool:
        """Tell whether a study is in a phase of its way."""
        job = self._rows(tables.jobs, uid)
        running = any(each.state == JobState.RUNNING for each in job)
        found = bool(self._rows(tables.findings, uid))
        if phase == "inference":
            return running and not found
        if phase == "objects":
            return running and found
        state = DeliveryState.SENDING if phase == "delivery" else DeliveryState.DELIVERED
        return any(each.state == state for each in self._rows(tables.deliveries, uid))

    def is_over(self, uid: str) -> bool:
        """Tell whether a study is answered, and its deliveries are confirmed."""
        study = self._rows(tables.studies, uid)
        deliveries = self._rows(tables.deliveries, uid)
        ended = bool(deliveries) and all(each.state == DeliveryState.CONFIRMED for each in deliveries)
        return bool(study) and study[0].state == "answered" and ended

    def _rows(self, table: Any, uid: str) -> Sequence[Any]:
        with suppress(IndexUnavailable), self.database.read() as connection:
            return connection.execute(select(table).where(table.c.study_instance_uid == uid)).all()
        return []

    def problems_of(self, uid: str) -> list[str]:
        """Say what is not as it should be with a study that has ended."""
        counts = {
            "decisions": len(self._rows(tables.decisions, uid)),
            "jobs": len(self._rows(tables.jobs, uid)),
            "findings": len(self._rows(tables.findings, uid)),
            "deliveries": len(self._rows(tables.deliveries, uid)),
        }
        problems = [f"{uid}: {count} {what}" for what, count in counts.items() if count != 1]
        kept = [row for row in self._rows(tables.instances, uid) if row.role == InstanceRole.RESULT]
        named = {row.sop_instance_uid for row in self._rows(tables.results, uid)}
        if len(kept) != 2 or {row.sop_instance_uid for row in kept} != named:
            problems.append(f"{uid}: {len(kept)} kept results, {len(named)} named")
        for row in kept:
            received = self.pacs.digests.get(row.sop_instance_uid, [])
            if not received or set(received) != {row.sha256}:
                problems.append(f"{row.sop_instance_uid}: received {len(received)} times, not with the kept bytes")
        return problems

    def close(self) -> None:
        self.database.close()
        self.node.stop()


def results_under_kills(
    folder: Path,
    *,
    studies: int,
    seed: int,
    phases: Sequence[str] = PHASES,
    victims: Sequence[str] = VICTIMS,
    say: Callable[[str], None] = lambda _: None,
) -> Outcome:
    """Bring studies one after the other, strike once in each phase of each, and look at what came of them."""
    began, chance = time.monotonic(), random.Random(seed)
    outcome = Outcome(seed)
    hospital = _Hospital(folder, seed=seed)
    strikes = [victims[at % len(victims)] for at in range(studies * len(phases))]
    chance.shuffle(strikes)
    uids = []
    try:
        with hospital.pacs:
            for number in range(studies):
                source = folder / f"study{number}"
                source.mkdir()
                files = write_phantom_study(source, slices=60, spacing_mm=5.0, seed=seed * 1000 + number)
                uid = str(dcmread(files[0], stop_before_pixels=True).StudyInstanceUID)
                uids.append(uid)
                _one_study(hospital, files, uid, phases, strikes, chance, outcome)
                outcome.studies += 1
                say(f"study {outcome.studies} of {studies}: {sum(outcome.kills.values())} kills")
            found = {uid: hospital.problems_of(uid) for uid in uids}
            outcome.problems = {uid: problems for uid, problems in found.items() if problems}
            extra = set(hospital.pacs.digests) - {
                row.sop_instance_uid for uid in uids for row in hospital._rows(tables.results, uid)
            }
            if extra:
                outcome.problems[""] = [f"{uid}: received, and no result of ours" for uid in sorted(extra)]
            outcome.ledger = (hospital.node.run("ledger").stdout.splitlines() or ["nothing"])[-1]
    finally:
        hospital.close()
    outcome.receptions = sum(map(len, hospital.pacs.digests.values()))
    outcome.seconds = time.monotonic() - began
    return outcome


def _one_study(
    hospital: _Hospital,
    files: Sequence[Path],
    uid: str,
    phases: Sequence[str],
    strikes: list[str],
    chance: random.Random,
    outcome: Outcome,
) -> None:
    def strike(phase: str) -> None:
        victim = strikes.pop()
        hospital.strike(victim)
        outcome.kills[phase] = outcome.kills.get(phase, 0) + 1
        outcome.victims[victim] = outcome.victims.get(victim, 0) + 1

    sender = threading.Thread(target=hospital.bring, args=(files,))
    sender.start()
    if "ingest" in phases:
        time.sleep(chance.uniform(0.05, _WITHIN_S["ingest"]))
        strike("ingest")
    sender.join()
    left = [phase for phase in phases if phase != "ingest"]
    deadline = time.monotonic() + 150
    while left and not hospital.is_over(uid):
        assert time.monotonic() < deadline, f"{uid} came to no end; {hospital.node.log()[-4000:]}"
        if not hospital.is_in(left[0], uid):
            # An earlier phase that passed unseen is not waited for.
            left = next((left[at:] for at in range(1, len(left)) if hospital.is_in(left[at], uid)), left)
            time.sleep(0.002)
            continue
        time.sleep(chance.uniform(0.0, _WITHIN_S[left[0]]))
        strike(left.pop(0))
    wait_until(lambda: hospital.is_over(uid), within_s=150, what=f"{uid} is over")
