"""The one door: every instance enters here, as a stream, and is durable before it is success.

Bytes synced, renamed to their final name, the directory synced, the row committed - in this order. What waits
for the database at the same time is committed together.
"""

from __future__ import annotations

import hashlib
import logging
import mmap
import random
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from types import TracebackType
from typing import BinaryIO, Self

from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError

from storage.arrivals import Arrival, point_to, record_arrivals
from storage.blobs import BlobStore
from storage.continuations import Continuations, NotAsRemembered
from storage.database import Database, KeptConnection
from storage.errors import (
    CommitUnknown,
    DiskFull,
    IndexBusy,
    IndexUnavailable,
    SopClassMismatch,
    UnreadableInstance,
)
from storage.header import Header, is_uid, read_header
from storage.part10 import FileMeta, read_file_meta, write_file_meta
from storage.records import Kept, Origin
from storage.scan import BeyondBuffer

log = logging.getLogger(__name__)

#: Bytes of the data set held in memory for the header; a longer header is read from the file.
_BEGINNING = 1 << 16
_CHUNK = 1 << 20
#: The disk reserve is looked at again after this many bytes of one instance.
_LOOK_AFTER = 64 << 20
#: Far from the reserve the disk is looked at less often: nothing fills so many bytes in so many seconds.
_ROOMY_BYTES = 4 << 30
_ROOMY_S = 0.2
#: Different remarks that are logged.
_MOST_NOTED = 1000
#: Instances that are committed together at most.
_GROUP = 25
#: Tries where another process writes rows of the same study at the same time.
_TRIES = 8
_BETWEEN_TRIES_S = 0.01


def utc_now() -> datetime:
    """Return the present time."""
    return datetime.now(UTC)


class Intake:
    """Keeps instances."""

    def __init__(
        self, database: Database, blobs: BlobStore, *, reserve_bytes: int, clock: Callable[[], datetime] = utc_now
    ) -> None:
        self._database = database
        self._blobs = blobs
        self._reserve_bytes = reserve_bytes
        self._clock = clock
        self._roomy_until = 0.0
        self._noted: set[tuple[str, str]] = set()
        self._committer = _Committer(database, blobs)

    def open(self, origin: Origin, sop_class_uid: str, sop_instance_uid: str, transfer_syntax_uid: str) -> Incoming:
        """Begin an instance whose bare data set will follow, as encoded.

        Raises
        ------
        UnreadableInstance
            One of the UIDs is none.
        DiskFull
            The disk reserve is reached; the sender may try again later.
        """
        if not all(map(is_uid, (sop_class_uid, sop_instance_uid, transfer_syntax_uid))):
            raise UnreadableInstance("A UID that names the instance is malformed.")
        self.check_reserve()
        meta = FileMeta(sop_class_uid, sop_instance_uid, transfer_syntax_uid)
        return Incoming(self, origin, meta)

    def receive(self, part10: BinaryIO, origin: Origin) -> Kept:
        """Keep a whole Part 10 file, read as a stream; its File Meta is replaced by ours.

        Raises
        ------
        UnreadableInstance
            It is no DICOM file, or a broken one.
        """
        meta = read_file_meta(part10)
        with self.open(origin, meta.sop_class_uid, meta.sop_instance_uid, meta.transfer_syntax_uid) as incoming:
            while chunk := part10.read(_CHUNK):
                incoming.write(chunk)
            return incoming.keep()

    def check_reserve(self) -> None:
        """Raise `DiskFull` where less than the reserve is free."""
        now = time.monotonic()
        if now < self._roomy_until:
            return
        free = self._blobs.free_bytes()
        self._roomy_until = now + _ROOMY_S if free > self._reserve_bytes + _ROOMY_BYTES else 0.0
        if free < self._reserve_bytes:
            megabytes = f"{free / 1e6:.0f} of {self._reserve_bytes / 1e6:.0f} MB"
            raise DiskFull(f"Disk reserve reached ({megabytes} free); senders get 0xA700 and may retry.")

    def close(self) -> None:
        """Commit what waits, then stop."""
        self._committer.close()

    def _note(self, header: Header, origin: Origin) -> None:
        """Log once for each peer how its text is read where that is not what its label says."""
        if not header.note:
            return
        said = (origin.peer or origin.host, header.note)
        if said not in self._noted and len(self._noted) < _MOST_NOTED:
            self._noted.add(said)
            facts = {"action": "character_set_noted", "peer": origin.peer, "host": origin.host, "why": header.note}
            log.warning("text is not read as its label says", extra=facts)

    def _commit(self, arrival: Arrival) -> Kept:
        return self._committer.commit(arrival)

    def _replace_missing(self, arrival: Arrival, kept: Kept) -> Kept:
        """Put a copy that came again in the place of a kept file that is gone."""
        with self._database.write() as connection:
            replaced = point_to(connection, arrival, missing=kept.path)
        if not replaced:  # another copy was faster
            return kept
        facts = {"action": "file_replaced", "sop_instance_uid": arrival.sop_instance_uid}
        log.error("the file of a kept instance was missing; the copy that came again stands for it", extra=facts)
        return replace(kept, path=arrival.path)


