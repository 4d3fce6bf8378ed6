"""What every answer has in common, around the application: headers, HEAD, OPTIONS, compression, the last resort."""

from __future__ import annotations

import gzip
import logging
import uuid
from collections.abc import Mapping

from anyio import to_thread
from fastapi import FastAPI
from fastapi.routing import iter_route_contexts
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.routing import compile_path
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dicomweb.failures import failure

log = logging.getLogger(__name__)

#: On every answer: no page of ours runs foreign code, nothing is guessed, nothing is framed by others.
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "SAMEORIGIN",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cache-Control": "no-store",
}
#: What is worth compressing; pixels and objects are not.
_COMPRESSED = ("application/dicom+json", "application/json", "application/dicom+xml", "text/html", "text/css")
_COMPRESSED_FROM = 1024
#: In the scope of a HEAD request: its body need not be made.
HEAD = "dicom_node.head"


class Edge:
    """The outermost layer of HTTP."""

    def __init__(self, app: ASGIApp, *, routes: FastAPI, shared: bool) -> None:
        self._app = app
        self._paths = [
            (compile_path(context.path)[0], set(context.methods or ()))
            for context in iter_route_contexts(routes.router.routes)
            if context.path is not None
        ]
        # Where other origins may ask, their pages may also show what they were given.
        resource_policy = "cross-origin" if shared else "same-origin"
        self._headers: Mapping[str, str] = _HEADERS | {"Cross-Origin-Resource-Policy": resource_policy}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        answer = _Answer(scope, send, self._headers)
        if scope["method"] == "HEAD":
            scope = {**scope, "method": "GET", HEAD: True}
        app = self._app
        is_preflight = "access-control-request-method" in Headers(scope=scope)
        if scope["method"] == "OPTIONS" and not is_preflight and (allowed := self._allowed(scope["path"])):
            app = Response(status_code=204, headers={"Allow": ", ".join(allowed)})
        try:
            await app(scope, receive, answer.send)
        except Exception as error:
            incident = uuid.uuid4().hex[:12]
            log.error(
                "request failed by an error of ours",
                extra={"action": "http_failed", "incident": incident},
                exc_info=(type(error), error, error.__traceback__),
            )
            if answer.started:
                raise
            said = f"An error of ours; the log has it under incident {incident}."
            sorry = failure(scope["path"], 500, "internal_error", said)
            await sorry(scope, receive, answer.send)

    def _allowed(self, path: str) -> list[str]:
        """Methods of a path; none where there is no such path, or where it answers by itself."""
        methods: set[str] = set().union(*(methods for pattern, methods in self._paths if pattern.match(path)))
        if "OPTIONS" in methods:
            return []
        if "GET" in methods:
            methods.add("HEAD")
        return sorted(methods | {"OPTIONS"}) if methods else []


class _Answer:
    """One answer on its way out."""

    def __init__(self, scope: Scope, send: Send, headers: Mapping[str, str]) -> None:
        self._send = send
        self._headers = headers
        self._is_head = scope["method"] == "HEAD"
        self._takes_gzip = "gzip" in Headers(scope=scope).get("accept-encoding", "")
        self._held: Message | None = None
        self.started = False

    async def send(self, message: Message) -> None:
        """Pass a message on, with what every answer has."""
        if message["type"] == "http.response.start":
            self.started = True
            headers = MutableHeaders(raw=message["headers"])
            for name, value in self._headers.items():
                headers.setdefault(name, value)
            if self._takes_gzip and headers.get("content-type", "").startswith(_COMPRESSED):
                self._held = message  # its length is known with the body
                return
        elif message["type"] == "http.response.body":
            if self._held is not None:
                message = await self._compress(self._held, message)
            if self._is_head:
                message = {"type": "http.response.body", "body": b"", "more_body": message.get("more_body", False)}
        await self._send(message)

    async def _compress(self, start: Message, body: Message) -> Message:
        self._held = None
        content = body.get("body", b"")
        headers = MutableHeaders(raw=start["headers"])
        headers.add_vary_header("Accept-Encoding")
        if not body.get("more_body") and len(content) >= _COMPRESSED_FROM and "content-encoding" not in headers:
            content = await to_thread.run_sync(gzip.compress, content, 1)
            headers["Content-Encoding"] = "gzip"
            headers["Content-Length"] = str(len(content))
            if etag := headers.get("etag"):
                headers["ETag"] = f"W/{etag}" if not etag.startswith("W/") else etag
        await self._send(start)
        return {**body, "body": content}
