"""What a caller can ask for that cannot be."""

from __future__ import annotations

from configs.errors import NodeError


class RequestError(NodeError):
    """The caller asked for what cannot be."""


class BadRequest(RequestError):
    """The request cannot be understood."""


class UnsupportedMediaType(RequestError):
    """What is sent is of a media type that cannot be stored."""


class TooLarge(RequestError):
    """The request, or a part of it, is larger than it may be."""


class Unfinished(RequestError):
    """The request ended before its end, or nothing more came of it."""


class CallerGone(RequestError):
    """The caller went away before the answer was there."""


class NotAcceptable(RequestError):
    """None of the representations that the caller accepts can be given."""


class NotAuthenticated(RequestError):
    """Send Authorization: Bearer <key>; on the node's machine: dicom-node keys show-admin."""


class NotAllowed(RequestError):
    """The caller's key does not allow this."""


class ServiceUnreachable(NodeError):
    """The DICOMweb service could not be reached, or went away before it answered; later may help."""


class ServiceRefused(NodeError):
    """The DICOMweb service answered, and did not do it."""

    def __init__(self, message: str | None = None, *, http_status: int) -> None:
        super().__init__(message, http_status=http_status)
        self.http_status = http_status
