"""What the watch asks beside the index, on paper."""

# ruff: noqa: ARG002 (stand-ins have the signatures of what they stand in for)
from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from configs.routes import Priority
from storage.prior_book import PriorStudy


class Immediately:
    """An executor that does at once what it is given."""

    def submit(self, work: Callable[..., Any], *arguments: Any) -> None:
        work(*arguments)


@dataclass
class PaperPauses:
    """How senders pause."""

    known: dict[tuple[str, str], float] = field(default_factory=dict)
    noted: dict[str, Mapping[tuple[str, str], float]] = field(default_factory=dict)

    def note(self, study_instance_uid: str, longest_s: Mapping[tuple[str, str], float], at: datetime) -> None:
        self.noted[study_instance_uid] = longest_s

    def learned(self, now: datetime) -> dict[tuple[str, str], float]:
        return self.known


@dataclass
class PaperPriorities:
    """What others say of urgency."""

    said: dict[str, Priority] = field(default_factory=dict)

    def of(self, study_instance_uid: str) -> dict[str, Priority]:
        return self.said


@dataclass
class PaperPriors:
    """Studies that the node fetched."""

    prior: PriorStudy | None = None

    def fetched(self, study_instance_uid: str) -> PriorStudy | None:
        return self.prior
