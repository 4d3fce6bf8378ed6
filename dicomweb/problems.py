"""What each failure means over HTTP, in one table. Source of the form: RFC 9457."""

from __future__ import annotations

import logging
from collections.abc import Callable

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from configs.errors import ConfigError, NodeError
from dicomweb.errors import (
    BadRequest,
    CallerGone,
    NotAcceptable,
    NotAllowed,
    NotAuthenticated,
    RequestError,
    TooLarge,
    Unfinished,
    UnsupportedMediaType,
)
from dicomweb.failures import failure
from inference.errors import (
    CannotTranscode,
    InferenceError,
    ModelBusy,
    ModelFailed,
    ModelNotAvailable,
    ModelRefused,
    ModelTimedOut,
    NoSuchFrame,
    PixelWorkStopped,
    UnknownModel,
)
from storage.errors import (
    DiskFull,
    ForbiddenTransition,
    Inapplicable,
    IndexUnavailable,
    MalformedQuery,
    NotKept,
    SopClassMismatch,
    SubscriptionRefused,
    Undeletable,
    UnreadableInstance,
    WorkitemConflict,
)

log = logging.getLogger(__name__)

#: The first class that fits decides.
STATUS: tuple[tuple[type[NodeError], int], ...] = (
    (NotAuthenticated, 401),
    (NotAllowed, 403),
    (NotAcceptable, 406),
    (Unfinished, 408),
    (TooLarge, 413),
    (UnsupportedMediaType, 415),
    (BadRequest, 400),
    (MalformedQuery, 400),
    (RequestError, 400),
    (NotKept, 404),
    (ForbiddenTransition, 409),
    (SopClassMismatch, 409),
    (Undeletable, 409),
    (Inapplicable, 409),
    (WorkitemConflict, 409),
    (SubscriptionRefused, 403),
    (UnreadableInstance, 422),
    (DiskFull, 507),
    (IndexUnavailable, 503),
    (NoSuchFrame, 404),
    (CannotTranscode, 406),
    (PixelWorkStopped, 503),
    (InferenceError, 422),
    (ConfigError, 500),
)

#: Likewise, of language models and of who waits for them. 499 is what web servers note of a caller who left.
MODEL_STATUS: tuple[tuple[type[NodeError], int], ...] = (
    (CallerGone, 499),
    (ModelNotAvailable, 503),
    (UnknownModel, 404),
    (ModelBusy, 429),
    (ModelTimedOut, 504),
    (ModelFailed, 502),
    (ModelRefused, 400),
)

#: What goes with a status. Source: RFC 9110 11.6.1, 10.2.3.
_HEADERS = {
    401: {"WWW-Authenticate": 'Bearer realm="dicom-node", Basic realm="dicom-node"'},
    429: {"Retry-After": "2"},
    503: {"Retry-After": "5"},
}
#: For who asks from within a page: browsers answer Basic with a window of their own, over that page.
_IN_A_PAGE = {"WWW-Authenticate": 'Bearer realm="dicom-node"'}
Page = Callable[[int, str], Response]
Foreseen = Callable[[Request, NodeError], Response]


def status_for(error: NodeError) -> int:
    """Give the HTTP status of a failure."""
    return next((status for kind, status in (*MODEL_STATUS, *STATUS) if isinstance(error, kind)), 500)


def install(app: FastAPI, page: Page) -> Foreseen:
    """Have the application answer failures as problems, and as pages below /console; give what answers ours."""

    def answer(
        request: Request, status: int, code: str, detail: str, headers: dict[str, str] | None = None, param: str = ""
    ) -> Response:
        if request.url.path.startswith("/console"):
            return page(status, detail)
        return failure(request.url.path, status, code, detail, headers=headers, param=param)

    @app.exception_handler(NodeError)
    def foreseen(request: Request, error: NodeError) -> Response:
        status = status_for(error)
        if status >= 500:
            log.error("request failed", extra={"action": "http_failed", "error": error.code, "status": status})
        in_a_page = status == 401 and request.headers.get("sec-fetch-dest") == "empty"
        headers = _IN_A_PAGE if in_a_page else _HEADERS.get(status)
        return answer(request, status, error.code, str(error), headers, str(error.facts.get("param", "")))

    @app.exception_handler(HTTPException)
    def by_framework(request: Request, error: HTTPException) -> Response:
        return answer(request, error.status_code, "http_error", str(error.detail), dict(error.headers or {}))

    @app.exception_handler(RequestValidationError)
    def malformed(request: Request, error: RequestValidationError) -> Response:
        said = "; ".join(f"{'.'.join(str(part) for part in each['loc'])}: {each['msg']}" for each in error.errors())
        return answer(request, 400, "bad_request", said)

    return foreseen
