"""Where bytes live: written beside, synced, renamed to their final name, their directory synced."""

from __future__ import annotations

import errno
import fcntl
import itertools
import os
import secrets
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import BinaryIO, Protocol

from storage.errors import DiskFull, NotKept, StorageError
from storage.writeback import begin_writeback

#: Files that are being written; swept of what dead processes left.
_INCOMING = "incoming"
_LOCK = ".lock"
#: Directories remembered as made and synced; more are looked at again.
_MOST_REMEMBERED = 4096


Piece = bytes | bytearray | memoryview


class BlobUnwritable(StorageError):
    """The file system does not take the bytes."""


class BlobWriter(Protocol):
    """One blob on its way in."""

    def write(self, *pieces: Piece) -> None:
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

    def at_hand(self, path: str, offset: int, count: int, *, before: bytes = b"", after: bytes = b"") -> Piece | None:
        """Give a piece of a blob between other bytes; None: it cannot be had without waiting, or is not there."""
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
        self._durable: set[str] = set()
        self._workplace: _Workplace | None = None
        self._making = threading.Lock()
        make_directory(self._root)

    def create(self) -> LocalWriter:
        """Begin a file."""
        try:
            try:
                return LocalWriter(self, self._work_in().new_path())
            except FileNotFoundError:  # somebody tidied up by hand
                self._workplace = None
                return LocalWriter(self, self._work_in().new_path())
        except OSError as error:
            raise _named(error) from error

    def _work_in(self) -> _Workplace:
        workplace = self._workplace
        if workplace is None:
            with self._making:
                workplace = self._workplace = self._workplace or _Workplace(self._root / _INCOMING)
        return workplace

    def sync_directories(self, paths: Iterable[str]) -> None:
        """Sync the directory of each path once."""
        try:
            for directory in {self._name(path).rpartition("/")[0] for path in paths}:
                _sync_directory(directory)
        except OSError as error:
            raise _named(error) from error

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

    def at_hand(self, path: str, offset: int, count: int, *, before: bytes = b"", after: bytes = b"") -> Piece | None:
        """Give a piece of a file that the system has in memory, read straight to where it is to stand."""
        content = bytearray(len(before) + count + len(after))
        stop = len(before) + count
        content[: len(before)], content[stop:] = before, after
        try:
            descriptor = os.open(self._name(path), os.O_RDONLY | os.O_CLOEXEC)
            try:
                # Some file systems cannot tell what is in memory: that is an error, too.
                read = os.preadv(descriptor, [memoryview(content)[len(before) : stop]], offset, os.RWF_NOWAIT)
            finally:
                os.close(descriptor)
        except OSError:
            return None
        return content if read == count else None

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
        try:
            status = os.statvfs(self._root)
        except OSError as error:
            raise _named(error) from error
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

    def leftovers(self) -> Iterator[str]:
        """Give what dead processes left half written."""
        for entry in _entries(self._root / _INCOMING):
            if entry.is_dir() and _is_left(Path(entry.path)):
                for file in _entries(Path(entry.path)):
                    if file.name != _LOCK:
                        yield Path(file.path).relative_to(self._root).as_posix()

    def set_aside(self, path: str) -> str:
        """Move a damaged file out of the way, nothing lost; give where it lies now."""
        aside = f"damaged/{secrets.token_hex(4)}-{Path(path).name}"
        self._prepare(str(self._full(aside)))
        self._full(path).rename(self._full(aside))
        for each in (path, aside):
            _sync_directory(self._full(each).parent)
        return aside

    def _full(self, path: str) -> Path:
        return Path(self._name(path))

    def _name(self, path: str) -> str:
        if path.startswith("/") or ".." in path.split("/"):
            raise BlobUnwritable("a blob's name leads out of the store")
        return f"{self._root}/{path}"

    def _rename(self, temporary: str, path: str) -> str:
        """Give a file its final name, in a directory whose own name is durable; say where it stands."""
        name = self._name(path)
        try:
            self._prepare(name)
            os.rename(temporary, name)
        except FileNotFoundError:  # the directory was removed since it was made
            self._durable.difference_update(map(str, Path(name).parents))
            self._prepare(name)
            os.rename(temporary, name)
        return name

    def _prepare(self, name: str) -> None:
        """Make the directory of a file; its name, and those of the directories above it, are durable.

        That another process or thread has made one says nothing about whether it has synced its name yet.
        """
        parent = name.rpartition("/")[0]
        if parent in self._durable:
            return
        os.makedirs(parent, exist_ok=True)
        for directory in [each for each in Path(name).parents if each.is_relative_to(self._root)][::-1][1:]:
            if str(directory) not in self._durable:
                _sync_directory(directory.parent)
                self._remember(str(directory))

    def _remember(self, directory: str) -> None:
        if len(self._durable) >= _MOST_REMEMBERED:
            self._durable.clear()
        self._durable.add(directory)


class _Workplace:
    """A directory of one process's own for what it is writing, locked while the process lives."""

    def __init__(self, incoming: Path) -> None:
        self._numbers = itertools.count()
        incoming.mkdir(parents=True, exist_ok=True)
        while True:
            self.directory = incoming / f"{os.getpid()}-{secrets.token_hex(4)}"
            self.directory.mkdir()
            # A sweeper that comes in between takes the directory for a dead one's: then another is made.
            with suppress(FileNotFoundError, BlockingIOError):
                self._lock = _lock(self.directory, create=True)
                if (self.directory / _LOCK).exists():
                    return

    def new_path(self) -> str:
        """Give a name that nothing has yet."""
        return f"{self.directory}/{next(self._numbers):x}"


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


def _is_left(directory: Path) -> bool:
    """Tell whether the process whose directory it is, is gone."""
    try:
        os.close(_lock(directory, create=False))
    except FileNotFoundError:
        return True
    except OSError:  # it lives
        return False
    return True


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

    def __init__(self, store: LocalBlobs, temporary: str) -> None:
        self._store = store
        self._path = temporary
        self._descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)

    def write(self, *pieces: Piece) -> None:
        """Append bytes to the file."""
        left = sum(map(len, pieces))
        rest: Sequence[Piece] = pieces
        try:
            while True:
                written = os.writev(self._descriptor, rest)
                left -= written
                if not left:
                    begin_writeback(self._descriptor)
                    return
                rest = _behind(rest, written)
        except OSError as error:
            raise _named(error) from error

    def sync(self) -> None:
        """Sync the file's bytes."""
        try:
            os.fdatasync(self._descriptor)
        except OSError as error:
            raise _named(error) from error

    def read_back(self) -> BinaryIO:
        """Open the file for reading while it is being written."""
        return Path(self._path).open("rb")

    def place(self, path: str) -> None:
        """Rename the file to its final name."""
        try:
            self._path = self._store._rename(self._path, path)
            self._close()
        except OSError as error:
            raise _named(error) from error

    def discard(self) -> None:
        """Remove the file wherever it stands now."""
        self._close()
        with suppress(FileNotFoundError):
            os.unlink(self._path)

    def _close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def _behind(pieces: Sequence[Piece], written: int) -> list[Piece]:
    """Give what is left of pieces of which so many bytes are written."""
    rest: list[Piece] = []
    for piece in pieces:
        if written < len(piece):
            rest.append(memoryview(piece)[written:] if written else piece)
        written = max(0, written - len(piece))
    return rest


def _named(error: OSError) -> StorageError:
    """Give the error of ours for what the file system said."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return DiskFull("There is no room left on the disk.")
    return BlobUnwritable(f"The file system does not take the bytes: {error.strerror}.")


def _sync_directory(directory: Path | str) -> None:
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
