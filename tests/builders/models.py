"""A server that speaks the OpenAI API and answers as it is told: no model, a stand-in for tests."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any, Literal

from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.types import ASGIApp, Receive, Scope, Send

Trouble = Literal["", "error", "garbage", "garbage in the stream", "cut", "silent", "error in the stream", "busy"]
_AT_ONCE: dict[str, Response] = {
    "error": JSONResponse({"error": {"message": "secret words"}}, 500),
    "busy": JSONResponse({}, 429),
    "garbage": Response("<html>", media_type="text/html"),
}
#: Gives up a wait that nobody ends.
_LONGEST_S = 60.0


@dataclass
class PaperModels:
    """What one server has, does, and has seen."""

    models: tuple[str, ...] = ("medgemma-4b-it",)
    words: tuple[str, ...] = ("One", " two", " three")
    trouble: Trouble = ""
    refusal: dict[str, Any] | None = None
    key: str = ""
    hold: bool = False
    """Whether answers wait after their first word until `go_on` is set."""
    asked: list[dict[str, Any]] = field(default_factory=list)
    looked: int = 0
    running: int = 0
    most_running: int = 0
    ended_by_caller: threading.Event = field(default_factory=threading.Event)
    go_on: threading.Event = field(default_factory=threading.Event)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        request = Request(scope, receive)
        await (await self._answer(request))(scope, receive, send)

    async def _answer(self, request: Request) -> ASGIApp:
        if self.key and request.headers.get("authorization") != f"Bearer {self.key}":
            return JSONResponse({"error": "no"}, 401)
        if request.url.path == "/v1/models":
            self.looked += 1
            return JSONResponse({"object": "list", "data": [{"id": each} for each in self.models]})
        body = await request.json()
        self.asked.append(body)
        if self.refusal is not None:
            return JSONResponse(self.refusal, 400)
        if self.trouble in _AT_ONCE:
            return _AT_ONCE[self.trouble]
        if body.get("stream"):
            return StreamingResponse(self._stream(), media_type="text/event-stream")
        return await self._whole(request)

    async def _whole(self, request: Request) -> Response:
        try:
            while self.trouble == "silent" or (self.hold and not self.go_on.is_set()):
                await asyncio.sleep(0.01)
                if await request.is_disconnected():
                    break
        finally:
            if await request.is_disconnected():
                self.ended_by_caller.set()
        message = {"role": "assistant", "content": "".join(self.words)}
        return JSONResponse(
            {
                "id": "a1",
                "object": "chat.completion",
                "created": 1,
                "model": "/models/file.gguf",
                "choices": [{"index": 0, "message": message, "text": message["content"], "finish_reason": "stop"}],
                "usage": _usage(len(self.words)),
            }
        )

    async def _stream(self) -> AsyncIterator[bytes]:
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        finished = False
        try:
            for number, word in enumerate(self.words):
                yield _event({"choices": [{"index": 0, "delta": {"content": word}, "text": word}]})
                await self._after(number)
                if number == 0 and self.trouble == "cut":
                    finished = True
                    return
                if number == 0 and self.trouble == "garbage in the stream":
                    yield b"data: {no json\n\n"
                if number == 0 and self.trouble == "error in the stream":
                    yield b'data: {"error": {"message": "secret words"}}\n\n'
            yield b": a comment\n\n"
            yield _event({"choices": [{"index": 0, "delta": {}, "text": "", "finish_reason": "stop"}]})
            yield _event({"choices": [], "usage": _usage(len(self.words))})
            yield b"data: [DONE]\n\n"
            finished = True
        finally:
            self.running -= 1
            if not finished:
                self.ended_by_caller.set()

    async def _after(self, number: int) -> None:
        silent = self.trouble == "silent"
        waited = 0.0
        while number == 0 and (silent or self.hold) and not self.go_on.is_set() and waited < _LONGEST_S:
            await asyncio.sleep(0.01)
            waited += 0.01


def _usage(words: int) -> dict[str, int]:
    return {"prompt_tokens": 7, "completion_tokens": words, "total_tokens": 7 + words}


def _event(said: dict[str, Any]) -> bytes:
    whole = {"id": "a1", "object": "chat.completion.chunk", "created": 1, "model": "/models/file.gguf", **said}
    return f"data: {json.dumps(whole)}\n\n".encode()
