"""Answers in several parts, written as a stream. Source: PS3.18 8.6.1.2, RFC 2046 5.1, RFC 2387."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import chain
from typing import BinaryIO

from anyio import sleep, to_thread
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from dicomweb.edge import HEAD
from storage.blobs import Piece

_CHUNK = 1 << 20
#: An answer of this many bytes is made as a whole.
_AT_ONCE = 2 << 20


@dataclass(frozen=True)
class Part:
    """One part: its type and where its bytes come from."""

    content_type: str
    open: Callable[[], BinaryIO]
    size: int | None = None
    """Bytes, where they are known beforehand."""
    location: str = ""
    at_hand: Callable[..., Piece | None] | None = None
    """Gives a piece of so many bytes from an offset, `before` and `after` around it, or None where that would wait;
    for parts whose size is known."""


def multipart_answer(
    request: Request, parts: Sequence[Part], *, kind: str, headers: Mapping[str, str], status: int = 200
) -> Response:
    """Answer with parts of media type `kind`; little more than one chunk is in memory at a time."""
    boundary = uuid.uuid4().hex
    heads = [_head(part, boundary) for part in parts]
    end = _end(boundary)
    said = {**headers, "Content-Type": _in_parts(kind, boundary)}
    sizes = [part.size for part in parts]
    if None not in sizes:
        total = sum(len(head) + 2 for head in heads) + sum(size or 0 for size in sizes) + len(end)
        said["Content-Length"] = str(total)
        if total <= _AT_ONCE and not request.scope.get(HEAD):
            # A stream changes threads for each piece, which takes longer than what is little.
            return Response(b"".join(_body(parts, heads, end)), status_code=status, headers=said)
    if request.scope.get(HEAD) or not any(part.at_hand for part in parts):
        return streamed(request, _body(parts, heads, end), headers=said, status=status)
    return StreamingResponse(_as_it_comes(parts, heads, end), status_code=status, headers=said)


def answer_of_one(
    part: Part, fetch: Callable[..., Piece | None], *, kind: str, headers: Mapping[str, str]
) -> Response | None:
    """Answer with one part whose bytes `fetch` puts between what comes `before` and `after` them; None: it does not."""
    boundary = uuid.uuid4().hex
    content = fetch(before=_head(part, boundary), after=b"\r\n" + _end(boundary))
    if content is None:
        return None
    return Response(memoryview(content), headers={**headers, "Content-Type": _in_parts(kind, boundary)})


def streamed(request: Request, chunks: Iterator[bytes], *, headers: Mapping[str, str], status: int = 200) -> Response:
    """Answer with chunks that are made in threads; none are made for HEAD."""
    if request.scope.get(HEAD):
        return Response(status_code=status, headers=dict(headers))
    return StreamingResponse(_in_threads(chunks), status_code=status, headers=dict(headers))


def read_file(file: BinaryIO, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
    """Read a file, or a piece of it, and close it."""
    with closing(file):
        if start:
            file.seek(start)
        left = None if stop is None else stop - start
        while chunk := file.read(_CHUNK if left is None else min(_CHUNK, left)):
            if left is not None:
                left -= len(chunk)
            yield chunk


def _in_parts(kind: str, boundary: str) -> str:
    return f'multipart/related; type="{kind}"; boundary={boundary}'


def _end(boundary: str) -> bytes:
    return f"--{boundary}--\r\n".encode("ascii")


def _head(part: Part, boundary: str) -> bytes:
    location = f"Content-Location: {part.location}\r\n" if part.location else ""
    length = f"Content-Length: {part.size}\r\n" if part.size is not None else ""
    return f"--{boundary}\r\nContent-Type: {part.content_type}\r\n{length}{location}\r\n".encode("ascii")


def _body(parts: Iterable[Part], heads: Iterable[bytes], end: bytes) -> Iterator[bytes]:
    """Small parts are gathered to a chunk; the first one goes out at once."""
    gathered: list[bytes] = []
    size, enough = 0, 1
    for part, head in zip(parts, heads, strict=True):
        for piece in chain((head,), read_file(part.open()), (b"\r\n",)):
            gathered.append(piece)
            size += len(piece)
            if size >= enough and piece is not head:
                yield b"".join(gathered)
                gathered, size, enough = [], 0, _CHUNK
    yield b"".join([*gathered, end])


async def _as_it_comes(
    parts: Iterable[Part], heads: Iterable[bytes], end: bytes
) -> AsyncIterator[bytes | memoryview[int]]:
    """What is in memory is read by the event loop, which takes less than changing threads for it."""
    for part, head in zip(parts, heads, strict=True):
        done, size = 0, part.size or 0
        while part.at_hand is not None and done < size:
            count = min(_CHUNK, size - done)
            before, after = b"" if done else head, b"\r\n" if done + count == size else b""
            piece = part.at_hand(done, count, before=before, after=after)
            if piece is None:
                break
            done += count
            yield memoryview(piece)
            await sleep(0)  # others have their turn, however fast the caller takes it
        if done < size or not size:
            rest = chain((b"" if done else head,), _file_from(part, done), (b"\r\n",))
            async for chunk in _in_threads(rest):
                yield chunk
    yield end


def _file_from(part: Part, start: int) -> Iterator[bytes]:
    yield from read_file(part.open(), start)


async def _in_threads(chunks: Iterator[bytes]) -> AsyncIterator[bytes]:
    while (chunk := await to_thread.run_sync(next, chunks, None)) is not None:
        yield chunk
