"""Single frames: as stored, decoded, or in another transfer syntax.

Source: PS3.18 10.4.1.1.3 (frame resources), Tables 8.7.3-2, 8.7.3-4, 8.7.3-5 (media types of compressed frames).
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from io import BytesIO
from typing import BinaryIO

from starlette.requests import Request
from starlette.responses import Response

from dicomweb.conditional import Validators
from dicomweb.errors import BadRequest, NotAcceptable
from dicomweb.media_types import MULTIPART, OCTETS, MediaRange, accepted_by, accepts_in_order, matches
from dicomweb.metadata import ranged
from dicomweb.multipart import Part, answer_of_one, multipart_answer
from dicomweb.ports import PixelWork
from inference.errors import NoSuchFrame, UnreadablePixels
from inference.frames import Description, describe, stored_frame_of
from inference.part10 import read_source
from inference.scan import QUICK_LOOK, Scanned, scan
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

    def offset_of(self, number: int) -> int:
        """Give where a frame begins, numbered from 1."""
        return self.offset + (number - 1) * self.frame_bytes


@dataclass(frozen=True)
class _Wanted:
    """What frames are given as."""

    syntax: str
    kind: str
    in_parts: bool
    location: str
    validators: Validators

    @property
    def label(self) -> str:
        """The whole media type of a frame."""
        return f"{self.kind}; transfer-syntax={self.syntax}"

    def part(self, number: int, open_it: Callable[[], BinaryIO], size: int | None = None) -> Part:
        """Give a frame as a part."""
        return Part(self.label, open_it, size, f"{self.location}/{number}")


class Frames:
    """Answers retrievals of frames."""

    def __init__(self, blobs: BlobStore, pixels: PixelWork) -> None:
        self._blobs = blobs
        self._pixels = pixels
        self._places: OrderedDict[str, _Native] = OrderedDict()
        self._lock = threading.Lock()

    def answer(self, request: Request, record: InstanceRecord, numbers: Sequence[int]) -> Response:
        """Give frames in the best of the accepted forms."""
        wanted = _wanted(request, record, numbers)
        if (known := wanted.validators.not_modified(request)) is not None:
            return known
        # The first one is made before anything is said, so that most failures still have a status of their own.
        first = self.frame(record, numbers[0], wanted.syntax)
        if not wanted.in_parts:
            return ranged(request, wanted.validators, len(first), partial(BytesIO, first), wanted.label)
        parts = [wanted.part(numbers[0], partial(BytesIO, first), len(first))]
        parts += [wanted.part(each, partial(self._open, record, each, wanted.syntax)) for each in numbers[1:]]
        return multipart_answer(request, parts, kind=wanted.kind, headers=wanted.validators.headers)

    def answer_at_once(self, request: Request, record: InstanceRecord, numbers: Sequence[int]) -> Response | None:
        """Give the same without waiting, where that can be; None: `answer` must be asked.

        One uncompressed frame in a part, from a file that the system has in memory.
        """
        wanted = _wanted(request, record, numbers)
        if (known := wanted.validators.not_modified(request)) is not None:
            return known
        is_simple = len(numbers) == 1 and wanted.in_parts and _is_native(record, wanted.syntax)
        place = self._place_at_hand(record) if is_simple else None
        if place is None or numbers[0] > place.number_of_frames:
            return None
        part = wanted.part(numbers[0], BytesIO, place.frame_bytes)
        offset = place.offset_of(numbers[0])
        fetch = partial(self._blobs.at_hand, record.path, offset, place.frame_bytes)
        return answer_of_one(part, fetch, kind=wanted.kind, headers=wanted.validators.headers)

    def _open(self, record: InstanceRecord, number: int, syntax: str) -> BinaryIO:
        return BytesIO(self.frame(record, number, syntax))

    @staticmethod
    def kind_of(syntax: str) -> str | None:
        """Give the media type of compressed frames of a transfer syntax; None: it is no compression of frames."""
        return FRAME_TYPES.get(syntax)

    def frame(self, record: InstanceRecord, number: int, syntax: str) -> bytes:
        """Give one frame, numbered from 1, in a transfer syntax."""
        with self._blobs.open(record.path) as file:
            if _is_native(record, syntax):
                place = self._place(record, file)
                if place is not None:
                    return _cut(file, place, number)
            elif record.transfer_syntax_uid == syntax:
                return stored_frame_of(read_source(file), number - 1)
            file.seek(0)
            return self._pixels.frame(file, number - 1, syntax)

    def _place(self, record: InstanceRecord, file: BinaryIO) -> _Native | None:
        """Find where the frames stand; None where they do not begin at whole bytes."""
        if (known := self._known_place(record)) is not None:
            return known
        return self._remembered(record, _native(file))

    def _place_at_hand(self, record: InstanceRecord) -> _Native | None:
        """Find the same without waiting; None: it cannot be told at a quick look."""
        if (known := self._known_place(record)) is not None:
            return known
        beginning = self._blobs.at_hand(record.path, 0, min(QUICK_LOOK, record.size))
        quick = None if beginning is None else scan(BytesIO(beginning))
        if quick is None or quick.pixels_length == _IN_FRAGMENTS:
            return None
        return self._remembered(record, _native_at(quick))

    def _known_place(self, record: InstanceRecord) -> _Native | None:
        with self._lock:
            return self._places.get(record.path)

    def _remembered(self, record: InstanceRecord, place: _Native | None) -> _Native | None:
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
        return _native_at(quick)
    file.seek(0)
    source = read_source(file)
    if source.pixels is None or source.pixels.encapsulated:
        raise NoSuchFrame("The instance has no pixel data.")
    return _placed(_bits(describe(source.head)), source.pixels.offset, source.pixels.length)


def _native_at(quick: Scanned) -> _Native | None:
    return _placed(_scanned_bits(quick.transfer_syntax_uid, quick.said), quick.pixels_at, quick.pixels_length)


@lru_cache(maxsize=64)
def _scanned_bits(transfer_syntax_uid: str, said: tuple[tuple[int, bytes, bytes], ...]) -> int:
    """Bits of a frame; most slices of a series say the same of themselves."""
    return _bits(describe(Scanned(transfer_syntax_uid, said, b"", 0, 0).dataset()))


def _bits(described: Description) -> int:
    return described.rows * described.columns * described.samples_per_pixel * described.bits_allocated


def _placed(bits: int, offset: int, length: int) -> _Native | None:
    return None if bits % 8 else _Native(offset, bits // 8, length // (bits // 8))


def _is_native(record: InstanceRecord, syntax: str) -> bool:
    """Tell whether frames are given as they stand in the file, uncompressed."""
    return syntax == EXPLICIT_LITTLE and record.transfer_syntax_uid in (EXPLICIT_LITTLE, IMPLICIT_LITTLE)


def _wanted(request: Request, record: InstanceRecord, numbers: Sequence[int]) -> _Wanted:
    """Say what frames are given as.

    Raises
    ------
    NotAcceptable, NoSuchFrame
    """
    media, syntax = _choose(accepts_in_order(accepted_by(request)), record.transfer_syntax_uid, len(numbers))
    if max(numbers) > max(1, record.number_of_frames):
        raise NoSuchFrame(f"The instance has {record.number_of_frames} frames.")
    in_parts = media.takes_multipart
    validators = Validators([record], f"{in_parts} {syntax} {list(numbers)}")
    location = request.scope["path"].rpartition("/")[0]
    return _Wanted(syntax, FRAME_TYPES.get(syntax, OCTETS), in_parts, location, validators)


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
    file.seek(place.offset_of(number))
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
