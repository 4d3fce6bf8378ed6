"""The job queue: dbos behind a few names of ours. No other module knows it.

`Queue` puts work in, inside the caller's transaction; `Runner` does it. A workflow takes ids only and is
at-least-once: whatever it does is an upsert. Every setting here meets a trap that was measured:

- the application version is constant, else work that waits is not found again after an update;
- values are plain JSON, so that write access to the database is not the right to run code;
- every queue is capped, else each workflow gets a thread;
- an executor id is stable and locked, for its unfinished work starts again where it starts again;
- queues are registered before dbos starts to listen, else the first work waits for seconds.
"""

from __future__ import annotations

import fcntl
import logging
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TypeVar

from dbos import DBOS, DBOSClient, EnqueueOptions, WorkflowSerializationFormat
from dbos import DBOSPortableJSONSerializer as PortableJson
from sqlalchemy import Connection

from configs.errors import ConfigError, NodeError
from storage.database import Database
from storage.errors import DiskFull, IndexUnavailable
from storage.turns import ALIVE, WHY_FAILED, OpenTurn, TurnBook, TurnState, delivery_turn

log = logging.getLogger(__name__)

T = TypeVar("T")

APPLICATION = "dicom-node"
#: Constant over releases: a new step goes behind `DBOS.patch`; raise it only together with a drain.
APPLICATION_VERSION = "jobs-1"
#: How often one turn may end its process before it is given up.
MOST_STARTS = 5

ENGINE_QUEUE = "engine"
IO_QUEUE = "io"
#: Seconds between looks; a start waits half of it in the mean.
ENGINE_POLL_S = 0.05
IO_POLL_S = 0.05

_ANALYSE = "analyse"
_DELIVER = "deliver"
_MOST_THREADS = 64
_IDS_A_QUESTION = 500
#: Lower goes first.
PRIORITY = 100

#: Nothing can be written down while these last, not even a failure: the turn waits and tries again.
PASSING = (IndexUnavailable, DiskFull)
_FIRST_WAIT_S = 0.5
_LONGEST_WAIT_S = 5.0

_STATES: Mapping[str, TurnState] = {
    "ENQUEUED": TurnState.QUEUED,
    "DELAYED": TurnState.QUEUED,
    "PENDING": TurnState.RUNNING,
    "SUCCESS": TurnState.ENDED,
    "ERROR": TurnState.FAILED,
    "CANCELLED": TurnState.CANCELLED,
    "MAX_RECOVERY_ATTEMPTS_EXCEEDED": TurnState.GIVEN_UP,
}
_ENDED = [name for name, state in _STATES.items() if state not in ALIVE]

#: dbos is one per process.
_hosting = threading.Lock()


def utc_now() -> datetime:
    """Return the present time, aware, UTC."""
    return datetime.now(UTC)


def prepare_queue(url: str) -> None:
    """Make the queue's tables, or bring them to this version.

    To be called before any role starts, in a process that ends with it.
    """
    _quiet()
    DBOS.migrate(url)


@dataclass(frozen=True)
class EndedTurn:
    """A turn that is over and may be forgotten once its row has ended."""

    turn_id: str
    subject_id: str
    is_delivery: bool


