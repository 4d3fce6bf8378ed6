"""Whole instances: in parts, alone, or as a ZIP file; as stored or in another transfer syntax.

Source: PS3.18 10.4.3 (Retrieve Transaction response), 8.7.3.3 (DICOM media types and transfer syntaxes).
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Sequence
from functools import partial
from io import RawIOBase
from typing import BinaryIO

from starlette.requests import Request
from starlette.responses import Response

from dicomweb.conditional import Validators
from dicomweb.errors import NotAcceptable
from dicomweb.media_types import DICOM, MULTIPART, ZIP, MediaRange, accepted_by, accepts_in_order
from dicomweb.metadata import ranged
from dicomweb.multipart import Part, multipart_answer, streamed
from dicomweb.ports import PixelWork
from inference.syntaxes import EXPLICIT_LITTLE, targets_of
from storage.blobs import BlobStore
from storage.records import InstanceRecord

_CHUNK = 1 << 20
Chosen = tuple[InstanceRecord, str]


class Objects:
    """Answers retrievals of whole instances."""

    def __init__(self, blobs: BlobStore, pixels: PixelWork) -> None:
        self._blobs = blobs
        self._pixels = pixels

    def answer(self, request: Request, records: Sequence[InstanceRecord]) -> Response:
        """Give instances in the best of the accepted forms."""
        ranges = [media for media in accepts_in_order(accepted_by(request)) if _is_form(media, len(records))]
        if not ranges:
            raise NotAcceptable(_available(len(records)))
        form = ranges[0]
        alike = [media for media in ranges if _form(media) == _form(form)]
        chosen = [(record, syntax) for record in records if (syntax := _syntax(record, alike)) is not None]
        if not chosen:
            stored = sorted({syntax for record in records for syntax in targets_of(record.transfer_syntax_uid)})
            raise NotAcceptable(f"These instances can be had in the transfer syntaxes {', '.join(stored)}.")
        validators = Validators([record for record, _ in chosen], f"{_form(form)} {[each[1] for each in chosen]}")
        if (known := validators.not_modified(request)) is not None:
            return known
        if _form(form) == DICOM:
            return self._alone(request, chosen[0], validators)
        if _form(form) == ZIP:
            said = {
                **validators.headers,
                "Content-Type": ZIP,
                "Content-Disposition": 'attachment; filename="dicom.zip"',
            }
            return streamed(request, self._zipped(chosen), headers=said)
        parts = [self._part(*each) for each in chosen]
        # Some cannot be given as asked: the caller is told (PS3.18 10.4.3.1).
        status = 200 if len(chosen) == len(records) else 206
        return multipart_answer(request, parts, kind=DICOM, headers=validators.headers, status=status)

    def open(self, record: InstanceRecord, syntax: str) -> BinaryIO:
        """Give an instance in a transfer syntax."""
        file = self._blobs.open(record.path)
        if syntax == record.transfer_syntax_uid:
            return file
        with file:
            return self._pixels.transcode(file, record.transfer_syntax_uid, [syntax]).file

    def _part(self, record: InstanceRecord, syntax: str) -> Part:
        kind = f"{DICOM}; transfer-syntax={syntax}"
        if syntax != record.transfer_syntax_uid:
            return Part(kind, partial(self.open, record, syntax))
        at_hand = partial(self._blobs.at_hand, record.path)
        return Part(kind, partial(self.open, record, syntax), record.size, at_hand=at_hand)

    def _alone(self, request: Request, chosen: Chosen, validators: Validators) -> Response:
        record, syntax = chosen
        size = record.size
        kind = f"{DICOM}; transfer-syntax={syntax}"
        if syntax == record.transfer_syntax_uid:
            return ranged(request, validators, size, partial(self.open, record, syntax), kind)
        file = self.open(record, syntax)
        size = file.seek(0, 2)
        file.seek(0)
        return ranged(request, validators, size, lambda: file, kind)

    def _zipped(self, chosen: Sequence[Chosen]) -> Iterator[bytes]:
        pipe = _Pipe()
        with zipfile.ZipFile(pipe, "w", zipfile.ZIP_STORED) as archive:
            for record, syntax in chosen:
                # UIDs are digits and dots: no name leads out of the folder that it is unpacked to.
                named = zipfile.ZipInfo(f"{record.series_instance_uid}/{record.sop_instance_uid}.dcm")
                with self.open(record, syntax) as file, archive.open(named, "w", force_zip64=True) as entry:
                    while chunk := file.read(_CHUNK):
                        entry.write(chunk)
                        yield pipe.take()
        yield pipe.take()


class _Pipe(RawIOBase):
    """Takes what a ZIP writer writes; what is read of it is gone."""

    def __init__(self) -> None:
        self._held: list[bytes] = []
        self._position = 0

    def writable(self) -> bool:
        return True

    def write(self, content: bytes | bytearray | memoryview, /) -> int:  # type: ignore[override]
        self._held.append(bytes(content))
        self._position += len(content)
        return len(content)

    def tell(self) -> int:
        return self._position

    def take(self) -> bytes:
        held, self._held = self._held, []
        return b"".join(held)


def _form(media: MediaRange) -> str:
    """Which of the three forms a range asks for; anything goes as parts."""
    return media.name if media.name in (DICOM, ZIP) else MULTIPART


def _is_form(media: MediaRange, count: int) -> bool:
    if media.name in (DICOM, ZIP):
        return media.name == ZIP or count == 1
    return media.takes_multipart and (media.name != MULTIPART or media.wanted in (DICOM, "application/*", "*/*"))


def _syntax(record: InstanceRecord, ranges: Sequence[MediaRange]) -> str | None:
    """Choose the transfer syntax of an instance; None: it cannot be had as asked.

    Where none is asked for it is Explicit VR Little Endian; what cannot be decoded here is then given as stored.
    """
    targets = targets_of(record.transfer_syntax_uid)
    for media in ranges:
        wanted = media.transfer_syntax or EXPLICIT_LITTLE
        if wanted == "*" or (media.transfer_syntax is None and wanted not in targets):
            return record.transfer_syntax_uid
        if wanted in targets:
            return wanted
    return None


def _available(count: int) -> str:
    forms = [f'multipart/related; type="{DICOM}"', ZIP, *([DICOM] if count == 1 else [])]
    return f"Available: {', '.join(forms)}."
