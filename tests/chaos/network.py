"""Connections cut at any byte, slow and greedy peers, and what they cost."""

from __future__ import annotations

import contextlib
import os
import random
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.builders.node import NodeProcess, wait_until
from tests.builders.wire import Gone, Mill, Modality, Rejected, associate_rq, store_message
from tests.chaos.audit import Found, audit

PEERS = {"modality": {"ae_title": "CT1", "from": ["127.0.0.1"], "accept": ["echo", "store", "find"]}}
#: What leads an association to pynetdicom.
_QUERY = (("1.2.840.10008.5.1.4.1.2.2.1", "1.2.840.10008.1.2.1"),)
_CUTS = ("reset", "half_close", "abort", "close")


@dataclass(frozen=True)
class Costs:
    """What a process holds now."""

    rss_mb: float
    threads: int
    descriptors: int
    sockets: int
    cpu_s: float


def costs_of(pid: int) -> Costs:
    """Look at a process."""
    status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":" in line)
    stat = Path(f"/proc/{pid}/stat").read_text()
    fields = stat[stat.rindex(")") + 2 :].split()
    ticks = os.sysconf("SC_CLK_TCK")
    return Costs(
        rss_mb=int(status["VmRSS"].split()[0]) / 1000,
        threads=int(status["Threads"]),
        descriptors=len(os.listdir(f"/proc/{pid}/fd")),
        sockets=_sockets_of(pid),
        cpu_s=(int(fields[11]) + int(fields[12])) / ticks,
    )


def _sockets_of(pid: int) -> int:
    count = 0
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            count += str(entry.readlink()).startswith("socket:")
    return count


@contextlib.contextmanager
def node_up(folder: Path, **settings: object) -> Iterator[NodeProcess]:
    """Have a node that lets CT1 in."""
    node = NodeProcess(folder, peers=PEERS, routes=[], node={"quiet": {"after_s": 1.0}, **settings})
    node.start()
    try:
        yield node
    finally:
        node.stop()


@dataclass
class Cuts:
    """What cutting connections came to."""

    seed: int
    cuts: dict[str, int] = field(default_factory=dict)
    """How it was cut → how often."""
    acknowledged: dict[str, str] = field(default_factory=dict)
    offered: dict[str, str] = field(default_factory=dict)
    before: Costs | None = None
    after: Costs | None = None
    freed_within_s: float = 0.0
    """Until descriptors and threads were back."""
    found: Found | None = None
    incoming: int = 0
    """Half-written files left."""


def cut_connections(folder: Path, *, count: int, seed: int) -> Cuts:
    """Cut the connection at a random byte of a C-STORE, again and again; each time after some whole ones."""
    chance, mill, cuts = random.Random(seed), Mill(1, seed=seed), Cuts(seed)
    with node_up(folder) as node:
        receiver = node.role_pids()["receiver"]
        warm_up(node)
        cuts.before = settled(receiver)
        for number in range(count):
            with contextlib.suppress(Gone):
                _one_cut(node, mill, number, chance.choice(_CUTS), chance, cuts)
        began = time.monotonic()
        wait_until(lambda: _is_back(receiver, cuts.before), within_s=30, what="threads and descriptors are back")
        cuts.freed_within_s = time.monotonic() - began
        cuts.after = costs_of(receiver)
        assert node.role_pids()["receiver"] == receiver, "the receiver ended"
        with Modality(node.dimse_port) as well:
            made = mill.make(9999, 1)
            cuts.offered[made.sop_instance_uid] = made.sha256
            assert well.store(made) == 0x0000
            cuts.acknowledged[made.sop_instance_uid] = made.sha256
            well.release()
    cuts.incoming = sum(
        path.is_file() and path.name != ".lock" for path in (node.data_dir / "blobs/incoming").rglob("*")
    )
    warm = Mill(99, seed=0).make(1, 1)
    cuts.found = audit(
        node.data_dir,
        acknowledged=cuts.acknowledged,
        offered={**cuts.offered, warm.sop_instance_uid: warm.sha256},
    )
    return cuts


def _one_cut(node: NodeProcess, mill: Mill, number: int, how: str, chance: random.Random, cuts: Cuts) -> None:
    modality = Modality(node.dimse_port)
    for whole in range(chance.randint(0, 2)):
        made = mill.make(number, whole)
        cuts.offered[made.sop_instance_uid] = made.sha256
        if modality.store(made) == 0x0000:
            cuts.acknowledged[made.sop_instance_uid] = made.sha256
    made = mill.make(number, 9)
    cuts.offered[made.sop_instance_uid] = made.sha256
    message = store_message(made)
    modality.send(message[: chance.randint(0, len(message))])
    cuts.cuts[how] = cuts.cuts.get(how, 0) + 1
    getattr(modality, how)()
    if how == "half_close":
        with contextlib.suppress(Gone):
            modality.read()  # an abort, an answer, or the end: whatever it is, it comes
        modality.close()


def warm_up(node: NodeProcess) -> None:
    """Have everything imported and every pool filled before something is measured."""
    for _ in range(8):
        with Modality(node.dimse_port) as modality:
            assert modality.store(Mill(99, seed=0).make(1, 1)) == 0x0000
            modality.release()


