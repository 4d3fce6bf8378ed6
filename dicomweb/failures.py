"""How a failure is told: as problem details, or as clients of an interface that others defined expect it.

Source: RFC 9457 (problem details); the OpenAI API reference (error codes).
"""

from __future__ import annotations

from starlette.responses import JSONResponse, Response

#: Below these paths clients of the OpenAI API ask.
_OPENAI = "/v1/"
#: Kinds of error by HTTP status, as that API names them.
_OPENAI_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    429: "rate_limit_error",
}
#: Failures of ours → what that API calls them.
_OPENAI_CODES = {"not_authenticated": "invalid_api_key", "unknown_model": "model_not_found"}
#: Without a model there is none a second later: its client need not try again.
_NO_MODEL = "model_not_available"


def failure(
    path: str, status: int, code: str, detail: str, *, headers: dict[str, str] | None = None, param: str = ""
) -> Response:
    """Answer a request that failed.

    Parameters
    ----------
    code
        Name of the failure.
    param
        Part of the request that is at fault; empty: it is not said.
    """
    if path.startswith(_OPENAI):
        again = {"X-Should-Retry": "false"} if code == _NO_MODEL else {}
        content = {"error": openai_error(status, code, detail, param)}
        return JSONResponse(content, status, headers={**(headers or {}), **again})
    return JSONResponse(
        {"status": status, "title": code, "detail": detail},
        status_code=status,
        headers=headers,
        media_type="application/problem+json",
    )


def openai_error(status: int, code: str, detail: str, param: str = "") -> dict[str, str | None]:
    """Give an error object of the OpenAI API."""
    kind = _OPENAI_TYPES.get(status, "invalid_request_error" if status < 500 else "server_error")
    return {
        "message": detail,
        "type": _NO_MODEL if code == _NO_MODEL else kind,
        "param": param or None,
        "code": _OPENAI_CODES.get(code, code),
    }
