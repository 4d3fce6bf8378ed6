"""UPS-RS: who is told of work items, and the channel over which it is told.

Source: PS3.18 11.10 (subscribe), 11.11 (unsubscribe), 11.12 (suspend), 11.13 (event reports), 8.10.4 (the channel).
"""

# No postponed annotations here: the framework reads `Annotated[…, Depends]` made inside functions.

import itertools
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Annotated, Any

import anyio
import orjson
from anyio import to_thread
from fastapi import APIRouter, Depends, Path
from starlette.requests import Request
from starlette.responses import Response
from starlette.websockets import WebSocket, WebSocketDisconnect

from configs.errors import NodeError
from dicomweb.addresses import BaseUrl
from dicomweb.auth import is_own_origin
from dicomweb.caller import Caller, Requires
from dicomweb.errors import BadRequest, NotAllowed
from dicomweb.failures import failure
from dicomweb.names import Uid
from dicomweb.ports import WebParts
from dicomweb.problems import status_for
from dicomweb.qido import PREFIX, query_of
from storage.audit import AuditAction, AuditOutcome
from storage.errors import NotKept, SubscriptionRefused
from storage.matching import Key
from storage.subscriptions import FILTERED, GLOBAL, Channel, Event, Subscriptions

#: UPS Event SOP Class. Source: PS3.4 CC.3.
_UPS_EVENT = "1.2.840.10008.5.1.4.34.6.4"
_N_EVENT_REPORT_RQ = 0x0100
#: Seconds between two looks for events, and between two looks at whether the listener may still listen.
_EVERY_S, _ADMITTED_FOR_S = 0.25, 30.0
_SENT_WITHIN_S = 20.0
_MOST_CHANNELS, _MOST_EACH = 50, 5
#: A listener has nothing to say; one that says more than this is let go.
_MOST_RECEIVED = 100
_POLICY, _OVERLOADED = 1008, 1013  # RFC 6455 7.4.1 and its registry
_NO_KEYS = ("deletionlock", "filter", "accept", "charset")
#: Source: PS3.5 6.2 (AE).
AeTitle = Annotated[str, Path(pattern=r"^[^\\/\x00-\x1f\x7f]{1,16}$")]


def routes(parts: WebParts, requires: Requires, base_url: BaseUrl) -> APIRouter:
    """Give the resources of subscriptions, and the channel at both addresses that clients use."""
    router = APIRouter(prefix=PREFIX, tags=["UPS-RS"])
    desk = _Desk(parts, base_url)
    channels = _Channels(parts, requires)
    may_read = Depends(requires("read"))
    one = "/workitems/{workitem}/subscribers/{aetitle}"

    @router.post(one, status_code=201, response_class=Response)
    def subscribe(workitem: Uid, aetitle: AeTitle, request: Request, caller: Annotated[Caller, may_read]) -> Response:
        """Have a subscriber be told of a work item, of all, or of those that match a filter."""
        return desk.subscribe(request, caller, workitem, aetitle.strip())

    @router.delete(one, response_class=Response)
    def unsubscribe(workitem: Uid, aetitle: AeTitle, caller: Annotated[Caller, may_read]) -> Response:
        """Have a subscriber be told no more."""
        return desk.unsubscribe(caller, workitem, aetitle.strip())

    @router.post(f"{one}/suspend", response_class=Response)
    def suspend(workitem: Uid, aetitle: AeTitle, caller: Annotated[Caller, may_read]) -> Response:
        """Have a subscriber to all work items be told of no new ones."""
        return desk.suspend(caller, workitem, aetitle.strip())

    @router.websocket("/subscribers/{aetitle}")
    @router.websocket("/ws/subscribers/{aetitle}")
    async def channel(websocket: WebSocket, aetitle: str) -> None:
        await channels.serve(websocket, aetitle.strip())

    return router


class _Desk:
    def __init__(self, parts: WebParts, base_url: BaseUrl) -> None:
        self._parts = parts
        self._base_url = base_url

    @property
    def _subscriptions(self) -> Subscriptions:
        return Subscriptions(self._parts.database)

    def subscribe(self, request: Request, caller: Caller, workitem: str, subscriber: str) -> Response:
        keys = _filter_of(request)
        if (workitem == FILTERED) != bool(keys):
            raise BadRequest("The filtered worklist, and it alone, is subscribed to with attributes to match.")
        lock = request.query_params.get("deletionlock", "false").lower()
        if lock not in ("true", "false"):
            raise BadRequest("deletionlock is true or false.")
        self._subscriptions.subscribe(
            subscriber,
            workitem,
            by=caller.name,
            at=self._parts.now(),
            keys=keys,
            deletion_lock=lock == "true",
            visible=caller.visible,
        )
        self._note(caller, f"{subscriber} subscribed to {_words(workitem)}")
        http, rest = self._base_url(request).split("://", 1)
        address = f"{'wss' if http == 'https' else 'ws'}://{rest}{PREFIX}"
        return Response(status_code=201, headers={"Content-Location": address})

    def unsubscribe(self, caller: Caller, workitem: str, subscriber: str) -> Response:
        self._subscriptions.unsubscribe(subscriber, workitem, by=caller.name, at=self._parts.now())
        self._note(caller, f"{subscriber} unsubscribed from {_words(workitem)}")
        return Response(status_code=200)

    def suspend(self, caller: Caller, workitem: str, subscriber: str) -> Response:
        if workitem not in (GLOBAL, FILTERED):
            raise NotKept("Only subscriptions to all work items can be suspended.")
        self._subscriptions.suspend(subscriber, workitem, by=caller.name, at=self._parts.now())
        self._note(caller, f"{subscriber} suspended {_words(workitem)}")
        return Response(status_code=200)

    def _note(self, caller: Caller, detail: str) -> None:
        now = self._parts.now()
        self._parts.audit.record(AuditAction.OPERATE, caller.name, None, AuditOutcome.DONE, detail, now)