def settled(pid: int) -> Costs:
    """Look at a process once its threads do not get fewer any more, three seconds long."""
    now, still = costs_of(pid), 0
    for _ in range(20):
        time.sleep(1.0)
        before, now = now, costs_of(pid)
        still = still + 1 if now.threads >= before.threads else 0
        if still == 3:
            break
    return now


def _is_back(pid: int, before: Costs | None) -> bool:
    now = costs_of(pid)
    assert before is not None
    # Of descriptors only sockets: a pool of the database may have grown, and stays.
    return now.sockets <= before.sockets and now.threads <= before.threads + 1


@dataclass(frozen=True)
class Leak:
    """What many associations leave behind."""

    associations: int
    bare_connects: int
    aborts: int
    queries: int
    before: Costs
    after: Costs


def many_connections(folder: Path, *, associations: int, bare: int, aborts: int, queries: int) -> Leak:
    """Open and end so many associations and bare connections, and look at what the receiver holds then.

    `queries`: associations that ask for C-FIND, and so are pynetdicom's; every tenth of them is aborted.
    """
    with node_up(folder) as node:
        receiver = node.role_pids()["receiver"]
        warm_up(node)
        for _ in range(min(200, associations)):
            Modality(node.dimse_port).release()
        for _ in range(min(50, queries)):
            Modality(node.dimse_port, contexts=_QUERY).release()
        before = settled(receiver)
        for number in range(max(associations, bare, aborts, queries)):
            if number < associations:
                Modality(node.dimse_port).release()
            if number < bare:
                socket.create_connection(("127.0.0.1", node.dimse_port), timeout=10).close()
            if number < aborts:
                Modality(node.dimse_port).abort()
            if number < queries:
                asker = Modality(node.dimse_port, contexts=_QUERY)
                (asker.release if number % 10 else asker.abort)()
        wait_until(lambda: _is_back(receiver, before), within_s=30, what="threads and descriptors are back")
        return Leak(associations, bare, aborts, queries, before, settled(receiver))


@dataclass(frozen=True)
class Refusals:
    """What refusing costs."""

    count: int
    cpu_ms_each: float
    seconds: float


def refuse_many(folder: Path, *, count: int) -> Refusals:
    """Have so many callers refused, and take the receiver's CPU time."""
    with node_up(folder) as node:
        receiver = node.role_pids()["receiver"]
        warm_up(node)
        before, began = costs_of(receiver), time.monotonic()
        for _ in range(count):
            with contextlib.suppress(Rejected):
                Modality(node.dimse_port, calling="STRANGER").close()
                raise AssertionError("a stranger was let in")
        seconds = time.monotonic() - began
        time.sleep(1.0)
        cpu_s = costs_of(receiver).cpu_s - before.cpu_s
    return Refusals(count, 1000 * cpu_s / count, seconds)


@dataclass(frozen=True)
class SlowPeers:
    """What slow and greedy peers do to others."""

    half_open: int
    dripping: int
    baseline_p95_ms: float
    p95_ms: float
    gone_within_s: float
    """Until the node had ended every one of them."""


def slow_peers(folder: Path, *, half_open: int, dripping: int, stores: int, patience_s: float) -> SlowPeers:
    """Hold connections open without a word and drip bytes into others, while a modality sends as ever."""
    settings = {"dimse": {"answer_within_s": patience_s, "idle_after_s": patience_s, "maximum_associations": 300}}
    mill = Mill(2, seed=1)
    with node_up(folder, **settings) as node, contextlib.ExitStack() as stack:
        warm_up(node)
        baseline = _p95_ms(node, mill, 1, stores)
        began = time.monotonic()
        held = [
            stack.enter_context(socket.create_connection(("127.0.0.1", node.dimse_port), timeout=10))
            for _ in range(half_open + dripping)
        ]
        drips, request = (
            held[half_open:],
            associate_rq("CT1", "DICOMNODE", [("1.2.840.10008.1.1", "1.2.840.10008.1.2")]),
        )
        for at, byte in enumerate(request[:4]):
            for each in drips:
                with contextlib.suppress(OSError):
                    each.sendall(bytes([byte]))
            time.sleep(0.05 if at else 0)
        beside = _p95_ms(node, mill, 2, stores)
        deadline = began + patience_s + 30
        for at, each in enumerate(held):
            _await_end(each, deadline, drip=request[5:6] if at >= half_open else b"")
        return SlowPeers(half_open, dripping, baseline, beside, time.monotonic() - began)


def _await_end(connection: socket.socket, deadline: float, *, drip: bytes) -> None:
    """Wait until the node ends a connection, sending a byte each second meanwhile where it drips."""
    connection.settimeout(1.0)
    while time.monotonic() < deadline:
        try:
            if drip:
                connection.sendall(drip)
            if not connection.recv(64):
                return
        except TimeoutError:
            continue
        except OSError:
            return
    raise AssertionError("a slow peer was never ended")


def _p95_ms(node: NodeProcess, mill: Mill, study: int, stores: int) -> float:
    took = []
    with Modality(node.dimse_port) as modality:
        for number in range(stores):
            made, began = mill.make(study, number), time.monotonic()
            assert modality.store(made) == 0x0000
            took.append(time.monotonic() - began)
        modality.release()
    return 1000 * sorted(took)[int(0.95 * len(took)) - 1]
