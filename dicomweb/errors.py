"""What a caller can ask for that cannot be."""

from __future__ import annotations

from configs.errors import NodeError


class RequestError(NodeError):
    """The caller asked for what cannot be."""


class BadRequest(RequestError):
    """The request cannot be understood."""


class NotAcceptable(RequestError):
    """None of the representations that the caller accepts can be given."""


class NotAuthenticated(RequestError):
    """Send Authorization: Bearer <key>; on the node's machine: dicom-node keys show-admin."""


class NotAllowed(RequestError):
    """The caller's key does not allow this."""
