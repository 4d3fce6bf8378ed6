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
from dicomweb.errors import ServiceRefused, ServiceUnreachable
from storage.errors import NotKept


class Effect(StrEnum):
    """What follows for the instance."""

    ACCEPTED = "accepted"
    RETRY = "retry"
    GIVE_UP = "give up"
    """Nothing helps: the destination does not want it."""
    OTHER_FORM = "other form"
    """This object is not taken; the same said in another one may be."""


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
    (0x0122, 0x0122, Effect.OTHER_FORM, "SOP Class not supported"),
    (0x0124, 0x0124, Effect.GIVE_UP, "not authorised"),
    (0x0210, 0x0210, Effect.RETRY, "duplicate invocation"),
    (0x0211, 0x0211, Effect.GIVE_UP, "unrecognised operation"),
    (0x0212, 0x0212, Effect.GIVE_UP, "mistyped argument"),
    (0x0213, 0x0213, Effect.RETRY, "resource limitation"),
    (0xA700, 0xA7FF, Effect.RETRY, "out of resources"),
    (0xA900, 0xA9FF, Effect.OTHER_FORM, "the data set does not match its SOP Class"),
    (0xB000, 0xB000, Effect.ACCEPTED, "warning: the destination coerced attributes"),
    (0xB006, 0xB006, Effect.ACCEPTED, "warning: the destination discarded attributes"),
    (0xB007, 0xB007, Effect.ACCEPTED, "warning: the data set does not match its SOP Class"),
    (0xB000, 0xBFFF, Effect.ACCEPTED, "warning"),
    (0xC000, 0xCFFF, Effect.OTHER_FORM, "cannot understand"),
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


#: HTTP status of a STOW-RS service that says nothing of the instance: first and last code, effect, meaning; the first
#: row that fits counts. Source: PS3.18 10.5.3.1, RFC 9110 15, RFC 6585.
HTTP_STATUS: tuple[tuple[int, int, Effect, str], ...] = (
    (202, 202, Effect.RETRY, "accepted without saying what became of it"),
    (200, 299, Effect.RETRY, "no answer of STOW-RS"),
    (300, 399, Effect.GIVE_UP, "redirected elsewhere, where the node does not follow"),
    (401, 401, Effect.GIVE_UP, "it does not know the node: key, token or certificate"),
    (403, 403, Effect.GIVE_UP, "the node may not store there"),
    (408, 408, Effect.RETRY, "timed out there"),
    (409, 409, Effect.GIVE_UP, "refused without a reason"),
    (413, 413, Effect.OTHER_FORM, "too large"),
    (415, 415, Effect.OTHER_FORM, "the media type or transfer syntax is not taken"),
    (422, 422, Effect.OTHER_FORM, "cannot be processed"),
    (423, 429, Effect.RETRY, "too much at present"),
    (400, 499, Effect.GIVE_UP, "refused"),
    (501, 501, Effect.GIVE_UP, "storing is not served there"),
    (500, 599, Effect.RETRY, "failure there"),
)

#: Statuses that say of the whole SOP Class that it is not taken: remembered of the destination.
CLASS_REFUSED = frozenset({0x0122})


def answer_to_http_status(http_status: int, said: str) -> Answer:
    """Say what the HTTP status of a STOW-RS service means; `said`: the answer in words."""
    for first, last, effect, meaning in HTTP_STATUS:
        if first <= http_status <= last:
            return Answer(effect, f"{said}: {meaning}")
    return Answer(Effect.RETRY, f"{said}: unknown status")


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
            effect = Effect.OTHER_FORM if error.status is None else answer_to_status(error.status).effect
            return Answer(effect, _bare(error))
        case ServiceRefused():
            return answer_to_http_status(error.http_status, _bare(error))
        case PeerUnreachable() | ServiceUnreachable():
            return Answer(Effect.RETRY, _bare(error))
        case NotKept():
            return Answer(Effect.GIVE_UP, _bare(error))
        case _:
            raise error


def _bare(error: NodeError) -> str:
    return str(error).rstrip(". ")


def next_attempt_at(subject_id: str, attempt: int, now: datetime, settings: DeliverySettings) -> datetime | None:
    """Tell when to try again after an attempt, from 1; None: that was the last.

    One shape for everything that goes out to peers: deliveries, reports of commitment, confirmations.

    The pause doubles up to its ceiling. It is shortened by up to a quarter, always the same for the same
    attempt, so that deliveries that failed together do not come back together.
    """
    if attempt >= settings.attempts:
        return None
    pause_s = min(settings.retry_at_most_s, settings.first_retry_s * 2 ** min(attempt - 1, _MOST_DOUBLINGS))
    drawn = hashlib.sha256(f"{subject_id}/{attempt}".encode()).digest()[0] / 256
    return now + timedelta(seconds=pause_s * (1 - drawn / 4))
