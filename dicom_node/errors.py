"""What can go wrong with a peer."""

from __future__ import annotations

from configs.errors import NodeError


class PeerError(NodeError):
    """A peer did not do what was asked of it."""


class PeerUnreachable(PeerError):
    """The peer could not be reached, or the connection to it broke; trying later may help."""


class AssociationRejected(PeerError):
    """The peer rejected the association.

    Source: PS3.8 Table 9-21 (result, source and reason).
    """

    def __init__(self, message: str | None = None, *, result: int, source: int, reason: int) -> None:
        super().__init__(message, result=result, source=source, reason=reason)
        self.result = result
        self.source = source
        self.reason = reason

    @property
    def permanent(self) -> bool:
        """Whether the peer says that trying again will not help."""
        return self.result == 1


class PeerRefused(PeerError):
    """The peer refused what it was sent."""

    def __init__(self, message: str | None = None, *, status: int | None = None, **ids: str) -> None:
        super().__init__(message, status=status, **ids)
        self.status = status
        """Its DIMSE Status; None where it never came to a message."""


class ContextRefused(PeerRefused):
    """The peer accepts no presentation context in which the instance could be sent without loss."""


class IdentifierMismatch(PeerError):
    """The identifier of a request does not fit its SOP Class."""

    def __init__(self, message: str | None = None, *, offending: int | None = None) -> None:
        super().__init__(message, offending=None if offending is None else f"{offending:08X}")
        self.offending = offending
        """Tag of the attribute at fault."""
