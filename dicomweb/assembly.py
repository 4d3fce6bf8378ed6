"""Instances put together of metadata and bulk data that come in separate parts.

Source: PS3.18 10.5.2 (Store Transaction request), 8.7.3.5 (media types of bulk data), F.2.6 (BulkDataURI).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, BinaryIO

import orjson

from dicomweb.errors import BadRequest, TooLarge
from dicomweb.frames import FRAME_TYPES
from dicomweb.media_types import DICOM_JSON, DICOM_XML, JSON, MediaRange
from dicomweb.uploads import BodyPart
from dicomweb.xml_reader import read_native_xml
from inference.syntaxes import EXPLICIT_LITTLE
from storage.blobs import BlobStore, BlobWriter
from storage.errors import UnreadableInstance
from storage.model_writer import PIXEL_DATA, Bulk, bulk_uris, first_text, write_model
from storage.part10 import FileMeta

METADATA_TYPES = (DICOM_JSON, JSON, DICOM_XML)
#: Metadata are held in memory: those of some thousand images.
_MOST_METADATA = 16 << 20
_MOST_INSTANCES = 10_000
_PIECE = 1 << 20
_TRANSFER_SYNTAX, _AVAILABLE_SYNTAX = "00020010", "00083002"
_SOP_CLASS, _SOP_INSTANCE = "00080016", "00080018"


@dataclass(frozen=True)
class _Stored:
    """Where the bytes of one part stand in the file that gathers them."""

    gathered: BlobWriter
    begin: int
    size: int
    syntax: str
    """Transfer syntax of a compressed frame; empty: uncompressed."""

    def open(self) -> BinaryIO:
        file = self.gathered.read_back()
        file.seek(self.begin)
        return file


class Waiting:
    """One instance whose metadata came."""

    def __init__(self, dataset: dict[str, Any]) -> None:
        self.dataset = dataset
        self.uris = bulk_uris(dataset)
        self.missing = set(self.uris)

    def meta(self, found: dict[str, list[_Stored]]) -> FileMeta:
        """Say what the instance is."""
        uri = self.dataset.get(PIXEL_DATA, {}).get("BulkDataURI", "")
        syntaxes = {part.syntax for part in found.get(uri, ()) if part.syntax}
        if len(syntaxes) > 1:
            raise UnreadableInstance("The frames of one instance are in several transfer syntaxes.")
        syntax = syntaxes.pop() if syntaxes else EXPLICIT_LITTLE
        return replace(self.named, transfer_syntax_uid=syntax)

    @property
    def named(self) -> FileMeta:
        """Which instance it is, whatever else may be wrong with it."""
        return _named(self.dataset)

    @property
    def frames(self) -> int:
        """Parts that the pixel data may come in."""
        text = self.dataset.get("00280008", {}).get("Value") or [1]
        try:
            return max(1, int(text[0]))
        except (TypeError, ValueError) as error:
            raise UnreadableInstance("Number of Frames is no number.") from error


class Assembly:
    """What came of one request so far; bytes of bulk data lie on disk, beside what is being kept."""

    def __init__(self, blobs: BlobStore, check_reserve: Callable[[], None]) -> None:
        self._blobs = blobs
        self._check_reserve = check_reserve
        self._waiting: list[Waiting] = []
        self._wanted: defaultdict[str, list[Waiting]] = defaultdict(list)
        self._found: dict[str, list[_Stored]] = {}
        self._gathered: BlobWriter | None = None
        self._size = 0
        self.count = 0
        """Instances whose metadata came."""
        self.broken: list[FileMeta] = []
        """What is known of those whose metadata cannot be read."""

    def take(self, part: BodyPart) -> Iterator[Waiting]:
        """Take one part, and give the instances of which nothing is missing any more.

        Raises
        ------
        BadRequest, TooLarge
            Metadata that cannot be read, or more of them than there may be.
        """
        if part.kind.name in METADATA_TYPES:
            return self._metadata(part)
        return self._bulk(part)

    def pieces(self, instance: Waiting) -> tuple[FileMeta, Iterator[bytes]]:
        """Give an instance's File Meta, and its data set in pieces."""
        meta = instance.meta(self._found)
        compressed = meta.transfer_syntax_uid != EXPLICIT_LITTLE
        return meta, write_model(instance.dataset, self._bulk_of, encapsulated=compressed)

    def rest(self) -> list[Waiting]:
        """Give the instances of which something never came."""
        return [each for each in self._waiting if each.missing]

    def close(self) -> None:
        """Forget the bytes."""
        if self._gathered is not None:
            self._gathered.discard()
            self._gathered = None

    def _metadata(self, part: BodyPart) -> Iterator[Waiting]:
        content = part.content.read(_MOST_METADATA + 1)
        if len(content) > _MOST_METADATA:
            raise TooLarge(f"Metadata may have {_MOST_METADATA} bytes.")
        for dataset in _datasets(part.kind, content):
            self.count += 1
            if self.count > _MOST_INSTANCES:
                raise TooLarge(f"A request may hold metadata of {_MOST_INSTANCES} instances.")
            try:
                instance = Waiting(dataset)
            except UnreadableInstance:
                self.broken.append(_named(dataset))
                continue
            self._waiting.append(instance)
            for uri in instance.uris:
                self._wanted[uri].append(instance)
            if not instance.missing:
                yield instance

    def _bulk(self, part: BodyPart) -> Iterator[Waiting]:
        uri = part.headers.get("content-location", "").strip()
        wanting = self._wanted.get(uri, [])
        if not wanting:
            return  # of no instance: it is passed over
        self._found.setdefault(uri, []).append(self._gather(part, _syntax(part.kind, wanting[0])))
        for instance in wanting:
            if uri in instance.missing and self._is_whole(instance, uri):
                instance.missing.discard(uri)
                if not instance.missing:
                    yield instance
        self._forget_done()

    def _is_whole(self, instance: Waiting, uri: str) -> bool:
        """Tell whether all frames of an instance came, where these are its compressed pixel data."""
        parts = self._found[uri]
        is_pixels = instance.dataset.get(PIXEL_DATA, {}).get("BulkDataURI") == uri
        return not (is_pixels and parts[0].syntax) or len(parts) >= instance.frames

    def _gather(self, part: BodyPart, syntax: str) -> _Stored:
        self._check_reserve()
        if self._gathered is None:
            self._gathered, self._size = self._blobs.create(), 0
        begin = self._size
        while piece := part.content.read(_PIECE):
            self._gathered.write(piece)
            self._size += len(piece)
        return _Stored(self._gathered, begin, self._size - begin, syntax)

    def _forget_done(self) -> None:
        """Give the disk back once nothing that was gathered is waited for."""
        if all(not each.missing for uri in self._found for each in self._wanted[uri]):
            self._found.clear()
            self.close()

    def _bulk_of(self, uri: str) -> list[Bulk]:
        return [Bulk(part.size, part.open) for part in self._found.get(uri, ())]


def _named(dataset: Mapping[str, Any]) -> FileMeta:
    return FileMeta(first_text(dataset, _SOP_CLASS), first_text(dataset, _SOP_INSTANCE), EXPLICIT_LITTLE)


def _datasets(kind: MediaRange, content: bytes) -> list[dict[str, Any]]:
    if kind.name == DICOM_XML:
        return [read_native_xml(content)]
    try:
        said = orjson.loads(content)
    except orjson.JSONDecodeError as error:
        raise BadRequest("The metadata are no JSON.") from error
    datasets = said if isinstance(said, list) else [said]
    if not all(isinstance(each, dict) for each in datasets):
        raise BadRequest("The metadata are no list of data sets.")
    return datasets


def _syntax(kind: MediaRange, instance: Waiting) -> str:
    """Give the transfer syntax of a compressed part; empty: its bytes are uncompressed little endian."""
    compressed = [syntax for syntax, name in FRAME_TYPES.items() if name == kind.name]
    named = kind.transfer_syntax or first_text(instance.dataset, _AVAILABLE_SYNTAX)
    named = named or first_text(instance.dataset, _TRANSFER_SYNTAX)
    if compressed:
        return named if named in compressed else compressed[0]
    return named if named in FRAME_TYPES else ""
