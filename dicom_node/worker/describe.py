"""DICOM JSON of new instances, made by a child of the courier with lower priority than all else.

The child ends when its standard input does, so it never outlives the courier; what it did not come to is made by
the next one, or by the web role when somebody asks.
"""

from __future__ import annotations

import json
import logging
import os
import resource
import select
import subprocess
import sys
import threading
from pathlib import Path

from configs.settings import LogSettings, Settings
from dicom_node import logs
from dicom_node.parts import blob_root, database_url
from dicom_node.platform import name_process
from storage.blobs import LocalBlobs
from storage.database import Database
from storage.errors import StorageError
from storage.json_maker import JsonMaker
from storage.json_store import SEGMENT, JsonStore

log = logging.getLogger(__name__)

#: Seconds between two looks for new instances; it adds to the time until metadata are ready.
_EVERY_S = 0.2
_AFTER_TROUBLE_S = 2.0
_MEMORY_BYTES = 1 << 30
_NICENESS = 5
_STOP_WITHIN_S = 5.0


class Describer:
    """Keeps the child running."""

    def __init__(self, settings: Settings) -> None:
        told = {
            "database": database_url(settings),
            "blobs": str(blob_root(settings).absolute()),
            "log": settings.log.model_dump(mode="json"),
        }
        self._told = json.dumps(told).encode() + b"\n"

    def run(self, stop: threading.Event) -> None:
        """Start the child, start it again where it ends, and end it when told to stop."""
        while not stop.is_set():
            child = self._start()
            try:
                while child.poll() is None and not stop.wait(_EVERY_S):
                    pass
            finally:
                _end(child)
            if not stop.is_set():
                log.error(
                    "the maker of DICOM JSON ended", extra={"action": "describer_ended", "exit": child.returncode}
                )
                stop.wait(_AFTER_TROUBLE_S)

    def _start(self) -> subprocess.Popen[bytes]:
        child = subprocess.Popen([sys.executable, "-m", "dicom_node.worker.describe"], stdin=subprocess.PIPE)
        if child.stdin is not None:
            # Not as an argument: the database's address may hold a password.
            child.stdin.write(self._told)
            child.stdin.flush()
        return child


def main() -> None:
    """Be the child."""
    told = json.loads(sys.stdin.buffer.readline())
    logs.configure(LogSettings(**told["log"]), role="courier")
    name_process("dn-json")
    os.nice(_NICENESS)
    resource.setrlimit(resource.RLIMIT_DATA, (_MEMORY_BYTES, _MEMORY_BYTES))
    database = Database(told["database"])
    maker = JsonMaker(JsonStore(database), LocalBlobs(Path(told["blobs"])))
    wait_s = 0.0
    try:
        while not select.select([sys.stdin], [], [], wait_s)[0]:
            wait_s = _turn(maker)
    finally:
        database.close()


def _turn(maker: JsonMaker) -> float:
    """Make some; give the seconds to wait before the next turn."""
    try:
        return 0.0 if maker.turn() >= SEGMENT else _EVERY_S
    except StorageError as error:
        log.warning("DICOM JSON not kept; tried again", extra={"action": "json_not_kept", "error": error.code})
        return _AFTER_TROUBLE_S


def _end(child: subprocess.Popen[bytes]) -> None:
    if child.stdin is not None:
        child.stdin.close()
    try:
        child.wait(_STOP_WITHIN_S)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


if __name__ == "__main__":
    main()
