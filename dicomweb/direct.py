"""The plain routes of the services, answered ahead of the framework: the same functions, found by one expression.

A viewer asks for thousands of frames, one a request. Where an endpoint wants nothing but what its path names, the
request and the caller, there is nothing that the framework would have to find out each time anew. It still lists
these routes, and answers every request that does not fit exactly.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, get_args, get_origin

from anyio import to_thread
from fastapi import params
from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from configs.errors import NodeError
from dicomweb.caller import Caller
from dicomweb.names import UID_PATTERN, Uid

#: What a path parameter of each kind may be; others leave the route to the framework.
_PATTERNS: tuple[tuple[Any, str], ...] = ((Uid, UID_PATTERN), (str, r"[^/\n]+"))
_AT_ONCE = "at_once"
_PARAMETER = re.compile(r"\{(\w+)\}")
Endpoint = Callable[..., Any]
Failed = Callable[[Request, NodeError], Response]


def first_tried(at_once: Callable[..., Response | None]) -> Callable[[Endpoint], Endpoint]:
    """Have an endpoint's requests tried in the event loop first; None there: it would wait, so a thread does it.

    `at_once`: takes what the endpoint takes, and waits for nothing.
    """

    def mark(endpoint: Endpoint) -> Endpoint:
        vars(endpoint)[_AT_ONCE] = at_once
        return endpoint

    return mark


@dataclass(frozen=True)
class _Plain:
    """A route that needs no framework."""

    endpoint: Endpoint
    caller_of: Callable[[Request], Awaitable[Caller]]
    pattern: str
    names: tuple[str, ...]

    async def answer(self, request: Request, named: Mapping[str, str]) -> Response:
        """Do what the framework would do."""
        caller = await self.caller_of(request)
        at_once = vars(self.endpoint).get(_AT_ONCE)
        if at_once is not None:
            answer: Response | None = at_once(**named, request=request, caller=caller)
            if answer is not None:
                return answer
        done: Response = await to_thread.run_sync(partial(self.endpoint, **named, request=request, caller=caller))
        return done


class Direct:
    """Answers plain routes; everything else goes on to the framework."""

    def __init__(self, app: ASGIApp, *, routes: Iterable[APIRoute], failed: Failed) -> None:
        """Take the routes in their order; `failed`: answers failures as the framework would have them answered."""
        self._app = app
        self._failed = failed
        self._routes: dict[int, tuple[int, _Plain]] = {}
        patterns, group = [], 0
        for plain in filter(None, map(plain_route, routes)):
            # An empty group ends each alternative: it is the last one that took part, and so tells which fitted.
            marker = group + len(plain.names) + 1
            self._routes[marker] = (group, plain)
            patterns.append(f"{plain.pattern}()")
            group = marker
        self._expression = re.compile("|".join(patterns) or r"(?!)")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        fit = self._expression.fullmatch(scope["path"]) if scope["type"] == "http" else None
        if fit is None or fit.lastindex is None or scope["method"] != "GET":
            await self._app(scope, receive, send)
            return
        before, plain = self._routes[fit.lastindex]
        named = dict(zip(plain.names, fit.groups()[before:], strict=False))
        request = Request(scope, receive)
        try:
            answer = await plain.answer(request, named)
        except NodeError as error:
            answer = self._failed(request, error)
        await answer(scope, receive, send)


def plain_route(route: APIRoute) -> _Plain | None:
    """Read what a route's endpoint takes; None: it needs the framework."""
    signature = inspect.signature(route.endpoint)
    if route.methods != {"GET"} or inspect.iscoroutinefunction(route.endpoint):
        return None
    if signature.return_annotation is not Response:
        return None
    patterns: dict[str, str] = {}
    caller_of: Callable[[Request], Awaitable[Caller]] | None = None
    for name, parameter in signature.parameters.items():
        kind = parameter.annotation
        depends = get_args(kind)[1] if get_origin(kind) is Annotated else None
        if name == "caller" and isinstance(depends, params.Depends):
            caller_of = depends.dependency
        elif pattern := next((pattern for known, pattern in _PATTERNS if kind == known), ""):
            patterns[name] = pattern
        elif kind is not Request or name != "request":
            return None
    pieces = _PARAMETER.split(route.path)
    names = tuple(pieces[1::2])
    if caller_of is None or set(names) != set(patterns) or "{" in "".join(pieces[::2]):
        return None
    fixed = [re.escape(piece) for piece in pieces[::2]]
    taken = [f"({patterns[name]})" for name in names] + [""]
    return _Plain(route.endpoint, caller_of, "".join(a + b for a, b in zip(fixed, taken, strict=True)), names)
