"""One server that speaks the OpenAI API: whether it is well, and what it answers.

Asynchronous, for no thread is held while a model writes. Nothing of what a server says is taken on trust: sizes are
bounded, events are JSON objects, and a stream that ends before its answer does is a failure.

Source: the OpenAI API reference (chat completions, streaming); the WHATWG's server-sent events.
"""

from __future__ import annotations

import json
import weakref
from asyncio import AbstractEventLoop, get_running_loop
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

import httpx

from inference.errors import ModelBusy, ModelFailed, ModelNotAvailable, ModelRefused, ModelTimedOut

#: Bytes of one event, and of one whole answer.
_LONGEST_EVENT, _LONGEST_ANSWER = 4 << 20, 32 << 20
_HEALTH_S = 5.0
_DONE = b"[DONE]"
#: What a server says of the request; anything else it says is its own trouble.
_OF_THE_REQUEST = frozenset({400, 404, 405, 413, 415, 422})

Answer = dict[str, Any]


@dataclass(frozen=True)
class Where:
    """Where a server is, and what it is shown."""

    url: str
    """Base URL, without `/v1`."""
    key: str = ""
    socket: str = ""
    """Path of a Unix socket that it listens on, in place of the URL's host."""
    name: str = ""
    """What it is called in messages; empty: by its URL."""

    def __repr__(self) -> str:
        return f"Where({self.url!r})"


class ModelServer:
    """A client of one server."""

    def __init__(self, where: Where, *, timeout_s: float) -> None:
        self.where = where
        self._timeout_s = timeout_s
        # A connection belongs to the event loop that it was made in.
        self._clients: weakref.WeakKeyDictionary[AbstractEventLoop, httpx.AsyncClient] = weakref.WeakKeyDictionary()

    def __str__(self) -> str:
        return self.where.name or self.where.url

    async def models(self) -> tuple[str, ...]:
        """Name the models that it serves.

        Raises
        ------
        ModelNotAvailable
            It does not answer, or not so.
        """
        try:
            answer = await self._client().get("/v1/models", timeout=_HEALTH_S)
            listed = answer.json()["data"] if answer.status_code == 200 else None
            if isinstance(listed, list):
                return tuple(str(each["id"])[:256] for each in listed[:1000])
        except httpx.HTTPError as error:
            raise ModelNotAvailable(f"{self} does not answer ({type(error).__name__}).") from error
        except (ValueError, KeyError, TypeError) as error:
            raise ModelNotAvailable(f"{self} lists its models in a form that is none.") from error
        if answer.status_code == 503:
            raise ModelNotAvailable(f"{self} is not ready yet.")
        raise ModelNotAvailable(f"{self} answered {answer.status_code} where it was asked for its models.")

    async def answer(self, path: str, body: Mapping[str, Any]) -> Answer:
        """Ask, and give the whole answer.

        Raises
        ------
        ModelNotAvailable
            It cannot be reached; nothing was begun.
        ModelBusy, ModelFailed, ModelTimedOut, ModelRefused
        """
        async with aclosing(self._chunks(path, body)) as chunks:
            content = bytearray()
            async for chunk in chunks:
                content += chunk
                if len(content) > _LONGEST_ANSWER:
                    raise ModelFailed("The model's server answers without an end.")
        answer = _object(bytes(content))
        if not isinstance(answer.get("choices"), list):
            raise ModelFailed("The model's server answered what is no completion.")
        return answer

    async def stream(self, path: str, body: Mapping[str, Any]) -> AsyncGenerator[Answer]:
        """Ask, and give the answer as it comes, chunk by chunk.

        Raises
        ------
        ModelNotAvailable
            It cannot be reached; nothing was begun.
        ModelBusy, ModelFailed, ModelTimedOut, ModelRefused
        """
        finished = False
        async with (
            aclosing(self._chunks(path, {**body, "stream": True})) as chunks,
            aclosing(_events(chunks)) as events,
        ):
            async for data in events:
                if data == _DONE:
                    return
                chunk = _object(data)
                if "error" in chunk:
                    raise ModelFailed("The model's server broke its answer off with an error.")
                if not isinstance(chunk.get("choices"), list):
                    raise ModelFailed("The model's server sent what is no part of a completion.")
                finished = finished or any(_ends(choice) for choice in chunk["choices"])
                yield chunk
        if not finished:
            raise ModelFailed("The model's server broke its answer off.")

    async def close(self) -> None:
        """Let go of the connections of this event loop."""
        client = self._clients.pop(get_running_loop(), None)
        if client is not None:
            await client.aclose()

    async def _chunks(self, path: str, body: Mapping[str, Any]) -> AsyncGenerator[bytes]:
        try:
            async with self._client().stream("POST", path, json=dict(body)) as answer:
                if answer.status_code != 200:
                    raise await _refusal(answer)
                async for chunk in answer.aiter_bytes():
                    yield chunk
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as error:
            raise ModelNotAvailable(f"{self} does not answer ({type(error).__name__}).") from error
        except httpx.TimeoutException as error:
            raise ModelTimedOut(f"The model's server said nothing for {self._timeout_s:g} s.") from error
        except httpx.HTTPError as error:
            raise ModelFailed("The connection to the model's server broke.") from error

    def _client(self) -> httpx.AsyncClient:
        loop = get_running_loop()
        if loop not in self._clients:
            # As many connections as there are answers at one time; how many that may be is decided elsewhere.
            limits = httpx.Limits(max_connections=None, max_keepalive_connections=32, keepalive_expiry=30.0)
            transport = httpx.AsyncHTTPTransport(
                uds=self.where.socket or None, limits=limits, trust_env=False, retries=0
            )
            self._clients[loop] = httpx.AsyncClient(
                base_url=self.where.url,
                transport=transport,
                headers={"Authorization": f"Bearer {self.where.key}"} if self.where.key else {},
                timeout=httpx.Timeout(self._timeout_s, connect=10.0),
                follow_redirects=False,
                trust_env=False,
            )
        return self._clients[loop]


