"""Where bytes live: written beside, synced, renamed to their final name, their directory synced."""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, Protocol

from storage.errors import DiskFull, NotKept, StorageError

#: Files that are being written; swept of what dead processes left.
_INCOMING = "incoming"


class BlobUnwritable(StorageError):
    """The file system does not take the bytes."""


class BlobWriter(Protocol):
    """One blob on its way in."""

    def write(self, view: bytes | bytearray | memoryview) -> None:
        """Append bytes."""
        ...

    def sync(self) -> None:
        """Have the bytes survive a power cut, under no name yet that counts."""
        ...

    def read_back(self) -> BinaryIO:
        """Give what was written so far, from its start."""
        ...

    def place(self, path: str) -> None:
        """Give the blob its final name; it survives a power cut once `sync_directories` returned."""
        ...

    def discard(self) -> None:
        """Forget it, wherever it stands; nothing remains."""
        ...


class BlobStore(Protocol):
    """Bytes under names such as `instances/ab/…`."""

    def create(self) -> BlobWriter:
        """Begin a blob."""
        ...

    def sync_directories(self, paths: Iterable[str]) -> None:
        """Have the names of placed blobs survive a power cut."""
        ...

    def put(self, path: str, content: bytes) -> None:
        """Keep a whole blob, durable when this returns; one that is there stays as it is."""
        ...

    def open(self, path: str) -> BinaryIO:
        """Give a blob from its start, seekable; `NotKept` where there is none."""
        ...

    def size(self, path: str) -> int:
        """Bytes of a blob; `NotKept` where there is none."""
        ...

    def exists(self, path: str) -> bool:
        """Tell whether there is such a blob."""
        ...

    def delete(self, path: str) -> None:
        """Remove a blob, if it is there."""
        ...

    def free_bytes(self) -> int:
        """Bytes that can still be written."""
        ...


class LocalBlobs:
    """Blobs as files below one directory.

    Each process writes below a directory of its own in `incoming/`, so that what a dead one left
    can be told apart and swept.
    """

    def __init__(self, root: Path) -> None:
        self._root = root.absolute()
        self._incoming = self._root / _INCOMING / str(os.getpid())
        self._made: set[Path] = set()
        self._incoming.mkdir(parents=True, exist_ok=True)

    def create(self) -> LocalWriter:
        """Begin a file."""
        with _named_failures():
            return LocalWriter(self, self._incoming / secrets.token_hex(12))

    def sync_directories(self, paths: Iterable[str]) -> None:
        """Sync the directory of each path once."""
        for directory in {self._full(path).parent for path in paths}:
            with _named_failures():
                _sync_directory(directory)

    def put(self, path: str, content: bytes) -> None:
        """Keep a whole blob, durable when this returns; one that is there stays as it is."""
        if self.exists(path):
            self.sync_directories([path])
            return
        writer = self.create()
        try:
            writer.write(content)
            writer.sync()
            writer.place(path)
        except BaseException:
            writer.discard()
            raise
        self.sync_directories([path])

    def open(self, path: str) -> BinaryIO:
        """Open a file for reading."""
        try:
            return self._full(path).open("rb")
        except FileNotFoundError as error:
            raise NotKept("the file of a kept object is missing", path=path) from error

    def size(self, path: str) -> int:
        """Bytes of a file."""
        try:
            return self._full(path).stat().st_size
        except FileNotFoundError as error:
            raise NotKept("the file of a kept object is missing", path=path) from error

    def exists(self, path: str) -> bool:
        """Tell whether there is such a file."""
        return self._full(path).is_file()

    def delete(self, path: str) -> None:
        """Remove a file, if it is there."""
        with suppress(FileNotFoundError):
            self._full(path).unlink()

    def free_bytes(self) -> int:
        """Bytes that a process without privileges can still write."""
        status = os.statvfs(self._root)
        return status.f_bavail * status.f_frsize

    def sweep(self) -> int:
        """Remove what dead processes left half written; give how many files."""
        swept = 0
        for directory in (self._root / _INCOMING).iterdir():
            if directory == self._incoming or (directory.name.isdigit() and _lives(int(directory.name))):
                continue
            for file in directory.iterdir():
                file.unlink(missing_ok=True)
                swept += 1
            with suppress(OSError):
                directory.rmdir()
        return swept

    def _full(self, path: str) -> Path:
        full = self._root / path
        if ".." in Path(path).parts or not full.is_relative_to(self._root):
            raise BlobUnwritable("a blob's name leads out of the store")
        return full

    def _directory_for(self, path: str) -> Path:
        """Make the directory of a blob; new ones, and those above them, are synced at once."""
        full = self._full(path)
        if full.parent not in self._made:
            missing = [parent for parent in full.parents if parent.is_relative_to(self._root) and not parent.exists()]
            full.parent.mkdir(parents=True, exist_ok=True)
            for directory in missing:
                _sync_directory(directory.parent)
            self._made.add(full.parent)
        return full


class LocalWriter:
    """One file on its way in."""

    def __init__(self, store: LocalBlobs, temporary: Path) -> None:
        self._store = store
        self._path = temporary
        self._descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)

    def write(self, view: bytes | bytearray | memoryview) -> None:
        """Append bytes to the file."""
        with _named_failures():
            rest = memoryview(view)
            while rest:
                rest = rest[os.write(self._descriptor, rest) :]

    def sync(self) -> None:
        """Sync the file's bytes."""
        with _named_failures():
            os.fdatasync(self._descriptor)

    def read_back(self) -> BinaryIO:
        """Open the file for reading while it is being written."""
        return self._path.open("rb")

    def place(self, path: str) -> None:
        """Rename the file to its final name."""
        with _named_failures():
            full = self._store._directory_for(path)
            self._path.rename(full)
            self._path = full
            self._close()

    def discard(self) -> None:
        """Remove the file wherever it stands now."""
        self._close()
        self._path.unlink(missing_ok=True)

    def _close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


@contextmanager
def _named_failures() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFull("There is no room left on the disk.") from error
        raise BlobUnwritable(f"The file system does not take the bytes: {error.strerror}.") from error


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
