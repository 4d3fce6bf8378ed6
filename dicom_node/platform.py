"""What differs between operating systems."""

from __future__ import annotations

import ctypes
import fcntl
import os
import signal
import socket
import struct
import sys
from pathlib import Path

from configs.errors import ConfigError

# Linux, prctl(2)
_PR_SET_PDEATHSIG = 1
_PR_SET_NAME = 15


def die_with_parent(parent_pid: int) -> None:
    """Have the kernel end this process when its parent dies, so that no role outlives its supervisor."""
    if not sys.platform.startswith("linux"):
        return
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent_pid:  # the parent died before the call
        os.kill(os.getpid(), signal.SIGKILL)


def name_process(name: str) -> None:
    """Show `name` (15 characters) in process lists, where the system can."""
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_NAME, name.encode()[:15])


class DirectoryLock:
    """Holds a directory for one process: a second one is refused, and the kernel frees it at any end."""

    def __init__(self, directory: Path, *, name: str, refusal: str) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._file = (directory / name).open("a+")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self._file.close()
            raise ConfigError(refusal) from error

    def release(self) -> None:
        """Let others have it."""
        self._file.close()


def answer_without_delay(connection: socket.socket) -> None:
    """Send small messages at once, not when the former is acknowledged (Nagle's algorithm)."""
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def acknowledge_at_once(connection: socket.socket) -> None:
    """Acknowledge what was received now; the kernel takes the wish for a moment only.

    Senders that leave Nagle's algorithm on (DCMTK does) wait up to 40 ms for a delayed acknowledgement
    before they send the end of a message.
    """
    if sys.platform.startswith("linux"):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)


def share_port(listening: socket.socket) -> None:
    """Let several processes listen on one port; the kernel deals the connections out.

    Raises
    ------
    ConfigError
        This system cannot.
    """
    option: int | None = getattr(socket, "SO_REUSEPORT", None)
    if option is None:
        raise ConfigError("dimse.processes above 1 needs a system whose processes can share a port (SO_REUSEPORT).")
    listening.setsockopt(socket.SOL_SOCKET, option, 1)


def bound_waiting(connection: socket.socket, *, receive_s: float, send_s: float) -> None:
    """Bound in the kernel how long one call on a blocking socket may wait, without a `poll` before each.

    A call that waited in vain raises `BlockingIOError`.
    """
    for option, seconds in ((socket.SO_RCVTIMEO, receive_s), (socket.SO_SNDTIMEO, send_s)):
        whole = int(seconds)
        connection.setsockopt(socket.SOL_SOCKET, option, struct.pack("@ll", whole, int((seconds - whole) * 1e6)))


def always_readable() -> int:
    """Give a descriptor that `select` finds readable at any time; it lives as long as the process."""
    reading, writing = os.pipe()
    os.close(writing)  # the end of the stream: readable for ever
    return reading
