"""Several receivers on one port, on each database: one is killed in the middle of associations, and nothing is lost."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.builders import postgres
from tests.builders.node import NodeProcess, wait_until
from tests.builders.wire import Mill, Modality, store_message
from tests.chaos.audit import audit
from tests.chaos.ingest import Senders

pytestmark = pytest.mark.timeout(240)

PEERS = {"anyone": {"ae_title": "*", "from": ["127.0.0.1"], "accept": ["echo", "store"]}}


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest) -> str | None:
    """A database; None: the one that comes embedded."""
    if request.param == "sqlite":
        return None
    cluster: postgres.Cluster = request.getfixturevalue("postgres_cluster")
    return cluster.new_database()


@pytest.fixture
def node(tmp_path: Path, url: str | None) -> Iterator[NodeProcess]:
    environ = {"DICOM_NODE_DATABASE__URL": url} if url is not None else {}
    made = NodeProcess(tmp_path / "node", peers=PEERS, routes=[], node={"dimse": {"processes": 2}}, environ=environ)
    made.start()
    try:
        wait_until(lambda: len(made.pids_of("receiver")) == 2, within_s=20, what="two receivers are up")
        yield made
    finally:
        made.stop()


def serving(node: NodeProcess, modality: Modality) -> int:
    """Tell which receiver has the other end of an association."""
    ours = modality.socket.getsockname()[1]
    inodes = set()
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if int(fields[1].split(":")[1], 16) == node.dimse_port and int(fields[2].split(":")[1], 16) == ours:
            inodes.add(f"socket:[{fields[9]}]")
    for pid in node.pids_of("receiver"):
        for entry in Path(f"/proc/{pid}/fd").iterdir():
            try:
                if os.readlink(entry) in inodes:
                    return pid
            except FileNotFoundError:
                continue
    raise AssertionError("nobody serves the association")


def one_with_each(node: NodeProcess) -> dict[int, Modality]:
    """Have an association with each of the receivers; the kernel deals them out."""
    held: dict[int, Modality] = {}
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        modality = Modality(node.dimse_port, calling="CT1")
        pid = serving(node, modality)
        if pid in held:
            modality.release()
        held.setdefault(pid, modality)
        if len(held) == 2:
            return held
    raise AssertionError("the kernel never dealt a connection to the other receiver")


def test_a_receiver_that_is_killed_takes_no_other_s_association_along(node: NodeProcess, url: str | None) -> None:
    mill, acknowledged, offered = Mill(1, seed=1), {}, {}
    held = one_with_each(node)
    (victim, cut), (other, whole) = held.items()
    made = [mill.make(1, number) for number in range(4)]
    offered = {each.sop_instance_uid: each.sha256 for each in made}
    assert cut.store(made[0]) == whole.store(made[1]) == 0x0000
    message = store_message(made[2])
    cut.send(message[: len(message) // 2])
    os.kill(victim, signal.SIGKILL)
    assert whole.store(made[3]) == 0x0000
    acknowledged = {each.sop_instance_uid: each.sha256 for each in (made[0], made[1], made[3])}
    whole.release()
    cut.close()
    wait_until(lambda: len(set(node.pids_of("receiver")) - {victim}) == 2, within_s=20, what="its successor is up")
    assert other in node.pids_of("receiver")
    for again in one_with_each(node).values():  # the successor shares the port
        again.release()
    node.stop()
    found = audit(node.data_dir, acknowledged=acknowledged, offered=offered, url=url)
    assert found.clean, found


def test_kills_of_single_receivers_during_ingest_lose_nothing(node: NodeProcess, url: str | None) -> None:
    chance = random.Random(20261124)
    with Senders(node.dimse_port, 4, seed=20261124) as senders:
        for _ in range(6):
            time.sleep(chance.uniform(0.3, 1.2))
            os.kill(chance.choice(node.pids_of("receiver")), signal.SIGKILL)
        wait_until(lambda: len(node.pids_of("receiver")) == 2, within_s=30, what="both are up again")
        before = len(senders.sent.acknowledged)
        wait_until(lambda: len(senders.sent.acknowledged) > before + 20, within_s=30, what="it goes on")
    sent = senders.sent
    assert set(sent.refused) <= {0xA700}
    assert node.run("ledger").stdout.splitlines()[-1] == "0 unexplained"
    node.stop()
    found = audit(node.data_dir, acknowledged=sent.acknowledged, offered=sent.offered, url=url)
    assert found.acknowledged > 50
    assert found.clean, found
