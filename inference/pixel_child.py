"""The process that decodes what others sent: it holds no socket of the node, little memory and little time.

It speaks over its standard input, a socket pair: a request is four bytes of length and JSON, with the descriptors
of the instance and of the file that takes the answer; the reply is length and JSON. Run by `pixel_process` alone.
"""

from __future__ import annotations

import json
import os
import resource
import socket
import struct
import sys
import warnings
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import Any, BinaryIO

from inference.errors import CannotTranscode, InferenceError, NoSuchFrame, UnreadablePixels
from inference.photograph import plain_png
from inference.pixels import Window, render_frame, to_picture
from inference.transcode import pixel_digest, transcode, transcode_frame

#: Errors that cross over by name.
ERRORS = {error.__name__: error for error in (CannotTranscode, NoSuchFrame, UnreadablePixels)}
_LONGEST_MESSAGE = 1 << 16


def main() -> None:
    """Answer requests until the other end closes."""
    limits = json.loads(sys.argv[1])
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (limits["memory_bytes"],) * 2)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limits["output_bytes"],) * 2)
    resource.setrlimit(resource.RLIMIT_NOFILE, (32, 32))
    warnings.simplefilter("ignore")
    with socket.socket(fileno=os.dup(0)) as connection:
        while (received := _receive(connection)) is not None:
            request, descriptors = received
            _limit_cpu(limits["cpu_s"])
            reply = _answer(request, descriptors)
            said = json.dumps(reply).encode()
            connection.sendall(struct.pack("<I", len(said)) + said)


def _receive(connection: socket.socket) -> tuple[dict[str, Any], list[int]] | None:
    beginning, descriptors, _, _ = socket.recv_fds(connection, 4, 3)
    if not beginning:
        return None
    while len(beginning) < 4:
        beginning += connection.recv(4 - len(beginning))
    length = min(struct.unpack("<I", beginning)[0], _LONGEST_MESSAGE)
    text = b""
    while len(text) < length:
        text += connection.recv(length - len(text))
    return json.loads(text), descriptors


def _limit_cpu(seconds: float) -> None:
    used = resource.getrusage(resource.RUSAGE_SELF)
    hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
    resource.setrlimit(resource.RLIMIT_CPU, (int(used.ru_utime + used.ru_stime + seconds) + 1, hard))


def _answer(request: Mapping[str, Any], descriptors: list[int]) -> dict[str, Any]:
    try:
        with ExitStack() as stack:
            instance = stack.enter_context(open(descriptors[0], "rb"))
            output = stack.enter_context(open(descriptors[1], "r+b"))
            others = [stack.enter_context(open(each, "rb")) for each in descriptors[2:]]
            instance.seek(0)
            return {"said": _WORK[request["work"]](instance, output, request["how"], *others)}
    except InferenceError as error:
        name = type(error).__name__
        return {"error": name if name in ERRORS else UnreadablePixels.__name__, "why": str(error)}
    except MemoryError:
        return {"error": UnreadablePixels.__name__, "why": "Decoding needs more memory than it may have."}
    except Exception as error:  # noqa: BLE001 (decoders raise what they like; the message may quote the instance)
        return {
            "error": UnreadablePixels.__name__,
            "why": f"The pixel data cannot be decoded ({type(error).__name__}).",
        }


def _transcode(instance: BinaryIO, output: BinaryIO, how: Mapping[str, Any]) -> None:
    transcode(instance, how["target"], output)


def _frame(instance: BinaryIO, output: BinaryIO, how: Mapping[str, Any]) -> None:
    output.write(transcode_frame(instance, how["frame_index"], how["target"]))


def _digest(instance: BinaryIO, *_: object) -> str:
    return pixel_digest(instance)


# Readers of segmentations take as long to import as all else here: only a child that needs them has them.
def _drawn_on(instance: BinaryIO, *_: object) -> tuple[str, int]:
    from inference.seg_picture import drawn_on

    return drawn_on(instance)


def _overlay(instance: BinaryIO, output: BinaryIO, how: Mapping[str, Any], image: BinaryIO) -> None:
    from inference.seg_picture import overlay

    output.write(overlay(instance, image, how["frame_index"], how["form"], quality=how["quality"]))


def _picture(instance: BinaryIO, output: BinaryIO, how: Mapping[str, Any]) -> None:
    window = None if how["window"] is None else Window(*how["window"])
    array = render_frame(instance, how["frame_index"], window=window)
    longest = how["longest_side"]
    if longest:
        step = max(1, -(-max(array.shape[:2]) // longest))
        array = array[::step, ::step]
    output.write(to_picture(array, how["form"], quality=how["quality"]))


def _photograph(content: BinaryIO, output: BinaryIO, how: Mapping[str, Any]) -> None:
    output.write(plain_png(content, how["forms"], longest_side=how["longest_side"], most_pixels=how["most_pixels"]))


_WORK: dict[str, Callable[..., object]] = {
    "transcode": _transcode,
    "frame": _frame,
    "digest": _digest,
    "picture": _picture,
    "photograph": _photograph,
    "drawn_on": _drawn_on,
    "overlay": _overlay,
}


if __name__ == "__main__":
    main()
