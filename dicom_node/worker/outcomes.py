"""What an answer or a failure of a destination means: accepted, try again, or give up.

A permanent refusal is never repeated; everything that may pass is, with growing pauses and a limit.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from configs.errors import NodeError
from configs.settings import DeliverySettings
from dicom_node.errors import AssociationRejected, PeerRefused, PeerUnreachable
from storage.errors import NotKept


class Effect(StrEnum):
    """What follows for the instance."""

    ACCEPTED = "accepted"
    RETRY = "retry"
    GIVE_UP = "give up"


@dataclass(frozen=True)
class Answer:
    """What a status or a failure comes to."""

    effect: Effect
    meaning: str
    """In words for a PACS administrator; empty for plain success."""


#: C-STORE Status: first and last code, effect, meaning; the first row that fits counts.
#: Source: PS3.4 table B.2-1, PS3.7 Annex C.
STATUS: tuple[tuple[int, int, Effect, str], ...] = (
    (0x0000, 0x0000, Effect.ACCEPTED, ""),
    (0x0001, 0x0001, Effect.ACCEPTED, "warning"),
    (0x0107, 0x0107, Effect.ACCEPTED, "warning: some attributes were not taken"),
    (0x0110, 0x0110, Effect.RETRY, "processing failure"),
    (0x0111, 0x0111, Effect.ACCEPTED, "the destination holds it already"),
    (0x0112, 0x0112, Effect.GIVE_UP, "no such object"),
    (0x0116, 0x0116, Effect.ACCEPTED, "warning: an attribute value is out of range"),
    (0x0117, 0x0117, Effect.GIVE_UP, "invalid instance UID"),
    (0x0122, 0x0122, Effect.GIVE_UP, "SOP Class not supported"),
    (0x0124, 0x0124, Effect.GIVE_UP, "not authorised"),
    (0x0210, 0x0210, Effect.RETRY, "duplicate invocation"),
    (0x0211, 0x0211, Effect.GIVE_UP, "unrecognised operation"),
    (0x0212, 0x0212, Effect.GIVE_UP, "mistyped argument"),
    (0x0213, 0x0213, Effect.RETRY, "resource limitation"),
    (0xA700, 0xA7FF, Effect.RETRY, "out of resources"),
    (0xA900, 0xA9FF, Effect.GIVE_UP, "the data set does not match its SOP Class"),
    (0xB000, 0xB000, Effect.ACCEPTED, "warning: the destination coerced attributes"),
    (0xB006, 0xB006, Effect.ACCEPTED, "warning: the destination discarded attributes"),
    (0xB007, 0xB007, Effect.ACCEPTED, "warning: the data set does not match its SOP Class"),
    (0xB000, 0xBFFF, Effect.ACCEPTED, "warning"),
    (0xC000, 0xCFFF, Effect.GIVE_UP, "cannot understand"),
    (0xFE00, 0xFE00, Effect.RETRY, "cancelled by the destination"),
)

#: A-ASSOCIATE-RJ by the provider behind the peer: congestion or a local limit, which pass whatever the result says.
#: Source: PS3.8 table 9-21.
_REJECTED_BY_PRESENTATION_PROVIDER = 3

#: Longest doubling of the first pause, before the ceiling is looked at.
_MOST_DOUBLINGS = 30


def answer_to_status(status: int | None) -> Answer:
    """Say what a C-STORE Status means; None: the destination did not answer."""
    if status is None:
        return Answer(Effect.RETRY, "no answer")
    for first, last, effect, meaning in STATUS:
        if first <= status <= last:
            return Answer(effect, f"0x{status:04X} {meaning}" if meaning else "")
    return Answer(Effect.RETRY, f"0x{status:04X} unknown status")


def answer_to_error(error: NodeError) -> Answer:
    """Say what a failure of a delivery means.

    Raises
    ------
    NodeError
        The error itself, where it is none of the destination's: the queue knows what to do with it.
    """
    match error:
        case AssociationRejected():
            final = error.permanent and error.source != _REJECTED_BY_PRESENTATION_PROVIDER
            return Answer(Effect.GIVE_UP if final else Effect.RETRY, _bare(error))
        case PeerRefused():
            # Without a status, no presentation context was accepted: the destination cannot take such objects.
            effect = Effect.GIVE_UP if error.status is None else answer_to_status(error.status).effect
            return Answer(effect, _bare(error))
        case PeerUnreachable():
            return Answer(Effect.RETRY, _bare(error))
        case NotKept():
            return Answer(Effect.GIVE_UP, _bare(error))
        case _:
            raise error


def _bare(error: NodeError) -> str:
    return str(error).rstrip(". ")


def next_attempt_at(delivery_id: str, attempt: int, now: datetime, settings: DeliverySettings) -> datetime | None:
    """Tell when to try again after an attempt, from 1; None: that was the last.

    The pause doubles up to its ceiling. It is shortened by up to a quarter, always the same for the same
    attempt, so that deliveries that failed together do not come back together.
    """
    if attempt >= settings.attempts:
        return None
    pause_s = min(settings.retry_at_most_s, settings.first_retry_s * 2 ** min(attempt - 1, _MOST_DOUBLINGS))
    drawn = hashlib.sha256(f"{delivery_id}/{attempt}".encode()).digest()[0] / 256
    return now + timedelta(seconds=pause_s * (1 - drawn / 4))
