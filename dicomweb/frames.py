"""Single frames: as stored, decoded, or in another transfer syntax.

Source: PS3.18 10.4.1.1.3 (frame resources), Tables 8.7.3-2, 8.7.3-4, 8.7.3-5 (media types of compressed frames).
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from typing import BinaryIO

from starlette.requests import Request
from starlette.responses import Response

from dicomweb.conditional import Validators
from dicomweb.errors import BadRequest, NotAcceptable
from dicomweb.media_types import MULTIPART, OCTETS, MediaRange, accepted_by, accepts_in_order, matches
from dicomweb.metadata import ranged
from dicomweb.multipart import Part, multipart_answer
from dicomweb.ports import PixelWork
from inference.errors import NoSuchFrame, UnreadablePixels
from inference.frames import describe, stored_frame_of
from inference.part10 import read_source
from inference.scan import scan
from inference.syntaxes import (
    EXPLICIT_LITTLE,
    HTJ2K,
    HTJ2K_LOSSLESS,
    HTJ2K_LOSSLESS_RPCL,
    IMPLICIT_LITTLE,
    JPEG_2000,
    JPEG_2000_LOSSLESS,
    JPEG_BASELINE,
    JPEG_EXTENDED,
    JPEG_LOSSLESS,
    JPEG_LOSSLESS_SV1,
    JPEG_LS,
    JPEG_LS_NEAR,
    NATIVE,
    RLE,
    targets_of,
)
from storage.blobs import BlobStore
from storage.records import InstanceRecord

#: Media type of a compressed frame, the default transfer syntax of each type first. Source: PS3.18 8.7.3-5.
FRAME_TYPES = {
    JPEG_LOSSLESS_SV1: "image/jpeg",
    JPEG_BASELINE: "image/jpeg",
    JPEG_EXTENDED: "image/jpeg",
    JPEG_LOSSLESS: "image/jpeg",
    JPEG_LS: "image/jls",
    JPEG_LS_NEAR: "image/jls",
    JPEG_2000_LOSSLESS: "image/jp2",
    JPEG_2000: "image/jp2",
    HTJ2K_LOSSLESS: "image/jphc",
    HTJ2K_LOSSLESS_RPCL: "image/jphc",
    HTJ2K: "image/jphc",
    RLE: "image/dicom-rle",
}
#: Places of frames that are remembered: a viewer asks for hundreds of frames of the same instances.
_REMEMBERED = 4096
_MOST_FRAMES = 10_000
_IN_FRAGMENTS = 0xFFFFFFFF


@dataclass(frozen=True)
class _Native:
    """Where uncompressed frames stand in a file."""

    offset: int
    frame_bytes: int
    number_of_frames: int


class Frames:
    """Answers retrievals of frames."""

    def __init__(self, blobs: BlobStore, pixels: PixelWork) -> None:
        self._blobs = blobs
        self._pixels = pixels
        self._places: OrderedDict[str, _Native] = OrderedDict()
        self._lock = threading.Lock()

    def answer(self, request: Request, record: InstanceRecord, numbers: Sequence[int]) -> Response:
        """Give frames in the best of the accepted forms."""
        media, syntax = _choose(accepts_in_order(accepted_by(request)), record.transfer_syntax_uid, len(numbers))
        if max(numbers) > max(1, record.number_of_frames):
            raise NoSuchFrame(f"The instance has {record.number_of_frames} frames.")
        kind = FRAME_TYPES.get(syntax, OCTETS)
        validators = Validators([record], f"{media.takes_multipart} {syntax} {list(numbers)}")
        if (known := validators.not_modified(request)) is not None:
            return known
        labelled = f"{kind}; transfer-syntax={syntax}"
        # The first one is made before anything is said, so that most failures still have a status of their own.
        first = self.frame(record, numbers[0], syntax)
        if not media.takes_multipart:
            return ranged(request, validators, len(first), partial(BytesIO, first), labelled)
        location = request.url.path.rpartition("/")[0]
        parts = [Part(labelled, partial(BytesIO, first), len(first), f"{location}/{numbers[0]}")]
        parts += [
            Part(labelled, partial(self._open, record, each, syntax), location=f"{location}/{each}")
            for each in numbers[1:]
        ]
        return multipart_answer(request, parts, kind=kind, headers=validators.headers)

    def _open(self, record: InstanceRecord, number: int, syntax: str) -> BinaryIO:
        return BytesIO(self.frame(record, number, syntax))

    @staticmethod
    def kind_of(syntax: str) -> str | None:
        """Give the media type of compressed frames of a transfer syntax; None: it is no compression of frames."""
        return FRAME_TYPES.get(syntax)

    def frame(self, record: InstanceRecord, number: int, syntax: str) -> bytes:
        """Give one frame, numbered from 1, in a transfer syntax."""
        stored = record.transfer_syntax_uid
        with self._blobs.open(record.path) as file:
            if stored in (EXPLICIT_LITTLE, IMPLICIT_LITTLE) and syntax == EXPLICIT_LITTLE:
                place = self._place(record, file)
                if place is not None:
                    return _cut(file, place, number)
            elif stored == syntax:
                return stored_frame_of(read_source(file), number - 1)
            file.seek(0)
            return self._pixels.frame(file, number - 1, syntax)

    def _place(self, record: InstanceRecord, file: BinaryIO) -> _Native | None:
        """Find where the frames stand; None where they do not begin at whole bytes."""
        with self._lock:
            if (known := self._places.get(record.path)) is not None:
                return known
        place = _native(file)
        if place is None:
            return None
        with self._lock:
            self._places[record.path] = place
            while len(self._places) > _REMEMBERED:
                self._places.popitem(last=False)
        return place


def _native(file: BinaryIO) -> _Native | None:
    """Find uncompressed frames by a quick look, or a thorough one where the file is unusual."""
    quick = scan(file)
    if quick is not None and quick.pixels_length != _IN_FRAGMENTS:
        described, offset, length = describe(quick.dataset()), quick.pixels_at, quick.pixels_length
    else:
        file.seek(0)
        source = read_source(file)
        if source.pixels is None or source.pixels.encapsulated:
            raise NoSuchFrame("The instance has no pixel data.")
        described, offset, length = describe(source.head), source.pixels.offset, source.pixels.length
    bits = described.rows * described.columns * described.samples_per_pixel * described.bits_allocated
    return None if bits % 8 else _Native(offset, bits // 8, length // (bits // 8))


def frame_numbers(text: str) -> list[int]:
    """Read a list of frame numbers, from 1.

    Raises
    ------
    BadRequest
        It is none.
    """
    parts = text.split(",")
    if len(parts) > _MOST_FRAMES or not all(part.isascii() and part.isdigit() and 0 < len(part) < 9 for part in parts):
        raise BadRequest("Frames are a list of whole numbers from 1, such as 1,2,3.")
    numbers = [int(part) for part in parts]
    if 0 in numbers:
        raise BadRequest("Frames are numbered from 1.")
    return numbers


def _cut(file: BinaryIO, place: _Native, number: int) -> bytes:
    if number > place.number_of_frames:
        raise UnreadablePixels("The pixel data are cut short.")
    file.seek(place.offset + (number - 1) * place.frame_bytes)
    frame = file.read(place.frame_bytes)
    if len(frame) < place.frame_bytes:
        raise UnreadablePixels("The pixel data are cut short.")
    return frame


def _choose(ranges: Sequence[MediaRange], stored: str, count: int) -> tuple[MediaRange, str]:
    """Choose what a frame is given as.

    Raises
    ------
    NotAcceptable
        Nothing that can be made is accepted; the message names what there is.
    """
    for media in ranges:
        if media.name != MULTIPART and not media.takes_multipart and count > 1:
            continue
        if (syntax := _syntax(media, stored)) is not None:
            return media, syntax
    kinds = dict.fromkeys(FRAME_TYPES.get(syntax, OCTETS) for syntax in (EXPLICIT_LITTLE, *targets_of(stored)))
    available = [f'multipart/related; type="{kind}"' for kind in kinds]
    raise NotAcceptable(f"Available: {', '.join(available)}.")


def _syntax(media: MediaRange, stored: str) -> str | None:
    """Give the transfer syntax of a frame for one range; uncompressed frames are Explicit VR Little Endian."""
    asked = media.transfer_syntax
    compressed = FRAME_TYPES.get(stored)
    targets = targets_of(stored)
    if matches(media.wanted, OCTETS):
        if asked == "*" or (asked == stored and compressed):
            return stored if compressed else EXPLICIT_LITTLE
        if asked is None or asked in NATIVE:
            return EXPLICIT_LITTLE if EXPLICIT_LITTLE in targets else None
        return asked if asked in targets else None
    if compressed and matches(media.wanted, compressed) and asked in (None, "*", stored):
        return stored
    for syntax, kind in FRAME_TYPES.items():
        if matches(media.wanted, kind) and syntax in targets and asked in (None, "*", syntax):
            return syntax
    return None