async def _events(chunks: AsyncIterator[bytes]) -> AsyncGenerator[bytes]:
    """Give the data of each server-sent event; comments and other fields are passed over."""
    waiting = b""
    data: list[bytes] = []
    async for chunk in chunks:
        *lines, waiting = (waiting + chunk).split(b"\n")
        for raw in lines:
            line = raw.rstrip(b"\r")
            if line.startswith(b"data:"):
                data.append(line[5:].strip())
            elif not line and data:
                yield b"\n".join(data)
                data = []
        if len(waiting) + sum(map(len, data)) > _LONGEST_EVENT:
            raise ModelFailed("The model's server sent an event without an end.")
    if data:  # the last one may lack its empty line
        yield b"\n".join(data)


def _object(content: bytes) -> Answer:
    try:
        said = json.loads(content)
    except ValueError as error:
        raise ModelFailed("The model's server answered what is no JSON.") from error
    if not isinstance(said, dict):
        raise ModelFailed("The model's server answered what is no JSON object.")
    return said


def _ends(choice: Any) -> bool:
    return isinstance(choice, dict) and choice.get("finish_reason") is not None


async def _refusal(answer: httpx.Response) -> ModelBusy | ModelFailed | ModelRefused | ModelNotAvailable:
    """Say what a server's refusal means; its words are passed on where they are about the request."""
    content = b""
    async for chunk in answer.aiter_bytes():
        content += chunk
        if len(content) > 1 << 16:
            break
    if answer.status_code in (429, 503):
        return ModelBusy("The model has as much to do as it may; come again later.")
    if answer.status_code in _OF_THE_REQUEST:
        return ModelRefused(_words_of(content), http_status=400)
    if answer.status_code in (401, 403):
        return ModelNotAvailable("The model's server does not take the key of chat.upstreams.")
    return ModelFailed(f"The model's server answered {answer.status_code}.")


def _words_of(content: bytes) -> str:
    """Find what a server says is wrong with a request."""
    try:
        said = json.loads(content)
        said = said.get("error", said.get("detail", said)) if isinstance(said, dict) else said
        said = said.get("message", "") if isinstance(said, dict) else said
    except ValueError:
        said = ""
    words = " ".join(str(said).split())[:500] if isinstance(said, str) else ""
    return f"The model refuses the request: {words}" if words else "The model refuses the request."
