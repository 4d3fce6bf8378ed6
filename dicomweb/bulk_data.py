"""Bulk data: of one attribute, and all of instances, series and studies; pixel data likewise.

Source: PS3.18 10.4.1.1.5 (bulk data resources), 10.4.1.1.6 (pixel data resources), F.2.6 (BulkDataURI).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import partial
from io import BytesIO, RawIOBase
from typing import Any, BinaryIO, cast

import orjson
from pydicom import Dataset, dcmread
from pydicom.uid import ExplicitVRBigEndian
from starlette.requests import Request
from starlette.responses import Response

from dicomweb.conditional import Validators
from dicomweb.errors import BadRequest, NotAcceptable
from dicomweb.frames import Frames
from dicomweb.media_types import MULTIPART, OCTETS, accepted_by, accepts_in_order, choose
from dicomweb.metadata import ranged
from dicomweb.multipart import Part, multipart_answer
from dicomweb.qido import PREFIX
from inference.part10 import read_source
from inference.syntaxes import EXPLICIT_LITTLE, IMPLICIT_LITTLE
from storage.blobs import BlobStore
from storage.dicom_json import resolved
from storage.errors import NotKept
from storage.json_maker import Metadata as KeptMetadata
from storage.json_values import little_endian
from storage.model_writer import bulk_uris, first_text
from storage.records import InstanceRecord, StudyFilter

PIXEL_DATA = "7FE00010"
#: `7FE00010`, or through items of sequences `54000100/1/54001010`, counted from 1.
_PATH = re.compile(r"[0-9A-Fa-f]{8}(?:/\d{1,6}/[0-9A-Fa-f]{8}){0,8}")


class BulkData:
    """Answers requests for bulk data."""

    def __init__(self, blobs: BlobStore, kept: KeptMetadata, frames: Frames) -> None:
        self._blobs = blobs
        self._kept = kept
        self._frames = frames

    def one(self, request: Request, record: InstanceRecord, path: str) -> Response:
        """Give the bytes of one attribute, in one part or as it is where that is asked for."""
        if not _PATH.fullmatch(path):
            raise BadRequest("Bulk data are named by tags of eight hex digits, items between them counted from 1.")
        accepted = accepted_by(request)
        choose(accepted, (OCTETS,))
        validators = Validators([record], f"bulk {path}")
        if (known := validators.not_modified(request)) is not None:
            return known
        open_it, size = self._value(record, path)
        if accepted[0].name == MULTIPART:
            part = Part(OCTETS, open_it, size, str(request.url.path))
            return multipart_answer(request, [part], kind=OCTETS, headers=validators.headers)
        return ranged(request, validators, size, open_it, OCTETS)

    def all_of(self, request: Request, visible: StudyFilter, records: Sequence[InstanceRecord]) -> Response:
        """Give all that the metadata of instances give by reference, each in a part; compressed frames in one each."""
        _check_accepted(request)
        validators = Validators(records, "bulk data")
        if (known := validators.not_modified(request)) is not None:
            return known
        named = self._named(records, visible)
        parts = [part for one in records for part in self._of_instance(one, named.get(one.sop_instance_uid, ()))]
        return _answer(request, parts, validators)

    def pixels_of(self, request: Request, records: Sequence[InstanceRecord]) -> Response:
        """Give the pixel data of instances: uncompressed in a part each, or as stored with a part for each frame."""
        stored = _check_accepted(request)
        validators = Validators(records, f"pixel data {stored}")
        if (known := validators.not_modified(request)) is not None:
            return known
        images = [record for record in records if record.number_of_frames and self._has_pixels(record)]
        parts = [part for record in images for part in self._pixels(record, stored=stored)]
        return _answer(request, parts, validators)

    def _named(self, records: Sequence[InstanceRecord], visible: StudyFilter) -> dict[str, list[str]]:
        """Give what the metadata of each instance give by reference."""
        series = {record.series_instance_uid for record in records}
        uids = [records[0].study_instance_uid, *(series if len(series) == 1 else ())]
        if len(records) == 1:
            uids.append(records[0].sop_instance_uid)
        metadata = orjson.loads(resolved(self._kept.of(*uids, visible=visible), PREFIX))
        return {first_text(said, "00080018"): bulk_uris(said) for said in metadata}

    def _of_instance(self, record: InstanceRecord, uris: Sequence[str]) -> Iterator[Part]:
        for uri in uris:
            path = uri.partition("/bulkdata/")[2]
            if path == PIXEL_DATA:
                yield from self._pixels(record, stored=True)
            else:
                open_it, size = self._value(record, path)
                yield Part(OCTETS, open_it, size, f"{_place(record)}/bulkdata/{path}")

    def _pixels(self, record: InstanceRecord, *, stored: bool) -> Iterator[Part]:
        syntax = record.transfer_syntax_uid
        if syntax in (EXPLICIT_LITTLE, IMPLICIT_LITTLE):
            open_it, size = self._value(record, PIXEL_DATA)
            yield Part(_uncompressed(), open_it, size, f"{_place(record)}/bulkdata/{PIXEL_DATA}")
        elif stored and self._frames.kind_of(syntax) is not None:
            for number in range(1, max(1, record.number_of_frames) + 1):
                open_it = partial(self._frame, record, number, syntax)
                yield Part(
                    f"{self._frames.kind_of(syntax)}; transfer-syntax={syntax}",
                    open_it,
                    location=f"{_place(record)}/frames/{number}",
                )
        else:
            yield Part(
                _uncompressed(),
                partial(self._all_frames, record),
                location=f"{_place(record)}/bulkdata/{PIXEL_DATA}",
            )

    def _all_frames(self, record: InstanceRecord) -> BinaryIO:
        numbers = range(1, max(1, record.number_of_frames) + 1)
        return cast(BinaryIO, _Chained(self._frames.frame(record, number, EXPLICIT_LITTLE) for number in numbers))

    def _frame(self, record: InstanceRecord, number: int, syntax: str) -> BinaryIO:
        return BytesIO(self._frames.frame(record, number, syntax))

    def _has_pixels(self, record: InstanceRecord) -> bool:
        with self._blobs.open(record.path) as file:
            return read_source(file).pixels is not None

    def _value(self, record: InstanceRecord, path: str) -> tuple[Any, int]:
        """Give what opens a value, and its size; uncompressed pixel data are read from where they stand."""
        syntax = record.transfer_syntax_uid
        with self._blobs.open(record.path) as file:
            if path == PIXEL_DATA and syntax in (EXPLICIT_LITTLE, IMPLICIT_LITTLE):
                pixels = read_source(file).pixels
                if pixels is not None and not pixels.encapsulated:
                    return partial(self._slice, record, pixels.offset, pixels.length), pixels.length
                file.seek(0)
            value = value_at(dcmread(file), path, little=syntax != ExplicitVRBigEndian)
        return partial(BytesIO, value), len(value)

    def _slice(self, record: InstanceRecord, offset: int, length: int) -> BinaryIO:
        return cast(BinaryIO, _Slice(self._blobs.open(record.path), offset, length))


class _Slice(RawIOBase):
    """A piece of a file, as a file."""

    def __init__(self, file: BinaryIO, offset: int, length: int) -> None:
        super().__init__()
        self._file, self._offset, self._length, self._position = file, offset, length, 0

    def readable(self) -> bool:
        return True

    def seek(self, offset: int, _whence: int = 0, /) -> int:
        self._position = offset
        return offset

    def read(self, count: int = -1, /) -> bytes:
        left = max(0, self._length - self._position)
        self._file.seek(self._offset + self._position)
        piece = self._file.read(left if count < 0 else min(count, left))
        self._position += len(piece)
        return piece

    def close(self) -> None:
        self._file.close()
        super().close()


class _Chained(RawIOBase):
    """Pieces that are made as they are read, as a file."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        super().__init__()
        self._pieces = pieces
        self._held = memoryview(b"")

    def readable(self) -> bool:
        return True

    def read(self, count: int = -1, /) -> bytes:
        if not self._held:
            self._held = memoryview(next(self._pieces, b""))
        taken = self._held if count < 0 else self._held[:count]
        self._held = self._held[len(taken) :]
        return bytes(taken)