class Incoming:
    """One instance on its way in; leaving the context without `keep` forgets it."""

    def __init__(self, intake: Intake, origin: Origin, meta: FileMeta) -> None:
        self._intake = intake
        self._origin = origin
        self._meta = meta
        self._file_meta = write_file_meta(meta, source_ae_title=origin.calling_ae_title)
        self._beginning = bytearray()
        self._total = 0
        self._digest = hashlib.sha256()
        self._writer = intake._blobs.create()
        self._begun = self._kept = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.forget()

    def forget(self) -> None:
        """Leave nothing behind of what was not kept."""
        if not self._kept:
            self._writer.discard()

    def write(self, view: bytes | bytearray | memoryview) -> None:
        """Append bytes of the data set."""
        if len(self._beginning) < _BEGINNING:
            self._beginning += view[: _BEGINNING - len(self._beginning)]
        former = self._total
        self._total += len(view)
        if former // _LOOK_AFTER != self._total // _LOOK_AFTER:
            self._intake.check_reserve()
        self._digest.update(view)
        if self._begun:
            self._writer.write(view)
        else:
            self._begun = True
            self._writer.write(self._file_meta, view)

    def keep(self, *, study_instance_uid: str | None = None) -> Kept:
        """Make the instance durable and say what it came to; every outcome is Success to its sender.

        `study_instance_uid`: the study that it was announced for, where one was.

        Raises
        ------
        UnreadableInstance
            The bytes are no data set, a UID is missing or malformed, or it is cut short.
        SopClassMismatch
            The data set is of another SOP Class or Instance than was announced.
        DiskFull, IndexUnavailable
            It is not kept; the sender may try again.
        """
        header = self._read_header()
        self._intake._note(header, self._origin)
        self._check_announced(header)
        if study_instance_uid is not None and header.study_instance_uid != study_instance_uid:
            raise SopClassMismatch("The instance is of another study than the one that was named.")
        arrival = self._arrival(header)
        self._writer.sync()
        self._writer.place(arrival.path)
        try:
            kept = self._intake._commit(arrival)
            if kept.path != arrival.path and not self._intake._blobs.exists(kept.path):
                kept = self._intake._replace_missing(arrival, kept)
        except CommitUnknown:
            # Its row may be there: the file stays, and reconciling tells later.
            self._kept = True
            raise
        self._kept = kept.path == arrival.path
        if not self._kept:
            self._writer.discard()
        return kept

    def _read_header(self) -> Header:
        syntax = self._meta.transfer_syntax_uid
        try:
            return read_header(self._beginning, self._total, syntax)
        except BeyondBuffer:
            with self._writer.read_back() as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
                whole = memoryview(mapped)[len(self._file_meta) :]
                try:
                    return read_header(whole, self._total, syntax)
                except BeyondBuffer as error:
                    raise UnreadableInstance("The header is longer than any sensible one.") from error
                finally:
                    whole.release()

    def _check_announced(self, header: Header) -> None:
        for keyword, announced in (
            ("SOPClassUID", self._meta.sop_class_uid),
            ("SOPInstanceUID", self._meta.sop_instance_uid),
        ):
            if header.uid(keyword) != announced.rstrip("\0 "):
                raise SopClassMismatch(f"{keyword} of the data set is not the announced one.", keyword=keyword)

    def _arrival(self, header: Header) -> Arrival:
        study, sop = header.study_instance_uid, header.uid("SOPInstanceUID")
        # Hashes, never the UIDs themselves: no sender writes a path. The random end keeps copies apart.
        study_hash, sop_hash, end = _hash(study), _hash(sop), f"{_ENDS.getrandbits(32):08x}"
        return Arrival(
            header=header,
            origin=self._origin,
            study_instance_uid=study,
            series_instance_uid=header.series_instance_uid,
            sop_instance_uid=sop,
            sop_class_uid=header.uid("SOPClassUID"),
            transfer_syntax_uid=self._meta.transfer_syntax_uid,
            path=f"instances/{study_hash[:2]}/{study_hash}/{sop_hash}-{end}.dcm",
            size=len(self._file_meta) + self._total,
            sha256=self._digest.hexdigest(),
            received_at=self._intake._clock(),
        )