class Queue:
    """The way into the queue: for every role that asks for work."""

    def __init__(self, database: Database) -> None:
        _quiet()
        self._client = DBOSClient(
            system_database_engine=database.engine,
            serializer=PortableJson(),
            application_name=APPLICATION,
            retry_connection_errors=False,
            lazy=True,
        )

    def enqueue_analysis(
        self, connection: Connection, turn_id: str, job_id: str, *, priority: int = PRIORITY, delay_s: float = 0.0
    ) -> None:
        """Ask for the analysis of a job, as part of the caller's transaction; a turn known already starts nothing.

        `delay_s`: seconds from now; it starts up to a second later than that.
        """
        options = self._options(_ANALYSE, ENGINE_QUEUE, turn_id, priority)
        if delay_s > 0:
            options["delay_seconds"] = delay_s
        self._client.enqueue_in_transaction(connection, options, job_id)

    def enqueue_delivery(
        self,
        connection: Connection,
        delivery_id: str,
        attempt: int,
        destination: str,
        *,
        delay_s: float = 0.0,
        priority: int = PRIORITY,
    ) -> None:
        """Ask for one attempt, from 1, as part of the caller's transaction; a known one starts nothing.

        `delay_s`: seconds from now; it starts up to a second later than that.
        """
        options = self._options(_DELIVER, IO_QUEUE, delivery_turn(delivery_id, attempt), priority)
        options["queue_partition_key"] = destination
        if delay_s > 0:
            options["delay_seconds"] = delay_s
        self._client.enqueue_in_transaction(connection, options, delivery_id, attempt)

    def states(self, turn_ids: Iterable[str]) -> dict[str, TurnState]:
        """Say where turns are; `UNKNOWN` for those the queue does not have."""
        wanted = list(turn_ids)
        found = dict.fromkeys(wanted, TurnState.UNKNOWN)
        for first in range(0, len(wanted), _IDS_A_QUESTION):
            ids = wanted[first : first + _IDS_A_QUESTION]
            for status in self._client.list_workflows(workflow_ids=ids, load_input=False, load_output=False):
                found[status.workflow_id] = _STATES[status.status]
        return found

    def cancel(self, turn_id: str) -> None:
        """Take a turn out of the queue; one that runs ends after its present step."""
        self._client.cancel_workflows([turn_id])

    def ended(self, before: datetime, *, limit: int, offset: int = 0) -> list[EndedTurn]:
        """Give turns that ended before a time, oldest first."""
        statuses = self._client.list_workflows(
            status=_ENDED,
            completed_before=before.isoformat(),
            name=[_ANALYSE, _DELIVER],
            limit=limit,
            offset=offset,
            load_output=False,
        )
        return [
            EndedTurn(status.workflow_id, str(status.input["args"][0]), status.name == _DELIVER)
            for status in statuses
            if status.input
        ]

    def forget(self, turn_ids: Sequence[str]) -> None:
        """Remove ended turns for good. A forgotten id starts again when it is enqueued again."""
        self._client.delete_workflows(list(turn_ids))

    def close(self) -> None:
        """Let go of the queue; the database stays open."""
        self._client.destroy()

    def register(self, name: str, poll_s: float, concurrency: int, per_partition: int | None = None) -> None:
        """Make a queue known, or change its settings.

        `concurrency`: turns that one process has in hand at once; `per_partition`: of those, how many of one key.
        """
        self._client.register_queue(
            name,
            worker_concurrency=concurrency,
            partition_worker_concurrency=per_partition,
            polling_interval_sec=poll_s,
        )

    @staticmethod
    def _options(workflow: str, queue: str, turn_id: str, priority: int) -> EnqueueOptions:
        return {
            "workflow_name": workflow,
            "queue_name": queue,
            "workflow_id": turn_id,
            "priority": priority,
            "serialization_type": WorkflowSerializationFormat.PORTABLE,
        }


@dataclass(frozen=True)
class Analysis:
    """What a worker does with a job: named steps in order; a step that ended never runs again."""

    steps: tuple[tuple[str, Callable[[str], None]], ...]
    """Each takes the job's id. The step in flight runs again after a crash."""
    book: TurnBook
    concurrency: int = 1
    """Jobs that one worker has in hand at once."""


@dataclass(frozen=True)
class Delivery:
    """What a courier does with one attempt of a delivery."""

    deliver: Callable[[str, int], None]
    """Takes the delivery's id and the attempt, from 1."""
    book: TurnBook
    concurrency: int = 32
    concurrency_per_destination: int = 4
    """A destination that hangs holds no more than these, so it delays no other one."""


