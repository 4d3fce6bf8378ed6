"""What each failure means over HTTP, in one table. Source of the form: RFC 9457."""

from __future__ import annotations

import logging
import uuid

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from configs.errors import ConfigError, NodeError
from dicomweb.errors import BadRequest, NotAcceptable, NotAllowed, NotAuthenticated, RequestError
from inference.pixels import NoSuchFrame, UnreadablePixels
from storage.errors import (
    DiskFull,
    ForbiddenTransition,
    IndexUnavailable,
    MalformedQuery,
    NotKept,
    SopClassMismatch,
    UnreadableInstance,
)

log = logging.getLogger(__name__)

#: The first class that fits decides.
STATUS: tuple[tuple[type[NodeError], int], ...] = (
    (NotAuthenticated, 401),
    (NotAllowed, 403),
    (NotAcceptable, 406),
    (BadRequest, 400),
    (MalformedQuery, 400),
    (RequestError, 400),
    (NotKept, 404),
    (ForbiddenTransition, 409),
    (SopClassMismatch, 409),
    (UnreadableInstance, 422),
    (DiskFull, 507),
    (IndexUnavailable, 503),
    (NoSuchFrame, 404),
    (UnreadablePixels, 422),
    (ConfigError, 500),
)


def status_for(error: NodeError) -> int:
    """Give the HTTP status of a failure."""
    return next((status for kind, status in STATUS if isinstance(error, kind)), 500)


def install(app: FastAPI) -> None:
    """Have the application answer failures as problems."""

    @app.exception_handler(NodeError)
    def foreseen(request: Request, error: NodeError) -> Response:
        status = status_for(error)
        if status >= 500:
            log.error("request failed", extra={"action": "http_failed", "error": error.code, "status": status})
        headers = {"WWW-Authenticate": 'Bearer realm="dicom-node", Basic realm="dicom-node"'} if status == 401 else None
        if status == 503:
            headers = {"Retry-After": "5"}
        return problem(status, error.code, str(error), headers=headers)

    @app.exception_handler(HTTPException)
    def by_framework(request: Request, error: HTTPException) -> Response:
        return problem(error.status_code, "http_error", str(error.detail), headers=dict(error.headers or {}))

    @app.exception_handler(RequestValidationError)
    def malformed(request: Request, error: RequestValidationError) -> Response:
        said = "; ".join(f"{'.'.join(str(part) for part in each['loc'])}: {each['msg']}" for each in error.errors())
        return problem(400, "bad_request", said)

    @app.exception_handler(Exception)
    def unforeseen(request: Request, error: Exception) -> Response:
        incident = uuid.uuid4().hex[:12]
        log.error(
            "request failed by an error of ours",
            extra={"action": "http_failed", "incident": incident},
            exc_info=(type(error), error, error.__traceback__),
        )
        return problem(500, "internal_error", f"An error of ours; the log has it under incident {incident}.")


def problem(status: int, code: str, detail: str, *, headers: dict[str, str] | None = None) -> Response:
    """Answer with problem details."""
    return JSONResponse(
        {"status": status, "title": code, "detail": detail},
        status_code=status,
        headers=headers,
        media_type="application/problem+json",
    )
