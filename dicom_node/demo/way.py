"""The way of a study, from the modality to the PACS, with times."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Sending:
    """The C-STOREs that brought the studies to the node."""

    began: datetime
    ended: datetime
    count: int
    """Instances that were answered with 0x0000."""
    refused: tuple[str, ...] = ()
    """What the node answered for the others."""


@dataclass(frozen=True)
class Step:
    """One thing that happened to a study."""

    at: datetime
    after_s: float
    """Since the first image was sent."""
    what: str
    state: str
    why: str


def steps_of(page: dict[str, Any], sending: Sending, received: Sequence[tuple[str, Path]], pacs: str) -> list[Step]:
    """Join the node's own account with what the modality and the PACS saw.

    Parameters
    ----------
    page
        As `/api/studies/{uid}` gives it.
    received
        Modality and file of each object that the PACS wrote.
    """
    happened = [
        (sending.began, "modality", "sending", ""),
        (sending.ended, "modality", "sent", f"{sending.count} instances, each answered with Success."),
        *((_time(step["at"]), step["subject"], step["to_state"], step["reason"]) for step in page["way"]),
        *((_written(path), pacs, "received", modality) for modality, path in received),
    ]
    return [
        Step(at, (at - sending.began).total_seconds(), what, state, why)
        for at, what, state, why in sorted(happened, key=lambda each: each[0])
    ]


def spans_of(page: dict[str, Any], sending: Sending, received: Sequence[tuple[str, Path]]) -> list[tuple[str, float]]:
    """Say what took how long, in seconds, as far as it happened."""
    decided = [_time(each["decided_at"]) for each in page["decisions"]]
    ended = [_time(job["ended_at"]) for job in page["jobs"] if job["ended_at"]]
    started = [_time(job["started_at"]) for job in page["jobs"] if job["started_at"]]
    arrived = [_written(path) for _, path in received]
    spans = [("sending the images", sending.began, sending.ended)]
    if decided:
        spans.append(("waiting for more images", sending.ended, decided[0]))
    if started and ended:
        spans.append(("analysis", min(started), max(ended)))
    if ended and arrived:
        spans.append(("delivery", max(ended), max(arrived)))
    if arrived:
        spans.append(("from the last image to the PACS", sending.ended, max(arrived)))
    return [(name, max(0.0, (end - begin).total_seconds())) for name, begin, end in spans]


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)


def _written(path: Path) -> datetime:
    return datetime.fromtimestamp(path.stat().st_mtime, UTC)