#: Seeded by the system for each process; the system asked for each instance costs a call.
_ENDS = random.Random(secrets.token_bytes(16))  # noqa: S311 (keeps names apart, hides nothing)


def _hash(uid: str) -> str:
    return hashlib.sha256(uid.encode()).hexdigest()[:40]


class _Waiting:
    """One arrival that is to be committed, and the thread that waits for it."""

    def __init__(self, arrival: Arrival) -> None:
        self.arrival = arrival
        self.kept: Kept | None = None
        self.error: Exception | None = None
        self._news = threading.Lock()
        self._news.acquire()

    @property
    def is_answered(self) -> bool:
        """Whether it is known what became of it."""
        return self.kept is not None or self.error is not None

    def wake(self) -> None:
        """Let its thread look: it is answered, or it is to lead."""
        self._news.release()

    def wait(self) -> None:
        """Wait for `wake`."""
        self._news.acquire()


class _Committer:
    """Commits together what waits together: one of the waiting threads leads, and does it for all.

    A thread of its own for it would cost two switches for each instance.
    """

    def __init__(self, database: Database, blobs: BlobStore) -> None:
        self._database = database
        self._connection = KeptConnection()
        self._continuations = Continuations()
        self._blobs = blobs
        self._queue: deque[_Waiting] = deque()
        self._led = False
        self._lock = threading.Lock()
        self._calm = threading.Condition(self._lock)

    def commit(self, arrival: Arrival) -> Kept:
        """Commit the arrival, with others where there are, or raise why it is not."""
        mine = _Waiting(arrival)
        with self._lock:
            self._queue.append(mine)
            lead, self._led = not self._led, True
        if not lead:
            mine.wait()
        if not mine.is_answered:
            self._lead(mine)
        if mine.kept is None:
            raise mine.error or RuntimeError("an arrival is not answered")
        return mine.kept

    def close(self) -> None:
        """Wait until what waits is committed."""
        with self._calm:
            self._calm.wait_for(lambda: not self._led)
            self._connection.close()

    def _lead(self, mine: _Waiting) -> None:
        """Commit the first of those that wait - the leader is among them - then let another lead."""
        with self._lock:
            group = [self._queue.popleft() for _ in range(min(_GROUP, len(self._queue)))]
        try:
            self._commit_group(group)
        finally:
            with self._lock:
                following = self._queue[0] if self._queue else None
                self._led = following is not None
                self._calm.notify_all()
            if following is not None:
                following.wake()
            for each in group:
                if not each.is_answered:  # the leader was interrupted
                    each.error = RuntimeError("the commit was interrupted")
                if each is not mine:
                    each.wake()

    def _commit_group(self, group: list[_Waiting]) -> None:
        try:
            self._blobs.sync_directories([each.arrival.path for each in group])
            with self._database.write_on(self._connection) as connection:
                kept = self._record(connection, [each.arrival for each in group])
        except Exception as error:  # noqa: BLE001 (each waiting caller gets it)
            if len(group) > 1 and not _concerns_all(error):
                # One of them may be the culprit: each gets a chance, and an answer, of its own.
                for member in group:
                    self._commit_group([member])
                return
            for each in group:
                self._answer_alone(each, error)
            return
        for each, outcome in zip(group, kept, strict=True):
            each.kept = outcome

    def _record(self, connection: Connection, arrivals: list[Arrival]) -> list[Kept]:
        try:
            kept = self._continuations.record(connection, arrivals)
        except NotAsRemembered:
            self._database.start_over(connection)
            kept = None
        if kept is None:
            kept = record_arrivals(connection, arrivals)
            self._continuations.remember(connection, arrivals, kept)
        return kept

    def _answer_alone(self, waiting: _Waiting, error: Exception) -> None:
        """Try again where another process wrote the same rows a moment before; else pass the error on."""
        for _ in range(_TRIES):
            if not isinstance(error, IntegrityError | IndexBusy):
                break
            time.sleep(_BETWEEN_TRIES_S)
            try:
                with self._database.write_on(self._connection) as connection:
                    (waiting.kept,) = self._record(connection, [waiting.arrival])
            except Exception as again:  # noqa: BLE001 (the waiting caller gets it)
                error = again
            else:
                return
        if isinstance(error, IntegrityError):
            error = IndexUnavailable("Other processes hold what this instance needs.")
        waiting.error = error


def _concerns_all(error: Exception) -> bool:
    """Tell whether a failure is the database's: then waiting for it once more for each member helps nobody."""
    return isinstance(error, IndexUnavailable | DiskFull) and not isinstance(error, IndexBusy)
