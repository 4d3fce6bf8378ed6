"""Work for a caller for as long as there is one."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from typing import TypeVar

import anyio
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from configs.errors import NodeError
from dicomweb.errors import CallerGone

T = TypeVar("T")
#: A caller who takes nothing of an answer for so long is gone.
_TAKES_WITHIN_S = 60.0


async def while_there(receive: Receive, work: Callable[[], Awaitable[T]]) -> T:
    """Do work that ends when the caller goes away.

    `receive`: of a request whose body was read.

    Raises
    ------
    CallerGone
        Nobody is there for the answer; the work was cancelled.
    NodeError
        Of the work.
    """
    done: list[T] = []
    failed: list[NodeError] = []

    async def watch() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        group.cancel_scope.cancel()

    async with anyio.create_task_group() as group:
        group.start_soon(watch)
        try:
            done.append(await work())
        except NodeError as error:
            failed.append(error)  # a group would wrap it
        group.cancel_scope.cancel()
    if failed:
        raise failed[0]
    if not done:
        raise CallerGone
    return done[0]


class EventStream(Response):
    """Server-sent events; a caller who goes away closes what makes them.

    Source: WHATWG HTML 9.2 (server-sent events).
    """

    media_type = "text/event-stream"

    def __init__(self, events: AsyncGenerator[bytes]) -> None:
        """Prepare; `events` are whole, each with its empty line."""
        super().__init__()
        self._events = events

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 (of the interface)
        """Send until the end, or until nobody is there."""
        headers = [
            (b"content-type", b"text/event-stream; charset=utf-8"),
            (b"cache-control", b"no-store"),
            (b"x-accel-buffering", b"no"),  # proxies must not gather what is to be seen at once
        ]

        async def send_all() -> None:
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            async with aclosing(self._events) as events:
                async for event in events:
                    with anyio.move_on_after(_TAKES_WITHIN_S) as patience:
                        await send({"type": "http.response.body", "body": event, "more_body": True})
                    if patience.cancelled_caught:
                        raise CallerGone
            await send({"type": "http.response.body", "body": b"", "more_body": False})

        with contextlib.suppress(CallerGone):
            await while_there(receive, send_all)
