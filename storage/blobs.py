"""Where bytes live: written beside, synced, renamed to their final name, their directory synced."""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import BinaryIO, Protocol

from storage.errors import DiskFull, NotKept, StorageError

#: Files that are being written; swept of what dead processes left.
_INCOMING = "incoming"
_LOCK = ".lock"
#: Directories remembered as made and synced; more are looked at again.
_MOST_REMEMBERED = 4096


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

    def placed(self, prefix: str, *, before: datetime) -> Iterator[str]:
        """Give the paths that begin with `prefix` and were placed before a time."""
        ...


class LocalBlobs:
    """Blobs as files below one directory.

    Each process writes below a directory of its own in `incoming/` and holds a lock there, so that what a
    dead one left can be told apart and swept. A process that only reads leaves no trace.
    """

    def __init__(self, root: Path) -> None:
        self._root = root.absolute()
        self._durable: set[Path] = set()
        self._workplace: _Workplace | None = None
        self._making = threading.Lock()
        make_directory(self._root)

    def create(self) -> LocalWriter:
        """Begin a file."""
        with _named_failures():
            try:
                return LocalWriter(self, self._work_in() / secrets.token_hex(12))
            except FileNotFoundError:  # somebody tidied up by hand
                self._workplace = None
                return LocalWriter(self, self._work_in() / secrets.token_hex(12))

    def _work_in(self) -> Path:
        with self._making:
            if self._workplace is None:
                self._workplace = _Workplace(self._root / _INCOMING)
            return self._workplace.directory

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
        with _named_failures():
            status = os.statvfs(self._root)
        return status.f_bavail * status.f_frsize

    def placed(self, prefix: str, *, before: datetime) -> Iterator[str]:
        """Give the paths of files; a prefix may end within a name."""
        top, _, begin = prefix.rpartition("/")
        for entry in _entries(self._full(top)):
            if entry.name.startswith(begin):
                yield from self._placed_at(entry, before.timestamp())

    def _placed_at(self, entry: os.DirEntry[str], before: float) -> Iterator[str]:
        if entry.is_dir(follow_symlinks=False):
            for below in _entries(Path(entry.path)):
                yield from self._placed_at(below, before)
            return
        with suppress(FileNotFoundError):
            if entry.is_file(follow_symlinks=False) and entry.stat(follow_symlinks=False).st_ctime < before:
                yield Path(entry.path).relative_to(self._root).as_posix()

    def sweep(self) -> int:
        """Remove what dead processes left half written; give how many files."""
        return sum(_sweep(Path(entry.path)) for entry in _entries(self._root / _INCOMING) if entry.is_dir())

    def _full(self, path: str) -> Path:
        full = self._root / path
        if ".." in Path(path).parts or not full.is_relative_to(self._root):
            raise BlobUnwritable("a blob's name leads out of the store")
        return full

    def _directory_for(self, path: str) -> Path:
        """Make the directory of a blob; its name, and those of the directories above it, are durable.

        That another process or thread has made one says nothing about whether it has synced its name yet.
        """
        full = self._full(path)
        if full.parent not in self._durable:
            full.parent.mkdir(parents=True, exist_ok=True)
            for directory in [each for each in full.parents if each.is_relative_to(self._root)][::-1][1:]:
                if directory not in self._durable:
                    _sync_directory(directory.parent)
                    self._remember(directory)
        return full

    def _remember(self, directory: Path) -> None:
        if len(self._durable) >= _MOST_REMEMBERED:
            self._durable.clear()
        self._durable.add(directory)

    def _forget(self, path: str) -> None:
        self._durable.difference_update(self._full(path).parents)


class _Workplace:
    """A directory of one process's own for what it is writing, locked while the process lives."""

    def __init__(self, incoming: Path) -> None:
        incoming.mkdir(parents=True, exist_ok=True)
        while True:
            self.directory = incoming / f"{os.getpid()}-{secrets.token_hex(4)}"
            self.directory.mkdir()
            # A sweeper that comes in between takes the directory for a dead one's: then another is made.
            with suppress(FileNotFoundError, BlockingIOError):
                self._lock = _lock(self.directory, create=True)
                if (self.directory / _LOCK).exists():
                    return


def _lock(directory: Path, *, create: bool) -> int:
    """Lock a process's directory; the descriptor holds it, and any end of the process lets go of it."""
    flags = os.O_RDWR | os.O_CLOEXEC | (os.O_CREAT if create else 0)
    descriptor = os.open(directory / _LOCK, flags, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _sweep(directory: Path) -> int:
    """Remove a dead process's directory; give how many blobs it had begun."""
    lock = -1
    try:
        with suppress(FileNotFoundError):
            lock = _lock(directory, create=False)
        files = [Path(entry.path) for entry in _entries(directory)]
        for file in files:
            file.unlink(missing_ok=True)
        directory.rmdir()
    except OSError:  # it lives, or another sweeps it
        return 0
    finally:
        if lock >= 0:
            os.close(lock)
    return sum(file.name != _LOCK for file in files)


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
            try:
                full = self._store._directory_for(path)
                self._path.rename(full)
            except FileNotFoundError:  # the directory was removed since it was made
                self._store._forget(path)
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


def make_directory(directory: Path) -> None:
    """Make a directory whose name, and those of new ones above it, survive a power cut."""
    missing = [each for each in (directory, *directory.parents) if not each.exists()]
    directory.mkdir(parents=True, exist_ok=True)
    for each in missing:
        _sync_directory(each.parent)


def _entries(directory: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(directory) as entries:
            return list(entries)
    except (FileNotFoundError, NotADirectoryError):
        return []
