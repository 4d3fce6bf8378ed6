"""The OpenAI API: models, chat completions, completions.

Source: the OpenAI API reference.
"""

# No postponed annotations here: the framework reads `Annotated[…, Depends]` made inside functions.

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from functools import partial
from typing import Annotated, Any

import anyio
import orjson
from anyio import to_thread
from fastapi import APIRouter, Depends
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from configs.errors import NodeError
from dicomweb.accesses import Accesses
from dicomweb.caller import Caller, Requires
from dicomweb.chat.forms import Asked, ChatRequest, TextRequest, read_form
from dicomweb.chat.images import Images
from dicomweb.chat.presence import EventStream, while_there
from dicomweb.errors import CallerGone, TooLarge
from dicomweb.failures import openai_error
from dicomweb.ports import WebParts
from dicomweb.problems import status_for
from inference.errors import UnknownModel
from storage.audit import AuditAction, AuditOutcome

_MEGABYTE = 1_000_000
_DONE = b"data: [DONE]\n\n"
CHAT, TEXT = "/v1/chat/completions", "/v1/completions"
#: What the documentation page shows of a body that is read here, with a limit, not by the framework.
_BODY = {"requestBody": {"required": True, "content": {"application/json": {"schema": {"type": "object"}}}}}


def routes(parts: WebParts, requires: Requires, accesses: Accesses) -> APIRouter:
    """Give /v1."""
    router = APIRouter(prefix="/v1", tags=["chat"])
    completions = Completions(parts, accesses)
    may_chat = Depends(requires("chat"))

    @router.get("/models")
    async def models(caller: Annotated[Caller, may_chat]) -> dict[str, Any]:
        """List the language models that are there to answer; none: an empty list."""
        return {"object": "list", "data": [_model(name) for name in await parts.chat.models()]}

    @router.get("/models/{name:path}")
    async def model(name: str, caller: Annotated[Caller, may_chat]) -> dict[str, Any]:
        """Give one language model."""
        if name not in await parts.chat.models():
            raise UnknownModel("There is no such model here.")
        return _model(name)

    @router.post("/chat/completions", openapi_extra=_BODY)
    async def chat(request: Request, caller: Annotated[Caller, may_chat]) -> Response:
        """Go on with a conversation."""
        return await completions.answer(request, caller, CHAT, ChatRequest)

    @router.post("/completions", openapi_extra=_BODY)
    async def text(request: Request, caller: Annotated[Caller, may_chat]) -> Response:
        """Go on with a text."""
        return await completions.answer(request, caller, TEXT, TextRequest)

    return router


def _model(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": 0, "owned_by": "site"}


class Completions:
    """Asks models for callers."""

    def __init__(self, parts: WebParts, accesses: Accesses) -> None:
        self._chat = parts.chat
        self._audit = parts.audit
        self._now = parts.now
        self._images = Images(parts, accesses)
        self._most_bytes = int(parts.settings.chat.request_mb * _MEGABYTE)

    async def answer(self, request: Request, caller: Caller, path: str, kind: type[Asked]) -> Response:
        """Answer one request, whole or as a stream."""
        form = read_form(kind, await self._content(request))
        body = form.body()
        more = await self._with_images(body, caller)
        if not form.stream:
            return JSONResponse(await self.whole(request, caller, path, body) | more)
        chunks = self._noted(caller, path, self._chat.stream(path, body))
        try:
            # What fails before the first word has a status of its own.
            first = await while_there(request.receive, partial(anext, chunks, None))
        except NodeError:
            await chunks.aclose()
            raise
        first = None if first is None else first | more
        return EventStream(_events(first, chunks, with_usage=form.wants_usage))

    async def _with_images(self, body: dict[str, Any], caller: Caller) -> dict[str, Any]:
        """Bring the images into a request; give what the answer says of them."""
        if not any(isinstance(each.get("content"), list) for each in body.get("messages", ())):
            return {}
        await self._chat.available(body.get("model"))  # nothing is decoded for no model
        shown = await to_thread.run_sync(self._images.bring, body["messages"], caller)
        return {"images": [each.as_json() for each in shown]} if shown else {}

    async def whole(self, request: Request, caller: Caller, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Give a whole answer, for as long as the caller is there."""
        try:
            answer = await while_there(request.receive, partial(self._chat.answer, path, body))
        except NodeError as error:
            await self._note(caller, path, _outcome(error), error.code)
            raise
        await self._note(caller, path, AuditOutcome.DONE, _took(answer))
        return answer

    async def _content(self, request: Request) -> bytes:
        content = bytearray()
        async for chunk in request.stream():
            content += chunk
            if len(content) > self._most_bytes:
                raise TooLarge(f"A request may have {self._most_bytes // _MEGABYTE} MB (chat.request_mb).")
        return bytes(content)

    async def _noted(
        self, caller: Caller, path: str, chunks: AsyncGenerator[dict[str, Any]]
    ) -> AsyncGenerator[dict[str, Any]]:
        """Pass chunks on, and tell the audit trail how it ended, whoever ended it."""
        outcome, last = AuditOutcome.FAILED, "caller_gone"
        try:
            async with aclosing(chunks):
                async for chunk in chunks:
                    if chunk.get("usage"):
                        last = _took(chunk)
                    yield chunk
            outcome, last = AuditOutcome.DONE, last if last != "caller_gone" else "done"
        except NodeError as error:
            outcome, last = _outcome(error), error.code
            raise
        finally:
            with anyio.CancelScope(shield=True):
                await self._note(caller, path, outcome, last)

    async def _note(self, caller: Caller, path: str, outcome: AuditOutcome, detail: str) -> None:
        said = f"{path}: {detail}"
        await to_thread.run_sync(
            partial(self._audit.record, AuditAction.CHAT, caller.name, None, outcome, said, self._now())
        )


def _outcome(error: NodeError) -> AuditOutcome:
    gone = isinstance(error, CallerGone)
    return AuditOutcome.REFUSED if not gone and status_for(error) < 500 else AuditOutcome.FAILED


def _took(answer: Mapping[str, Any]) -> str:
    """Say what an answer took, without a word of it."""
    usage = answer.get("usage")
    usage = usage if isinstance(usage, dict) else {}
    tokens = [usage.get(name) for name in ("prompt_tokens", "completion_tokens")]
    given = [str(each) if isinstance(each, int) else "?" for each in tokens]
    return f"{str(answer.get('model', ''))[:128]}, {given[0]} tokens in, {given[1]} out"


async def _events(
    first: dict[str, Any] | None, chunks: AsyncGenerator[dict[str, Any]], *, with_usage: bool
) -> AsyncGenerator[bytes]:
    """Give chunks as server-sent events; a failure is the last of them, and then nothing is `[DONE]`."""
    async with aclosing(chunks):
        try:
            if first is not None and (with_usage or first["choices"]):
                yield _event(first)
            async for chunk in chunks:
                if with_usage or chunk["choices"]:  # the one that tells the usage has no choice
                    yield _event(chunk)
            yield _DONE
        except NodeError as error:
            yield _event({"error": openai_error(status_for(error), error.code, str(error))})


def _event(said: Mapping[str, Any]) -> bytes:
    return b"data: " + orjson.dumps(said) + b"\n\n"
