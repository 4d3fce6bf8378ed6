"""The node's processes: what a start says, what it refuses, what a role holds, and that a killed one comes back."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.builders.node import ROLES, ROOT, NodeProcess, free_ports, wait_until

pytestmark = pytest.mark.timeout(180)

PEERS = {"ct1": {"ae_title": "CT1", "from": ["127.0.0.1"], "accept": ["echo", "store"]}}
#: Modules that a receiver must not hold: they cost memory and seconds, and what crashes in them is not its affair.
HEAVY = ("dbos", "highdicom", "scipy")


@pytest.fixture
def node(tmp_path: Path) -> Iterator[NodeProcess]:
    made = NodeProcess(tmp_path, peers=PEERS)
    yield made
    made.stop()


def test_the_start_says_where_it_listens_who_may_come_and_how_to_let_a_pacs_in(node: NodeProcess) -> None:
    node.start()
    said = node.log()
    assert f"DICOMNODE at 127.0.0.1:{node.dimse_port}" in said
    assert f"console http://127.0.0.1:{node.http_port}/console" in said
    assert "DICOM: ct1 (CT1 from 127.0.0.1)" in said
    assert "without a key (auth.local: open)" in said
    assert "Listens on this machine only. To let a PACS in: set dimse.host to 0.0.0.0 and run" in said
    (key,) = [line.rsplit(" ", 1)[1] for line in said.splitlines() if "Admin key" in line]
    assert node.run("keys", "show-admin").stdout.strip() == key
    assert (node.data_dir / "admin.key").stat().st_mode & 0o777 == 0o600
    second = node.run("up")
    refusal = f"A node runs on {node.data_dir} already. Stop it, or set DICOM_NODE_DATA_DIR to another directory.\n"
    assert (second.returncode, second.stderr) == (1, refusal)


def test_interrupting_it_ends_it_well_and_the_next_start_shows_no_key(node: NodeProcess) -> None:
    node.start()
    assert node.process is not None
    os.killpg(node.process.pid, signal.SIGINT)  # Ctrl-C reaches the whole group
    assert node.process.wait(30) == 0
    assert node.role_pids() == {}
    assert "Traceback" not in node.log()
    (node.folder / "node.log").unlink()
    node.start()
    assert "is up" in node.log()
    assert "Admin key" not in node.log()


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("dimse_port", "Port {port} (dimse.port) is in use. Try DICOM_NODE_DIMSE__PORT={next} make run."),
        ("http_port", "Port {port} (http.port) is in use. Try PORT={next} make run."),
    ],
)
def test_a_port_in_use_is_said_in_one_line_and_nothing_stays_behind(node: NodeProcess, name: str, said: str) -> None:
    port = getattr(node, name)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", port))
        taken.listen()
        ended = node.run("up")
    assert ended.returncode == 1
    assert ended.stderr.splitlines() == [said.format(port=port, next=port + 1)]
    assert ended.stdout == ""
    assert not (node.data_dir / "admin.key").exists(), "a key that nobody was shown"


def test_killed_roles_come_back_alone_and_none_outlives_its_supervisor(node: NodeProcess) -> None:
    node.start()
    for role in ROLES:
        before = node.role_pids()
        node.kill_role(role)
        after = wait_until(
            lambda role=role, before=before: (
                (pids := node.role_pids()).get(role, before[role]) != before[role] and len(pids) == len(ROLES) and pids
            ),
            within_s=60,
            what=f"{role} is back",
        )
        assert {name for name in ROLES if after[name] != before[name]} == {role}
    wait_until(node._is_ready, within_s=60, what="ready again")
    assert node.log().count("role ended unexpectedly") == len(ROLES)
    assert node.process is not None
    node.process.kill()
    node.process.wait()
    wait_until(lambda: not node.processes(), within_s=10, what="no process outlives its supervisor")


def test_a_node_of_some_roles_has_only_those(node: NodeProcess) -> None:
    with (node.folder / "node.log").open("wb") as log:
        node.process = subprocess.Popen(
            [sys.executable, "-m", "dicom_node.cli", "--config", str(node.config_dir), "up", "--roles", "receiver"],
            env=node.environ,
            stdout=log,
            stderr=log,
            cwd=node.folder,
            start_new_session=True,
        )
    wait_until(lambda: "is up" in node.log(), within_s=30, what="the receiver is up")
    assert set(node.role_pids()) == {"receiver"}


def test_a_forked_receiver_holds_none_of_what_engines_and_queue_need(tmp_path: Path) -> None:
    """The supervisor's own fork, with a receiver that says what it holds after it has started."""
    dimse, http = free_ports(2)
    said = tmp_path / "modules"
    script = f"""
import sys, threading
from pathlib import Path
from configs.load import load
from dicom_node import main, supervisor
import dicom_node.roles.receiver as receiver

real_run = receiver.run

def run(context):
    ready = context.ready

    def tell(**facts):
        Path({str(said)!r}).write_text("\\n".join(sorted(sys.modules)))
        ready(**facts)

    real_run(supervisor.RoleContext(context.settings, context.config_dir, context.stop, tell))

receiver.run = run
main.up(load(None, {{"DICOM_NODE_DATA_DIR": {str(tmp_path / "data")!r}, "DICOM_NODE_DIMSE__PORT": "{dimse}",
    "DICOM_NODE_HTTP__PORT": "{http}"}}), roles=("receiver",))
"""
    child = subprocess.Popen([sys.executable, "-c", script], cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)})
    try:
        wait_until(said.exists, within_s=30, what="the receiver has started")
        time.sleep(0.1)
    finally:
        child.terminate()
        assert child.wait(30) == 0
    held = {name.partition(".")[0] for name in said.read_text().splitlines()}
    assert "pynetdicom" in held
    assert held.isdisjoint({*HEAVY, "torch", "fastapi", "uvicorn"})


def test_rooms_resolve_into_this_repository() -> None:
    """Their names are common: another installed package must not stand in for them."""
    rooms = ("inference", "storage", "dicomweb", "configs", "dicom_node")
    code = "import importlib, sys; print(*(importlib.import_module(room).__file__ for room in sys.argv[1:]))"
    done = subprocess.run(
        [sys.executable, "-c", code, *rooms], cwd="/", capture_output=True, text=True, check=True, env=_without_path()
    )
    assert done.stdout.split() == [str(ROOT / room / "__init__.py") for room in rooms]


def _without_path() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
