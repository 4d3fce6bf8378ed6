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
from dicom_node.admin_key import make_admin_key
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
    try:
        new_key = make_admin_key(settings)
        in_child(lambda: prepare(settings))
        # Shared by all roles after the fork; it must pull in nothing that the receiver may not hold.
        importlib.import_module("dicom_node.roles.receiver")
        supervisor = Supervisor(settings, loaded.config_dir, roles)

        def say_ready(facts: Mapping[str, Mapping[str, Any]]) -> None:
            lines = start_lines(loaded, facts, new_key=new_key, seconds=time.monotonic() - began)
            print("\n".join(lines), file=out, flush=True)

        supervisor.run(say_ready)
    finally:
        lock.release()


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
    http_port = facts.get("web", {}).get("port", settings.http.port)
    host = "127.0.0.1" if settings.http.host in ("0.0.0.0", "::") else settings.http.host  # noqa: S104
    base = f"http://{host}:{http_port}"
    lines = [
        f"dicom-node {VERSION} is up ({seconds:.1f} s). Research use; results are not for diagnosis.",
        f"  DICOM     {settings.dimse.ae_title} at {settings.dimse.host}:{dimse_port}",
        f"  Console   {base}/console",
        f"  DICOMweb  {base}/dicom-web    API docs {base}/docs",
        f"  Settings  {loaded.config_dir}    Data {settings.data_dir}",
        f"  Who may come in: DICOM {_peers_line(settings)}; HTTP {_http_line(settings)}",
    ]
    if new_key:
        lines.append(f"  Admin key (shown this once; later: dicom-node keys show-admin): {new_key}")
    if not settings.dimse.listens_beyond_this_machine:
        lines.append(
            "  Listens on this machine only. To let a PACS in: set dimse.host to 0.0.0.0 and run "
            "`dicom-node peers add pacs1 --ae PACS1 --host 10.1.2.3 --port 104`"
        )
    return lines


def _peers_line(settings: Settings) -> str:
    names = [f"{name} ({peer.ae_title} from {', '.join(peer.may_call_from)})" for name, peer in settings.peers.items()]
    return ", ".join(names) if names else "nobody: peers.yaml is empty"


def _http_line(settings: Settings) -> str:
    if settings.auth.local == "open" and not settings.http.listens_beyond_this_machine:
        return "programs on this machine without a key (auth.local: open), others with one"
    return "with a key"
