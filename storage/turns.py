"""A turn: one workflow of the queue, as the rows of jobs and deliveries see it. Knows no queue."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Protocol


class TurnState(StrEnum):
    """What the queue says of a turn."""

    QUEUED = "queued"
    """It will start: at once, or after its delay."""
    RUNNING = "running"
    ENDED = "ended"
    FAILED = "failed"
    CANCELLED = "cancelled"
    GIVEN_UP = "given up"
    """It ended its process too often and is not started again."""
    UNKNOWN = "unknown"
    """The queue has no such turn."""


#: States in which a turn still will do, or does, its work.
ALIVE = frozenset({TurnState.QUEUED, TurnState.RUNNING})

#: Why a row whose turn is in this state fails, where its work did not say how it ended.
WHY_FAILED: dict[TurnState, str] = {
    TurnState.ENDED: "The work ended without an outcome; the log has the details.",
    TurnState.FAILED: "The work ended with an unexpected error; the log has the details.",
    TurnState.CANCELLED: "The work was cancelled in the queue.",
    TurnState.GIVEN_UP: "The work ended its process each time it was started, and is not started again.",
    TurnState.UNKNOWN: "The queue does not know this work any more.",
}


@dataclass(frozen=True)
class OpenTurn:
    """The turn that a job or a delivery which has not ended stands on."""

    turn_id: str
    """Id of the workflow."""
    subject_id: str
    """Id of the job or delivery."""


class TurnBook(Protocol):
    """The rows whose work the queue carries: jobs, or deliveries."""

    def open_turns(self) -> Sequence[OpenTurn]:
        """Give the current turn of every row that waits for the queue or is in work."""
        ...

    def give_up(self, turn: OpenTurn, reason: str, at: datetime) -> bool:
        """Let the row fail, unless it has ended or stands on another turn by now; tell whether it did."""
        ...


def job_turn(job_id: str, run: int) -> str:
    """Name the turn of a job: its own id, and after a rerun its id and the number of the run, from 2."""
    return job_id if run <= 1 else f"{job_id}:{run}"


def delivery_turn(delivery_id: str, attempt: int) -> str:
    """Name the turn of one attempt, from 1, of a delivery."""
    return f"{delivery_id}:{attempt}"