class _Channels:
    """The channels that are open in this process; few, and each for who may read."""

    def __init__(self, parts: WebParts, requires: Requires) -> None:
        self._parts = parts
        self._admit = requires("read")
        self._open: Counter[str] = Counter()

    async def serve(self, websocket: WebSocket, subscriber: str) -> None:
        """Tell one listener what its subscriber is to be told, until it goes."""
        # The same access as of any request: what is asked of a key, of the machine, and of a page's origin.
        handshake = Request({**websocket.scope, "type": "http", "method": "GET"})
        try:
            await self._caller(handshake)
            with self._counted(subscriber):
                channel = await to_thread.run_sync(Channel, self._parts.database, subscriber)
                await self._caller(handshake, subscriber)
                await websocket.accept()
                await self._talk(websocket, handshake, channel)
        except NodeError as error:
            await websocket.send_denial_response(failure(handshake.url.path, status_for(error), error.code, str(error)))

    async def _caller(self, handshake: Request, subscriber: str = "") -> Caller:
        caller = await self._admit(handshake)
        foreign = "origin" in handshake.headers and not self._is_trusted(handshake)
        if foreign and "authorization" not in handshake.headers:
            raise NotAllowed("A page of another site may not listen here.")
        if subscriber:
            subscriptions = Subscriptions(self._parts.database)
            await to_thread.run_sync(subscriptions.check_owner, subscriber, caller.name)
        return caller

    def _is_trusted(self, handshake: Request) -> bool:
        origin = handshake.headers["origin"]
        return origin in self._parts.settings.http.cors_origins or is_own_origin(handshake, required=True)

    @contextmanager
    def _counted(self, subscriber: str) -> Iterator[None]:
        if self._open.total() >= _MOST_CHANNELS or self._open[subscriber] >= _MOST_EACH:
            raise SubscriptionRefused("There are too many channels open.")
        self._open[subscriber] += 1
        try:
            yield
        finally:
            self._open[subscriber] -= 1

    async def _talk(self, websocket: WebSocket, handshake: Request, channel: Channel) -> None:
        async with anyio.create_task_group() as group:

            async def listen() -> None:
                await _listen(websocket)
                group.cancel_scope.cancel()

            async def tell() -> None:
                await self._tell(websocket, handshake, channel)
                group.cancel_scope.cancel()

            group.start_soon(listen)
            group.start_soon(tell)

    async def _tell(self, websocket: WebSocket, handshake: Request, channel: Channel) -> None:
        numbers = itertools.cycle(range(1, 1 << 16))
        try:
            while True:
                caller = await self._caller(handshake)
                admitted_until = time.monotonic() + _ADMITTED_FOR_S
                while time.monotonic() < admitted_until:
                    due = partial(channel.due, self._parts.now(), caller.visible)
                    for event in await to_thread.run_sync(due):
                        with anyio.fail_after(_SENT_WITHIN_S):
                            await websocket.send_text(report(event, next(numbers)))
                    await anyio.sleep(_EVERY_S)
        except (WebSocketDisconnect, TimeoutError):
            return
        except NodeError as error:
            await websocket.close(_POLICY if status_for(error) < 500 else _OVERLOADED, str(error)[:100])


async def _listen(websocket: WebSocket) -> None:
    """Return when the listener goes, or says more than one has to say."""
    for _ in range(_MOST_RECEIVED):
        message = await websocket.receive()
        if message["type"] == "websocket.disconnect":
            return
    await websocket.close(_POLICY, "A listener has nothing to say.")


def report(event: Event, message_id: int) -> str:
    """Write an event report. Source: PS3.18 8.10.5, PS3.7 Table 10.3-1."""
    command: dict[str, Any] = {
        "00000002": {"vr": "UI", "Value": [_UPS_EVENT]},
        "00000100": {"vr": "US", "Value": [_N_EVENT_REPORT_RQ]},
        "00000110": {"vr": "US", "Value": [message_id]},
        "00000800": {"vr": "US", "Value": [0x0001]},
        "00001000": {"vr": "UI", "Value": [event.workitem_uid]},
        "00001002": {"vr": "US", "Value": [event.event_type]},
    }
    return orjson.dumps({**command, **event.information}).decode()


def _filter_of(request: Request) -> tuple[Key, ...]:
    """Read the filter: `filter=keyword=value,…`, or the attributes as parameters of their own, as clients send it."""
    pairs = [(name, value) for name, value in request.query_params.multi_items() if name.lower() not in _NO_KEYS]
    for text in request.query_params.getlist("filter"):
        for piece in text.split(","):
            name, equals, value = piece.partition("=")
            if equals:
                pairs.append((name.strip(), value))
            elif pairs:  # a comma within a value
                pairs[-1] = (pairs[-1][0], f"{pairs[-1][1]},{piece}")
    return query_of(pairs).keys


def _words(workitem: str) -> str:
    return {GLOBAL: "all work items", FILTERED: "filtered work items"}.get(workitem, f"work item {workitem}")