def value_at(dataset: Dataset, path: str, *, little: bool) -> bytes:
    """Give the bytes of an attribute; `NotKept` where there is none of this name."""
    steps = path.split("/")
    try:
        for tag, item in zip(steps[:-1:2], steps[1::2], strict=True):
            dataset = dataset[int(tag, 16)].value[_index(item)]
        element = dataset[int(steps[-1], 16)]
    except (KeyError, IndexError, TypeError) as error:
        raise NotKept("The instance has no bulk data under this name.") from error
    if isinstance(element.value, bytes):
        return little_endian(element.VR, element.value, little=little)
    if element.VR in ("UT", "LT", "ST", "UC", "UR") and isinstance(element.value, str):
        return element.value.encode()
    raise NotKept("The instance has no bulk data under this name.")


def _index(item: str) -> int:
    if int(item) < 1:
        raise IndexError
    return int(item) - 1


def _check_accepted(request: Request) -> bool:
    """Give whether pixels are taken as they are stored.

    Raises
    ------
    NotAcceptable
        The caller takes no parts of bytes.
    """
    ranges = [media for media in accepts_in_order(accepted_by(request)) if media.takes_multipart]
    wanted = [media for media in ranges if media.name != MULTIPART or media.wanted in (OCTETS, "*/*", "application/*")]
    if not wanted:
        raise NotAcceptable(f'Available: {MULTIPART}; type="{OCTETS}".')
    return wanted[0].transfer_syntax == "*"


def _answer(request: Request, parts: Sequence[Part], validators: Validators) -> Response:
    if not parts:
        raise NotKept("There are no bulk data of these instances.")
    return multipart_answer(request, parts, kind=OCTETS, headers=validators.headers)


def _uncompressed() -> str:
    return f"{OCTETS}; transfer-syntax={EXPLICIT_LITTLE}"


def _place(record: InstanceRecord) -> str:
    study, series, instance = record.study_instance_uid, record.series_instance_uid, record.sop_instance_uid
    return f"{PREFIX}/studies/{study}/series/{series}/instances/{instance}"
