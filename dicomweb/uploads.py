"""Bodies of requests read as streams: one part at a time, a piece at a time.

Source: RFC 2046 5.1 (multipart), RFC 2387 (multipart/related), PS3.18 8.6.1.2.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from io import SEEK_SET, RawIOBase
from typing import TypeVar

from anyio import CapacityLimiter, fail_after, from_thread, to_thread
from starlette.requests import ClientDisconnect, Request

from dicomweb.errors import BadRequest, TooLarge, Unfinished
from dicomweb.media_types import MediaRange, parse_accept

_PIECE = 1 << 20
#: Seconds in which something more must come of a request.
_IDLE_S = 60.0
_LONGEST_HEAD = 1 << 14
_MOST_PARTS = 100_000
#: Bytes of a part that stay at hand, so that what reads it may go back to its beginning.
_HELD = 1 << 18

Pull = Callable[[], bytes]
Answer = TypeVar("Answer")


async def worked_on(request: Request, work: Callable[[Pull], Answer], limiter: CapacityLimiter, most: int) -> Answer:
    """Have a thread work on the body as it comes in; what it pulls is empty at the end.

    Raises
    ------
    TooLarge
        The body has more than `most` bytes.
    Unfinished
        The caller went away, or sends nothing more.
    """
    announced = request.headers.get("content-length", "")
    if announced.isdigit() and int(announced) > most:
        raise TooLarge(f"A request may have {most} bytes.")
    async with aclosing(_pieces(request.stream(), most)) as pieces:

        async def piece() -> bytes:
            return await anext(pieces, b"")

        return await to_thread.run_sync(lambda: work(lambda: from_thread.run(piece)), limiter=limiter)


async def _pieces(chunks: AsyncIterator[bytes], most: int) -> AsyncGenerator[bytes, None]:
    """Gather what the network gives in small chunks."""
    total, gathered, size = 0, [], 0
    ended = False
    while not ended:
        try:
            with fail_after(_IDLE_S):
                chunk = await anext(chunks, None)
        except (TimeoutError, ClientDisconnect) as error:
            raise Unfinished from error
        ended = chunk is None
        if chunk:
            total += len(chunk)
            if total > most:
                raise TooLarge(f"A request may have {most} bytes.")
            gathered.append(chunk)
            size += len(chunk)
        if size >= _PIECE or (ended and size):
            yield b"".join(gathered)
            gathered, size = [], 0


@dataclass(frozen=True)
class BodyPart:
    """One part of a body."""

    kind: MediaRange
    """Its media type with the parameters."""
    headers: Mapping[str, str]
    """By lower-case name."""
    content: PartStream


class PartStream(RawIOBase):
    """The content of one part, read forward; its first bytes can be read again."""

    def __init__(self, pull: Pull, most: int) -> None:
        super().__init__()
        self._pull = pull
        self._most = most
        self._held = bytearray()
        """Everything read so far, while that is little; then only what was not given out yet."""
        self._start = 0
        """Position of the first held byte."""
        self._position = 0
        self._ended = False

    def readable(self) -> bool:
        """Tell that it can be read."""
        return True

    def tell(self) -> int:
        """Give the position in the part."""
        return self._position

    def seek(self, offset: int, whence: int = SEEK_SET) -> int:
        """Go back to a byte that is still at hand."""
        if whence != SEEK_SET or not self._start <= offset <= self._start + len(self._held):
            raise OSError("a stream cannot go there")
        self._position = offset
        return offset

    def read(self, count: int = -1) -> bytes:
        """Give up to so many bytes; empty at the end of the part.

        Raises
        ------
        TooLarge
            The part has more bytes than it may.
        """
        wanted = self._position + count if count >= 0 else self._most + 1
        while not self._ended and self._start + len(self._held) < wanted:
            piece = self._pull()
            self._ended = not piece
            self._held += piece
        begin = self._position - self._start
        given = bytes(self._held[begin:] if count < 0 else self._held[begin : begin + count])
        self._position += len(given)
        if self._position > self._most:
            raise TooLarge(f"One part may have {self._most} bytes.")
        if self._position > _HELD:
            del self._held[: self._position - self._start]
            self._start = self._position
        return given

    def drain(self) -> None:
        """Pass over the rest."""
        while not self._ended:
            self._ended = not self._pull()
        self._held.clear()


def parts_in(pull: Pull, boundary: str, most_per_part: int) -> Iterator[BodyPart]:
    """Give the parts of a multipart body; one must be done with before the next is asked for.

    Raises
    ------
    BadRequest
        The body is not put together as multipart.
    """
    reader = _Delimited(pull, boundary)
    count = 0
    while reader.to_next_part():
        count += 1
        if count > _MOST_PARTS:
            raise TooLarge(f"A request may have {_MOST_PARTS} parts.")
        headers = _headers(reader.head())
        kind = media_type(headers.get("content-type", "application/octet-stream"))
        content = PartStream(reader.content, most_per_part)
        yield BodyPart(kind, headers, content)
        content.drain()


def media_type(text: str) -> MediaRange:
    """Read a Content-Type; `BadRequest` where it is none."""
    ranges = parse_accept(text)
    if len(ranges) != 1:
        raise BadRequest("The Content-Type is none.")
    return ranges[0]


def single(pull: Pull, kind: MediaRange, most: int) -> BodyPart:
    """Give a body that is not made of parts as its only one."""
    return BodyPart(kind, {}, PartStream(pull, most))


class _Delimited:
    """Reads up to delimiters."""

    def __init__(self, pull: Pull, boundary: str) -> None:
        if not 0 < len(boundary) <= 70 or not boundary.isascii():
            raise BadRequest("A multipart body needs a boundary of 1 to 70 characters.")
        self._pull = pull
        self._delimiter = b"\r\n--" + boundary.encode("ascii")
        self._buffer = bytearray(b"\r\n")  # the first delimiter may stand at the very beginning
        self._at_delimiter = False

    def to_next_part(self) -> bool:
        """Go past the next delimiter; False where it was the closing one."""
        while not self._at_delimiter:
            if not self.content():
                break
        del self._buffer[: len(self._delimiter)]
        self._at_delimiter = False
        self._have(2)
        if self._buffer[:2] == b"--":
            return False
        end = self._find(b"\r\n", 256)  # white space may follow a delimiter (RFC 2046 5.1.1)
        del self._buffer[: end + 2]
        return True

    def head(self) -> bytes:
        """Give the header lines of a part, and go past them."""
        if self._have(2) and self._buffer[:2] == b"\r\n":
            del self._buffer[:2]
            return b""
        end = self._find(b"\r\n\r\n", _LONGEST_HEAD)
        head = bytes(self._buffer[:end])
        del self._buffer[: end + 4]
        # An empty part has its delimiter right here: the line break before it is the one just passed.
        if self._have(len(self._delimiter) - 2) and self._buffer.startswith(self._delimiter[2:]):
            self._buffer[:0] = b"\r\n"
        return head

    def content(self) -> bytes:
        """Give some of the content before the next delimiter; empty where that is reached."""
        while not self._at_delimiter:
            place = self._buffer.find(self._delimiter)
            if place >= 0:
                self._at_delimiter = True
                return self._cut(place)
            safe = len(self._buffer) - len(self._delimiter) + 1
            if safe > 0:
                return self._cut(safe)
            self._more()
        return b""

    def _cut(self, count: int) -> bytes:
        given = bytes(self._buffer[:count])
        del self._buffer[:count]
        return given if given else b""

    def _find(self, wanted: bytes, within: int) -> int:
        while (place := self._buffer.find(wanted)) < 0:
            if len(self._buffer) > within:
                break
            self._more()
        if not 0 <= place <= within:
            raise BadRequest("The head of a part is longer than it may be.")
        return place

    def _have(self, count: int) -> bool:
        while len(self._buffer) < count:
            self._more()
        return True

    def _more(self) -> None:
        piece = self._pull()
        if not piece:
            raise BadRequest("The multipart body ends before its closing delimiter.")
        self._buffer += piece


def _headers(head: bytes) -> dict[str, str]:
    headers: dict[str, str] = {}
    for line in head.decode("latin-1").split("\r\n"):
        name, colon, value = line.partition(":")
        if colon:
            headers[name.strip().lower()] = value.strip()
    return headers
