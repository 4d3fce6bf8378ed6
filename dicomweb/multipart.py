"""Answers in several parts, written as a stream. Source: PS3.18 8.6.1.2, RFC 2046 5.1, RFC 2387."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import closing
from dataclasses import dataclass
from typing import BinaryIO

from anyio import to_thread
from starlette.responses import StreamingResponse

_CHUNK = 1 << 20


@dataclass(frozen=True)
class Part:
    """One part: its type and where its bytes come from."""

    content_type: str
    open: Callable[[], BinaryIO]
    location: str = ""


def multipart_answer(parts: Iterable[Part], *, kind: str, boundary: str) -> StreamingResponse:
    """Answer with parts of media type `kind`; one chunk is in memory at a time."""
    media_type = f'multipart/related; type="{kind}"; boundary={boundary}'
    return StreamingResponse(_body(parts, boundary), media_type=media_type)


async def stream(file: BinaryIO) -> AsyncIterator[bytes]:
    """Read a file in threads, and close it."""
    with closing(file):
        while chunk := await to_thread.run_sync(file.read, _CHUNK):
            yield chunk


async def _body(parts: Iterable[Part], boundary: str) -> AsyncIterator[bytes]:
    for part in parts:
        location = f"Content-Location: {part.location}\r\n" if part.location else ""
        yield f"--{boundary}\r\nContent-Type: {part.content_type}\r\n{location}\r\n".encode("ascii")
        async for chunk in stream(await to_thread.run_sync(part.open)):
            yield chunk
        yield b"\r\n"
    yield f"--{boundary}--\r\n".encode("ascii")
