"""Pixels of untrusted instances decoded, transcoded and rendered in child processes with limits.

A decoder that crashes, hangs or asks for too much memory ends its child and nothing else: the caller gets a typed
error and the next request a new child. This module itself imports no decoder.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import threading
from collections.abc import Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from queue import Empty, LifoQueue
from types import TracebackType
from typing import Any, BinaryIO, Literal, Self, cast

from inference.errors import CannotTranscode, InferenceError, NoSuchFrame, PixelWorkStopped, UnreadablePixels
from inference.syntaxes import choose_syntax

_CHUNK = 1 << 20
_ERRORS: dict[str, type[InferenceError]] = {
    error.__name__: error for error in (CannotTranscode, NoSuchFrame, UnreadablePixels)
}
#: What a child gets of the environment: nothing of the node's settings or secrets.
_ENVIRONMENT = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "LC_ALL": "C.UTF-8"}


@dataclass(frozen=True)
class PixelLimits:
    """What one piece of work may take."""

    memory_bytes: int = 2 << 30
    cpu_s: float = 60.0
    wall_s: float = 90.0
    output_bytes: int = 8 << 30
    works: int = 500
    """Pieces of work after which a child is replaced: decoders leak."""


@dataclass(frozen=True)
class Transcoded:
    """An instance in the transfer syntax that was chosen."""

    file: BinaryIO
    """A Part 10 file at its start; the caller closes it."""
    transfer_syntax_uid: str
    size: int


class PixelProcess:
    """A few children that work on pixels, started when first needed and kept warm.

    Threads may share it; `close` ends the children.
    """

    def __init__(self, *, children: int = 2, limits: PixelLimits | None = None, scratch: Path | None = None) -> None:
        """Prepare; `scratch`: directory of nameless files that take the answers."""
        self._limits = limits or PixelLimits()
        self._scratch = scratch
        self._places: LifoQueue[_Child | None] = LifoQueue()
        for _ in range(children):
            self._places.put(None)
        self._all: set[_Child] = set()
        self._lock = threading.Lock()
        self._closed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def transcode(self, part10: BinaryIO, stored: str, accepted: Collection[str]) -> Transcoded:
        """Give an instance in the best transfer syntax that somebody accepts, as stored where that is one.

        Parameters
        ----------
        part10
            The instance from its start.
        stored
            Its transfer syntax.

        Raises
        ------
        CannotTranscode
            None of the accepted ones without loss.
        UnreadablePixels, PixelWorkStopped
            The instance cannot be decoded.
        """
        refusal: InferenceError = CannotTranscode("None of the accepted transfer syntaxes can be had without loss.")
        remaining = set(accepted)
        while (target := choose_syntax(stored, remaining)) is not None:
            remaining.discard(target)
            try:
                file = part10 if target == stored else self._work("transcode", part10, {"target": target})[0]
            except CannotTranscode as error:
                refusal = error
                continue
            size = file.seek(0, os.SEEK_END)
            file.seek(0)
            return Transcoded(file, target, size)
        raise refusal

    def frame(self, part10: BinaryIO, frame_index: int, target: str) -> bytes:
        """Give one frame in a transfer syntax; an uncompressed one as Explicit VR Little Endian stores it.

        Raises
        ------
        NoSuchFrame, CannotTranscode, UnreadablePixels, PixelWorkStopped
        """
        return self._bytes("frame", part10, {"frame_index": frame_index, "target": target})

    def picture(
        self,
        part10: BinaryIO,
        frame_index: int,
        *,
        form: Literal["PNG", "JPEG"],
        window: tuple[float, float] | None = None,
        longest_side: int | None = None,
        quality: int = 90,
    ) -> bytes:
        """Give one frame as a picture.

        Parameters
        ----------
        window
            Center and width.
        longest_side
            Pixels that the picture's longer side has at most.

        Raises
        ------
        NoSuchFrame, UnreadablePixels, PixelWorkStopped
        """
        how = {
            "frame_index": frame_index,
            "form": form,
            "window": window,
            "longest_side": longest_side,
            "quality": quality,
        }
        return self._bytes("picture", part10, how)

    def photograph(self, content: BinaryIO, forms: Collection[str], *, longest_side: int, most_pixels: int) -> bytes:
        """Give a picture of somebody's, in one of some forms (as Pillow names them), as a plain PNG.

        What it bears beside its pixels is gone. `longest_side`: pixels that it is shrunk to; `most_pixels`: that it
        may have.

        Raises
        ------
        UnreadablePixels, PixelWorkStopped
        """
        how = {"forms": sorted(forms), "longest_side": longest_side, "most_pixels": most_pixels}
        return self._bytes("photograph", content, how)

    def drawn_on(self, seg: BinaryIO) -> tuple[str, int]:
        """Give the image and frame (from 1) on which a segmentation has most.

        Raises
        ------
        UnreadablePixels, PixelWorkStopped
        """
        file, said = self._work("drawn_on", seg, {})
        file.close()
        uid, number = cast(list[Any], said)
        return str(uid), int(number)

    def overlay(
        self, seg: BinaryIO, image: BinaryIO, frame_index: int, *, form: Literal["PNG", "JPEG"], quality: int = 90
    ) -> bytes:
        """Draw a segmentation of any maker on a frame of an image.

        Raises
        ------
        NoSuchFrame, UnreadablePixels, PixelWorkStopped
        """
        how = {"frame_index": frame_index, "form": form, "quality": quality}
        with self._work("overlay", seg, how, beside=image)[0] as file:
            return file.read()

    def digest(self, part10: BinaryIO) -> str:
        """Digest the decoded frames: equal where the pixels are the same, whatever the transfer syntax.

        Raises
        ------
        NoSuchFrame, UnreadablePixels, PixelWorkStopped
        """
        file, said = self._work("digest", part10, {})
        file.close()
        return str(said)

    def warm(self) -> None:
        """Start a first child now, so that nobody waits while it imports its decoders."""
        with self._child():
            pass

    def close(self) -> None:
        """End the children."""
        with self._lock:
            self._closed = True
            children = list(self._all)
        for child in children:
            child.end()

    def _bytes(self, work: str, part10: BinaryIO, how: dict[str, Any]) -> bytes:
        with self._work(work, part10, how)[0] as file:
            return file.read()

    def _work(
        self, work: str, part10: BinaryIO, how: dict[str, Any], *, beside: BinaryIO | None = None
    ) -> tuple[BinaryIO, object]:
        """Have a child do one piece of work; give the file with its answer, at the start, and what it said.

        `beside`: a second instance that the work needs.
        """
        with ExitStack() as stack:
            descriptor = stack.enter_context(self._descriptor(part10))
            others = () if beside is None else (stack.enter_context(self._descriptor(beside)),)
            child = stack.enter_context(self._child())
            output = cast(BinaryIO, tempfile.TemporaryFile(dir=self._scratch))  # noqa: SIM115 (the caller closes it)
            try:
                said = child.do({"work": work, "how": how}, (descriptor, output.fileno(), *others))
            except BaseException:
                output.close()
                raise
            output.seek(0)
            return output, said

    @contextmanager
    def _descriptor(self, part10: BinaryIO) -> Iterator[int]:
        """Give a descriptor of an instance; one that is no file is written to a nameless one first."""
        try:
            yield part10.fileno()
        except OSError:
            with tempfile.TemporaryFile(dir=self._scratch) as copy:
                part10.seek(0)
                shutil.copyfileobj(part10, copy, _CHUNK)
                copy.flush()
                yield copy.fileno()

    @contextmanager
    def _child(self) -> Iterator[_Child]:
        try:
            child = self._places.get(timeout=self._limits.wall_s)
        except Empty as error:
            raise PixelWorkStopped("Too much pixel work is waiting; try again later.") from error
        try:
            child = child or self._start()
            yield child
        finally:
            if child is not None and (child.ended or child.works >= self._limits.works):
                self._forget(child)
                child = None
            self._places.put(child)

    def _start(self) -> _Child:
        child = _Child(self._limits)
        with self._lock:
            self._all.add(child)
            closed = self._closed
        if closed:
            self._forget(child)
            raise PixelWorkStopped("The node is stopping.")
        return child

    def _forget(self, child: _Child) -> None:
        child.end()
        with self._lock:
            self._all.discard(child)


class _Child:
    """One child process."""

    def __init__(self, limits: PixelLimits) -> None:
        self._wall_s = limits.wall_s
        self._connection, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-m", "inference.pixel_child", json.dumps(asdict(limits))],
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,  # decoders write there, and may quote the instance
                env=_ENVIRONMENT,
                cwd="/",
                start_new_session=True,
            )
        self._connection.settimeout(limits.wall_s)
        self.works = 0
        self.ended = False

    def do(self, request: dict[str, Any], descriptors: Sequence[int]) -> object:
        """Do one piece of work.

        Raises
        ------
        NoSuchFrame, CannotTranscode, UnreadablePixels, PixelWorkStopped
        """
        self.works += 1
        said = json.dumps(request).encode()
        try:
            socket.send_fds(self._connection, [struct.pack("<I", len(said)) + said], descriptors)
            length = struct.unpack("<I", self._receive(4))[0]
            reply = json.loads(self._receive(length))
        except TimeoutError as error:
            self.end()
            raise PixelWorkStopped("Decoding takes longer than it may.") from error
        except (OSError, EOFError, ValueError) as error:
            self.end()
            raise PixelWorkStopped("Decoding broke its process, or took more than it may.") from error
        if "error" in reply:
            raise _ERRORS[reply["error"]](reply["why"])
        return reply["said"]

    def end(self) -> None:
        """Kill it and wait for its end."""
        self.ended = True
        self._connection.close()
        self._process.kill()
        self._process.wait()

    def _receive(self, count: int) -> bytes:
        received = b""
        while len(received) < count:
            part = self._connection.recv(min(count - len(received), _CHUNK))
            if not part:
                raise EOFError
            received += part
        return received