class Runner:
    """Does queued work in this process, one runner per process.

    Work that this executor had in hand when its process died starts again at `start`.
    """

    def __init__(
        self,
        database: Database,
        *,
        executor_id: str,
        lock_dir: Path,
        analysis: Analysis | None = None,
        delivery: Delivery | None = None,
        reap_every_s: float = 30.0,
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        if analysis is None and delivery is None:
            raise ValueError("a runner needs work")
        self._queue = Queue(database)
        self._database = database
        self._executor_id = executor_id
        self._lock_path = lock_dir / f"{executor_id}.lock"
        self._analysis = analysis
        self._delivery = delivery
        self._reap_every_s = reap_every_s
        self._clock = clock
        self._stopping = threading.Event()
        self._gone = threading.Event()
        self._in_hand = 0
        self._in_hand_changed = threading.Condition()
        self._held: int | None = None
        self._own_pool: Database | None = None
        self._reaper = threading.Thread(target=self._reap_at_times, name="reaper", daemon=True)

    def start(self, *, lock_within_s: float = 10.0) -> None:
        """Begin to work; a runner starts once.

        Raises
        ------
        ConfigError
            Another process works under this executor id and did not end within `lock_within_s`.
        """
        if not _hosting.acquire(blocking=False):
            raise RuntimeError("a process hosts one runner")
        try:
            self._held = _lock(self._lock_path, self._executor_id, lock_within_s)
            self._launch()
        except BaseException:
            self._let_go()
            raise
        self._reaper.start()

    def stop(self, within_s: float = 0.0) -> None:
        """Take no more work and end; what is in hand after `within_s` starts again next time."""
        if self._held is None:
            return
        self._stopping.set()
        with self._in_hand_changed:
            self._in_hand_changed.wait_for(lambda: self._in_hand == 0, timeout=within_s)
        self._reaper.join(timeout=10)
        self._let_go()

    def reap(self) -> int:
        """Let every job or delivery fail whose turn is over without an outcome; give how many."""
        reaped = 0
        for book in (work.book for work in (self._analysis, self._delivery) if work is not None):
            turns = book.open_turns()
            states = self._queue.states(turn.turn_id for turn in turns)
            for turn in turns:
                state = states[turn.turn_id]
                if state not in ALIVE and book.give_up(turn, WHY_FAILED[state], self._clock()):
                    reaped += 1
                    log.error(
                        "work given up",
                        extra={"action": "turn_reaped", "turn": turn.turn_id, "queue_state": state.value},
                    )
        return reaped

    def _launch(self) -> None:
        # A pool of its own: however many turns wait for a connection, the queue itself goes on.
        self._own_pool = Database(self._database.url)
        DBOS(
            config={
                "name": APPLICATION,
                "application_version": APPLICATION_VERSION,
                "executor_id": self._executor_id,
                "system_database_engine": self._own_pool.engine,
                "serializer": PortableJson(),
                "max_executor_threads": _MOST_THREADS,
                "run_migrations": False,
                "use_listen_notify": False,
                "log_level": "WARNING",
            }
        )
        listened = []
        if self._analysis is not None:
            self._queue.register(ENGINE_QUEUE, ENGINE_POLL_S, self._analysis.concurrency)
            self._register_analysis(self._analysis)
            listened.append(ENGINE_QUEUE)
        if self._delivery is not None:
            most = self._delivery.concurrency_per_destination
            self._queue.register(IO_QUEUE, IO_POLL_S, self._delivery.concurrency, most)
            self._register_delivery(self._delivery)
            listened.append(IO_QUEUE)
        DBOS.listen_queues(listened)
        DBOS.launch()

    def _register_analysis(self, analysis: Analysis) -> None:
        @DBOS.workflow(name=_ANALYSE, max_recovery_attempts=MOST_STARTS - 1)
        def analyse(job_id: str) -> None:
            turn = OpenTurn(_turn_id(), job_id)
            with self._hand_on():
                for name, step in analysis.steps:
                    work = partial(self._do, analysis.book, turn, partial(step, job_id))
                    if not DBOS.run_step({"name": name}, work):
                        return

    def _register_delivery(self, delivery: Delivery) -> None:
        @DBOS.workflow(name=_DELIVER, max_recovery_attempts=MOST_STARTS - 1)
        def deliver(delivery_id: str, attempt: int) -> None:
            turn = OpenTurn(_turn_id(), delivery_id)
            with self._hand_on():
                work = partial(self._do, delivery.book, turn, partial(delivery.deliver, delivery_id, attempt))
                DBOS.run_step({"name": _DELIVER}, work)

    def _do(self, book: TurnBook, turn: OpenTurn, work: Callable[[], None]) -> bool:
        """Do one step; False: it met a fault of ours, and the row has failed with that reason."""

        def outcome() -> str:
            try:
                work()
            except PASSING:
                raise
            except (Exception, SystemExit) as error:  # a worker's turn
                log.exception("work ended unexpectedly", extra={"action": "turn_failed", "turn": turn.turn_id})
                return _in_words(error)
            return ""

        problem = self._patiently(outcome, turn)
        if not problem:
            return True
        self._patiently(lambda: book.give_up(turn, problem, self._clock()), turn)
        return False

    def _patiently(self, act: Callable[[], T], turn: OpenTurn) -> T:
        """Repeat while nothing can be written down."""
        wait_s = _FIRST_WAIT_S
        while True:
            try:
                return act()
            except PASSING as error:
                log.warning(
                    "work waits",
                    extra={"action": "turn_waits", "turn": turn.turn_id, "error": error.code, "wait_s": wait_s},
                )
            if self._stopping.wait(wait_s):
                raise _Stopped
            wait_s = min(_LONGEST_WAIT_S, wait_s * 2)

    @contextmanager
    def _hand_on(self) -> Iterator[None]:
        """Count a turn as in hand. One that comes while the runner stops is left for the next start."""
        if self._stopping.is_set():
            self._gone.wait()
            raise _Stopped
        self._count(1)
        try:
            yield
        finally:
            self._count(-1)

    def _count(self, change: int) -> None:
        with self._in_hand_changed:
            self._in_hand += change
            self._in_hand_changed.notify_all()

    def _reap_at_times(self) -> None:
        while True:
            try:
                self.reap()
            except Exception:  # a worker's turn: the next look is another one
                log.exception("looking after work failed", extra={"action": "reap_failed"})
            if self._stopping.wait(self._reap_every_s):
                return

    def _let_go(self) -> None:
        DBOS.destroy(destroy_registry=True)
        self._gone.set()
        self._queue.close()
        if self._own_pool is not None:
            self._own_pool.close()
        if self._held is not None:
            os.close(self._held)
            self._held = None
        _hosting.release()


class _Stopped(BaseException):
    """The runner stops; passes by every handler, so that dbos takes the turn for interrupted."""


def _turn_id() -> str:
    turn_id = DBOS.workflow_id
    if turn_id is None:
        raise RuntimeError("outside a workflow")
    return turn_id


def _in_words(error: BaseException) -> str:
    """Say what ended the work; only failures of ours are known to be free of patient data."""
    said = str(error) if isinstance(error, NodeError) else type(error).__name__
    return f"The work ended unexpectedly: {said}"


def _lock(path: Path, executor_id: str, within_s: float) -> int:
    """Hold a file for this process alone; the system lets go of it when the process ends, however it ends.

    A record lock: children that this process forks do not inherit it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    deadline = time.monotonic() + within_s
    while True:
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if time.monotonic() > deadline:
                os.close(descriptor)
                raise ConfigError(f"Another process works as {executor_id}.", path=str(path)) from error
            time.sleep(0.05)
        else:
            return descriptor


def _quiet() -> None:
    """Let dbos log through this process's own handlers instead of one that it would make."""
    logger = logging.getLogger("dbos")
    logger.setLevel(logging.WARNING)
    if not logger.handlers:
        logger.addHandler(logging.NullHandler())
