"""The node as a process: started, asked, killed and stopped by tests."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import httpx
import yaml

ROOT = Path(__file__).parents[2]
ROLES = ("receiver", "web", "worker", "courier")


def free_ports(count: int) -> list[int]:
    """Ports of this machine that nobody uses now."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def wait_until(done: Callable[[], Any], *, within_s: float, what: str) -> Any:
    """Poll until `done` gives something true; fail with `what` after the time."""
    deadline = time.monotonic() + within_s
    while True:
        answer = done()
        if answer:
            return answer
        assert time.monotonic() < deadline, f"not within {within_s} s: {what}"
        time.sleep(0.05)


class NodeProcess:
    """`dicom-node up` on free ports with data and configuration of its own."""

    def __init__(
        self,
        folder: Path,
        *,
        peers: Mapping[str, Any],
        routes: list[Any] | None = None,
        node: Mapping[str, Any] | None = None,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        self.folder = folder
        self.dimse_port, self.http_port = free_ports(2)
        self.config_dir = folder / "config"
        self.config_dir.mkdir(parents=True)
        self.data_dir = folder / "data"
        self._write("peers", {"peers": dict(peers)})
        self._write("node", dict(node or {"quiet": {"after_s": 1.0}, "delivery": {"first_retry_s": 0.5}}))
        for name in ("engines", "routes"):
            (self.config_dir / f"{name}.yaml").write_text((ROOT / "configs" / f"{name}.yaml").read_text())
        if routes is not None:
            self._write("routes", {"routes": routes})
        self.process: subprocess.Popen[bytes] | None = None
        self._environ = dict(environ or {})

    def _write(self, name: str, content: Mapping[str, Any]) -> None:
        (self.config_dir / f"{name}.yaml").write_text(yaml.safe_dump(dict(content)))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.http_port}"

    @property
    def environ(self) -> dict[str, str]:
        clean = {name: value for name, value in os.environ.items() if not name.startswith("DICOM_NODE_")}
        return clean | {
            "DICOM_NODE_DATA_DIR": str(self.data_dir),
            "DICOM_NODE_DIMSE__PORT": str(self.dimse_port),
            "DICOM_NODE_HTTP__PORT": str(self.http_port),
            "PYTHONPATH": str(ROOT),
            "DICOM_NODE_DISK__WARN_AT_PERCENT": "100",  # how full the tests' machine is says nothing of the node
            **self._environ,
        }

    def start(self) -> float:
        """Start and wait until ready; give the seconds that took."""
        began = time.monotonic()
        with (self.folder / "node.log").open("ab") as log:
            self.process = subprocess.Popen(
                self._command("up"), env=self.environ, stdout=log, stderr=log, cwd=self.folder, start_new_session=True
            )
        try:
            wait_until(self._is_ready, within_s=60, what="the node is ready")
        except AssertionError:
            raise AssertionError(self.log()[-4000:]) from None
        return time.monotonic() - began

    def _is_ready(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, self.log()[-4000:]
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", self.dimse_port)) != 0:
                return False
        try:
            return httpx.get(self.url + "/ready", timeout=2).status_code == 200
        except httpx.HTTPError:
            return False

    def log(self) -> str:
        return (self.folder / "node.log").read_text(errors="replace")

    def stop(self) -> int:
        """End it as an administrator would."""
        if self.process is None or self.process.poll() is not None:
            return 0
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(30)

    def kill(self) -> None:
        """Kill -9 of the whole process group."""
        assert self.process is not None
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(10)
        wait_until(lambda: not self.role_pids(), within_s=10, what="all roles are gone")

    def role_pids(self) -> dict[str, int]:
        """Role → process id, of the roles that run now; without the processes that roles start for themselves."""
        return {name: pid for name, pid in self.processes().items() if name in ROLES}

    def processes(self) -> dict[str, int]:
        """Name → process id, of all that run in the node's process group under a name of ours."""
        return {name: pid for pid, name in self._named().items()}

    def pids_of(self, role: str) -> list[int]:
        """Process ids of a role that may have several."""
        return sorted(pid for pid, name in self._named().items() if name == role)

    def _named(self) -> dict[int, str]:
        assert self.process is not None
        found: dict[int, str] = {}
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            with contextlib.suppress(OSError):
                stat = (entry / "stat").read_text()
                name, fields = stat[stat.index("(") + 1 : stat.rindex(")")], stat[stat.rindex(")") + 2 :].split()
                if name.startswith("dn-") and int(fields[2]) == self.process.pid and fields[0] != "Z":
                    found[int(entry.name)] = name.removeprefix("dn-")
        return found

    def kill_role(self, role: str) -> None:
        """Kill -9 of one role; the supervisor is to start it again."""
        os.kill(self.role_pids()[role], signal.SIGKILL)

    def get(self, path: str) -> Any:
        answer = httpx.get(self.url + path, timeout=30)
        assert answer.status_code == 200, (path, answer.status_code, answer.text)
        return answer.json()

    def study(self, uid: str) -> dict[str, Any]:
        return dict(self.get(f"/api/studies/{uid}"))

    def await_state(self, uid: str, *states: str, within_s: float = 60) -> dict[str, Any]:
        """Wait until a study is in one of the states, with all deliveries at their end."""

        def look() -> dict[str, Any] | None:
            answer = httpx.get(f"{self.url}/api/studies/{uid}", timeout=30)
            if answer.status_code != 200:
                return None
            study = dict(answer.json())
            ended = all(each["state"] not in ("waiting", "sending") for each in study["deliveries"])
            return study if study["state"] in states and ended else None

        try:
            return dict(wait_until(look, within_s=within_s, what=f"{uid} is {states}"))
        except AssertionError:
            raise AssertionError(f"not {states}; {self.log()[-6000:]}") from None

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run one `dicom-node` command against this node's configuration and data."""
        return subprocess.run(
            self._command(*words),
            env=self.environ,
            capture_output=True,
            text=True,
            cwd=self.folder,
            timeout=60,
            check=False,
        )

    def _command(self, *words: str) -> list[str]:
        return [sys.executable, "-m", "dicom_node.cli", "--config", str(self.config_dir), *words]
