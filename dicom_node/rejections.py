"""A-ASSOCIATE-RJ: what a rejected association is told, and what it means when we are told."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Rejection:
    """The three parameters of an A-ASSOCIATE-RJ."""

    result: int
    """1: permanent, 2: transient."""
    source: int
    """1: service user, 2: service provider (ACSE), 3: service provider (presentation)."""
    reason: int


#: Source: PS3.8 Table 9-21.
NO_REASON_GIVEN = Rejection(1, 1, 1)
APPLICATION_CONTEXT_NOT_SUPPORTED = Rejection(1, 1, 2)
CALLING_AE_TITLE_NOT_RECOGNIZED = Rejection(1, 1, 3)
CALLED_AE_TITLE_NOT_RECOGNIZED = Rejection(1, 1, 7)
PROTOCOL_VERSION_NOT_SUPPORTED = Rejection(1, 2, 2)
TEMPORARY_CONGESTION = Rejection(2, 3, 1)
LOCAL_LIMIT_EXCEEDED = Rejection(2, 3, 2)

#: (source, reason) → the standard's words. Source: PS3.8 Table 9-21.
WORDS: dict[tuple[int, int], str] = {
    (1, 1): "no reason given",
    (1, 2): "application context name not supported",
    (1, 3): "calling AE title not recognized",
    (1, 7): "called AE title not recognized",
    (2, 1): "no reason given",
    (2, 2): "protocol version not supported",
    (3, 1): "temporary congestion",
    (3, 2): "local limit exceeded",
}


def meaning(rejection: Rejection) -> str:
    """Say a rejection in the standard's words."""
    words = WORDS.get((rejection.source, rejection.reason), f"reason {rejection.source}/{rejection.reason}")
    return f"{words} ({'permanent' if rejection.result == 1 else 'transient'})"
