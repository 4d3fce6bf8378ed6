"""Starts the roles, each in a process of its own, and keeps them running.

The supervisor holds no thread, no connection and no event loop: it forks, and what a role needs
is made after the fork.
"""

from __future__ import annotations

import gc
import importlib
import json
import logging
import os
import selectors
import signal
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from configs.errors import NodeError
from configs.settings import Settings
from dicom_node import logs
from dicom_node.platform import die_with_parent, name_process

log = logging.getLogger(__name__)

#: Seconds that roles get to end by themselves.
GRACE_S = 15.0
#: A role that crashes again within this time waits before it is started again.
_CALM_S = 10.0
_LONGEST_WAIT_S = 30.0
_STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)


@dataclass(frozen=True)
class RoleContext:
    """What a role gets to work with."""

    settings: Settings
    config_dir: Path
    stop: threading.Event
    """Set when the role is to end."""
    ready: Callable[..., None]
    """To be called once, with facts that the start lines show (`port=…`)."""
    number: int = 0
    """Of several processes of one role: which."""


@dataclass
class _Child:
    role: str
    number: int = 0
    pid: int = 0
    pipe: int = -1
    facts: dict[str, Any] | None = None
    started_at: float = 0.0
    crashes: int = 0
    start_at: float = field(default=0.0)
    """Monotonic time of the next start, while it does not run."""


class RoleFailed(NodeError):
    """A role could not start."""


class Supervisor:
    """Runs roles until it is told to stop."""

    def __init__(self, settings: Settings, config_dir: Path, roles: Sequence[str]) -> None:
        self._settings = settings
        self._config_dir = config_dir
        self._children = [
            _Child(role, number)
            for role in roles
            for number in range(settings.dimse.processes if role == "receiver" else 1)
        ]
        self._stopping = False
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_write, False)

    def run(self, on_ready: Callable[[dict[str, dict[str, Any]]], None]) -> None:
        """Start all roles, call `on_ready` with their facts once all are up, and stay until SIGTERM or SIGINT.

        Raises
        ------
        RoleFailed
            A role refused its first start; the message is the role's own. The others are stopped.
        """
        for signal_number in _STOP_SIGNALS:
            signal.signal(signal_number, self._ask_to_stop)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(self._wake_write)
        gc.freeze()
        try:
            for child in self._children:
                self._start(child)
            self._await_ready()
            if not self._stopping:
                on_ready({child.role: child.facts or {} for child in self._children})
            self._keep_running()
        finally:
            self._stop_all()
            signal.set_wakeup_fd(-1)

    def _ask_to_stop(self, *_: object) -> None:
        self._stopping = True

    def _start(self, child: _Child) -> None:
        reading, writing = os.pipe()
        parent_pid = os.getpid()
        # Held back until the child has handlers of its own: a stop in between must not be lost.
        signal.pthread_sigmask(signal.SIG_BLOCK, _STOP_SIGNALS)
        pid = os.fork()
        if pid == 0:
            os.close(reading)
            self._become(child, writing, parent_pid)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOP_SIGNALS)
        os.close(writing)
        child.pid, child.pipe, child.facts, child.started_at = pid, reading, None, time.monotonic()

    def _become(self, child: _Child, pipe: int, parent_pid: int) -> None:
        """Be the role; never returns."""
        code = 1
        try:
            die_with_parent(parent_pid)
            code = be_role(child.role, self._settings, self._config_dir, pipe, child.number)
        finally:
            os._exit(code)

    def _await_ready(self) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self._wake_read, selectors.EVENT_READ, None)
            for child in self._children:
                selector.register(child.pipe, selectors.EVENT_READ, child)
            while not self._stopping and any(child.facts is None for child in self._children):
                for key, _ in selector.select():
                    if key.data is None:
                        os.read(self._wake_read, 4096)
                        continue
                    selector.unregister(key.fd)
                    key.data.facts = self._facts_of(key.data)

    @staticmethod
    def _facts_of(child: _Child) -> dict[str, Any]:
        with os.fdopen(child.pipe, encoding="utf-8") as pipe:
            line = pipe.readline()
        child.pipe = -1
        said = json.loads(line) if line else {"error": f"The {child.role} ended without a word; see the log above."}
        if "error" in said:
            raise RoleFailed(said["error"], role=child.role)
        return dict(said)

    def _keep_running(self) -> None:
        while not self._stopping:
            self._reap()
            waits = [max(0.0, child.start_at - time.monotonic()) for child in self._children if not child.pid]
            with selectors.DefaultSelector() as selector:
                selector.register(self._wake_read, selectors.EVENT_READ)
                if selector.select(min(waits) if waits else None):
                    os.read(self._wake_read, 4096)
            for child in self._children:
                if not child.pid and not self._stopping and time.monotonic() >= child.start_at:
                    self._start(child)
                    log.info("role started again", extra={"action": "role_restarted", "process_role": child.role})

    def _reap(self) -> None:
        for child in self._children:
            if not child.pid:
                continue
            pid, status = os.waitpid(child.pid, os.WNOHANG)
            if not pid:
                continue
            if child.pipe >= 0:
                os.close(child.pipe)
            now = time.monotonic()
            child.crashes = child.crashes + 1 if now - child.started_at < _CALM_S else 0
            wait_s = min(0.5 * 2 ** (child.crashes - 1), _LONGEST_WAIT_S) if child.crashes else 0.0
            child.pid, child.pipe, child.start_at = 0, -1, now + wait_s
            if not self._stopping:
                log.error(
                    "role ended unexpectedly",
                    extra={
                        "action": "role_ended",
                        "process_role": child.role,
                        "exit": os.waitstatus_to_exitcode(status),
                        "again_in_s": wait_s,
                    },
                )

    def _stop_all(self) -> None:
        self._stopping = True
        deadline = time.monotonic() + GRACE_S
        for child in self._children:
            if child.pid:
                os.kill(child.pid, signal.SIGTERM)
        while any(child.pid for child in self._children) and time.monotonic() < deadline:
            self._reap()
            time.sleep(0.02)
        for child in self._children:
            if child.pid:
                log.error("role did not end in time", extra={"action": "role_killed", "process_role": child.role})
                os.kill(child.pid, signal.SIGKILL)
                os.waitpid(child.pid, 0)
                child.pid = 0


def be_role(role: str, settings: Settings, config_dir: Path, pipe: int, number: int = 0) -> int:
    """Run one role in this process until it is told to stop; give the exit status.

    `pipe` takes one line of JSON: the facts of a role that is ready, or the error of one that cannot start.
    """
    stop = threading.Event()
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the supervisor decides
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOP_SIGNALS)
    name_process(f"dn-{role}")
    logs.configure(settings.log, role=role)

    def say(**facts: object) -> None:
        with os.fdopen(pipe, "w", encoding="utf-8") as answer:
            answer.write(json.dumps(facts) + "\n")

    said: list[bool] = []

    def ready(**facts: object) -> None:
        said.append(True)
        say(**facts)

    try:
        # Each role's own imports happen here, after the fork: the receiver never holds what the worker needs.
        importlib.import_module(f"dicom_node.roles.{role}").run(RoleContext(settings, config_dir, stop, ready, number))
    except NodeError as error:
        if not said:
            say(error=str(error))  # the command prints it
            return 1
        log.error("role cannot go on", extra={"action": "role_refused", "error": error.code, "why": str(error)})
        return 1
    except Exception:
        log.exception("role failed", extra={"action": "role_failed"})
        if not said:
            say(error=f"The {role} failed by an error of ours; see the log above.")
        return 1
    return 0
