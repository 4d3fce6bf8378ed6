"""The start of the node: check, prepare, supervise."""

from __future__ import annotations

import importlib
import json
import logging
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TextIO

from configs.errors import ConfigError, NodeError
from configs.load import Loaded
from configs.settings import Settings
from dicom_node import logs
from dicom_node.admin_key import forget_admin_key, make_admin_key
from dicom_node.chat_backend import backend_of
from dicom_node.platform import DirectoryLock
from dicom_node.roles import ROLES
from dicom_node.supervisor import Supervisor
from dicom_node.version import VERSION

log = logging.getLogger(__name__)


def up(loaded: Loaded, *, roles: Sequence[str] = ROLES, out: TextIO = sys.stdout) -> None:
    """Run the node until SIGTERM or SIGINT.

    Raises
    ------
    NodeError
        It cannot start as asked; the message says what to do.
    """
    began = time.monotonic()
    settings = loaded.settings
    logs.configure(settings.log, role="supervisor")
    refusal = f"A node runs on {settings.data_dir} already. Stop it, or set DICOM_NODE_DATA_DIR to another directory."
    lock = DirectoryLock(settings.data_dir, name=".lock", refusal=refusal)
    new_key: str | None = None
    shown = False
    try:
        new_key = make_admin_key(settings)
        in_child(lambda: prepare(settings))
        # Shared by all roles after the fork; it must pull in nothing that the receiver may not hold.
        importlib.import_module("dicom_node.roles.receiver")
        supervisor = Supervisor(settings, loaded.config_dir, needed(roles, settings))

        def say_ready(facts: Mapping[str, Mapping[str, Any]]) -> None:
            lines = start_lines(loaded, facts, new_key=new_key, seconds=time.monotonic() - began)
            print("\n".join(lines), file=out, flush=True)
            nonlocal shown
            shown = True

        supervisor.run(say_ready)
    finally:
        if new_key and not shown:
            forget_admin_key(settings)
        lock.release()


def needed(roles: Sequence[str], settings: Settings) -> Sequence[str]:
    """Leave out the role that runs a language model where there is none to run.

    Raises
    ------
    ConfigError
        Nothing is left; the message says what is missing.
    """
    backend = backend_of(settings)
    left = [role for role in roles if role != "chat" or backend.kind == "llama_cpp"]
    if not left:
        raise ConfigError(backend.absent or "The language model runs on other servers: chat.upstreams.")
    return left


def prepare(settings: Settings) -> None:
    """Bring the database to this version's schema, for the index and for the queue."""
    importlib.import_module("dicom_node.roles.preparation").prepare(settings)


def in_child(work: Callable[[], None]) -> None:
    """Do work in a process that ends with it, so that this one stays small enough to fork.

    Raises
    ------
    ConfigError
        The work failed; the message is its own.
    """
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reading)
        _work_and_exit(work, writing)
    os.close(writing)
    with os.fdopen(reading, encoding="utf-8") as pipe:
        said = pipe.read()
    _, status = os.waitpid(pid, 0)
    if said:
        raise ConfigError(json.loads(said))
    if os.waitstatus_to_exitcode(status) != 0:
        raise ConfigError("The preparation of the node ended unexpectedly; see the log above.")


def _work_and_exit(work: Callable[[], None], pipe: int) -> None:
    code = 1
    try:
        work()
        code = 0
    except NodeError as error:
        os.write(pipe, json.dumps(str(error)).encode())
    except Exception:
        log.exception("preparation failed", extra={"action": "preparation_failed"})
    finally:
        sys.stderr.flush()
        os._exit(code)


def start_lines(
    loaded: Loaded, facts: Mapping[str, Mapping[str, Any]], *, new_key: str | None, seconds: float
) -> list[str]:
    """Say where the node listens, who may come in, and how to let a PACS in."""
    settings = loaded.settings
    dimse_port = facts.get("receiver", {}).get("port", settings.dimse.port)
    base = settings.http.base_url(port=facts.get("web", {}).get("port"))
    lines = [
        f"dicom-node {VERSION} is up ({seconds:.1f} s). Research use; results are not for diagnosis.",
        f"  DICOM     {settings.dimse.ae_title} at {settings.dimse.host}:{dimse_port}",
        f"  HTTP      console {base}/console   DICOMweb {base}/dicom-web   API {base}/docs",
        f"  May call  DICOM: {_peers_line(settings)}",
        f"            HTTP: {_http_line(settings)}",
        f"  Settings  {loaded.config_dir}   data {settings.data_dir}",
    ]
    if new_key:
        lines.append(f"  Admin key (shown this once; later: dicom-node keys show-admin): {new_key}")
    if not settings.dimse.listens_beyond_this_machine:
        only = "Listens" if not settings.http.listens_beyond_this_machine else "DICOM listens"
        lines.append(
            f"  {only} on this machine only. To let a PACS in: set dimse.host to 0.0.0.0 and run "
            "`dicom-node peers add pacs1 --ae PACS1 --host 10.1.2.3 --port 104`"
        )
    lines.append("  Ctrl-C ends it.")
    return lines


def _peers_line(settings: Settings) -> str:
    said = [
        f"{name} ({'any AE title' if peer.ae_title == '*' else peer.ae_title} from {', '.join(peer.may_call_from)})"
        for name, peer in settings.peers.items()
    ]
    return ", ".join(said) if said else "nobody: peers.yaml is empty"


def _http_line(settings: Settings) -> str:
    if settings.auth.local == "open" and not settings.http.listens_beyond_this_machine:
        return "programs on this machine without a key (auth.local: open)"
    return "only with a key: Authorization: Bearer <key>"
