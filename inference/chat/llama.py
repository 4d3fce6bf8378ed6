"""A model run by llama.cpp in a child process, which is started again when it dies.

llama.cpp aborts the process that it runs in when something is wrong with a model or a request: that must be nobody
else's. The child speaks the OpenAI API on a Unix socket that its owner alone may use; it opens no port.
"""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

log = logging.getLogger(__name__)

#: What a child gets of the environment: nothing of the node's settings or secrets.
_ENVIRONMENT = {"LC_ALL": "C.UTF-8", "OMP_WAIT_POLICY": "passive"}
#: A child that dies again within this time waits before it is started again.
_CALM_S = 30.0
_LONGEST_WAIT_S = 30.0


@dataclass(frozen=True)
class LlamaModel:
    """What is run, and with what means."""

    model: Path
    projector: Path | None
    socket: Path
    context_size: int
    threads: int
    gpu_layers: int | None
    """None: as many as fit."""

    def as_json(self) -> str:
        """Give it as the child reads it."""
        return json.dumps(
            {
                "model": str(self.model),
                "name": self.model.stem,
                "projector": "" if self.projector is None else str(self.projector),
                "socket": str(self.socket),
                "context_size": self.context_size,
                "threads": self.threads,
                "gpu_layers": -1 if self.gpu_layers is None else self.gpu_layers,
            }
        )


def run_model(model: LlamaModel, *, wait: Callable[[float], bool]) -> None:
    """Keep a model running until told to stop.

    `wait`: waits for so many seconds, or until it is to stop, and tells which.
    """
    crashes = 0
    while True:
        began = time.monotonic()
        child = _start(model)
        try:
            while child.poll() is None:
                if wait(0.2):
                    return
        finally:
            _end(child)
        crashes = crashes + 1 if time.monotonic() - began < _CALM_S else 0
        again_in_s = min(0.5 * 2**crashes, _LONGEST_WAIT_S) if crashes else 0.0
        log.error(
            "the language model ended unexpectedly",
            extra={"action": "model_ended", "exit": child.returncode, "again_in_s": again_in_s},
        )
        if wait(again_in_s):
            return


def _start(model: LlamaModel) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-I", "-m", "inference.chat.llama_child", model.as_json()],
        stdin=subprocess.PIPE,  # its end tells the child that nobody needs it any more
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,  # llama.cpp writes there, and may quote what it was asked
        env=_ENVIRONMENT,
        cwd="/",
    )


def _end(child: subprocess.Popen[bytes]) -> None:
    if child.stdin is not None:
        child.stdin.close()
    try:
        child.wait(5)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
