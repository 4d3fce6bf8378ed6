"""WADO-RS: retrieve studies, series, instances, metadata, frames, bulk data, pictures.

Source: PS3.18 10.4 (Retrieve Transaction), 8.7 (media types).
"""

# No postponed annotations here: the framework reads `Annotated[…, Depends]` made inside functions.

import uuid
from collections.abc import Callable, Sequence
from functools import partial
from io import BytesIO
from typing import Annotated, BinaryIO

from fastapi import APIRouter, Depends
from pydicom import dcmread
from pydicom.uid import ExplicitVRBigEndian
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from dicomweb.caller import Caller
from dicomweb.errors import BadRequest, NotAcceptable
from dicomweb.media_types import DICOM, MULTIPART, OCTETS, MediaRange, choose, matches, parse_accept
from dicomweb.multipart import Part, multipart_answer, stream
from dicomweb.qido import PREFIX, Requires
from inference.pixels import (
    UnreadablePixels,
    Window,
    native_frame,
    render_frame,
    stored_frame,
    to_picture,
)
from storage.blobs import BlobStore
from storage.errors import NotKept
from storage.index import Index
from storage.json_values import little_endian
from storage.records import InstanceRecord

_EXPLICIT = "1.2.840.10008.1.2.1"
_NATIVE = frozenset({"1.2.840.10008.1.2", _EXPLICIT, "1.2.840.10008.1.2.1.99"})
#: Media type of a compressed frame. Source: PS3.18 Table 8.7.3-2 and 8.7.3-5.
_FRAME_TYPES = {
    "1.2.840.10008.1.2.4.50": "image/jpeg",
    "1.2.840.10008.1.2.4.51": "image/jpeg",
    "1.2.840.10008.1.2.4.57": "image/jpeg",
    "1.2.840.10008.1.2.4.70": "image/jpeg",
    "1.2.840.10008.1.2.4.80": "image/jls",
    "1.2.840.10008.1.2.4.81": "image/jls",
    "1.2.840.10008.1.2.4.90": "image/jp2",
    "1.2.840.10008.1.2.4.91": "image/jp2",
    "1.2.840.10008.1.2.4.201": "image/jphc",
    "1.2.840.10008.1.2.4.202": "image/jphc",
    "1.2.840.10008.1.2.4.203": "image/jphc",
    "1.2.840.10008.1.2.5": "image/dicom-rle",
}
_THUMBNAIL = 160
#: Names in the way of one bulk data item: tags and item numbers of nested sequences.
_LONGEST_WAY = 129


def routes(index: Index, blobs: BlobStore, requires: Requires) -> APIRouter:
    """Give the retrieve resources."""
    retrieve = _Retrieve(index, blobs)
    router = APIRouter(prefix=f"{PREFIX}/studies/{{study}}", tags=["WADO-RS"])
    may_read = Depends(requires("read"))

    def answering(work: Callable[..., Response]) -> Callable[..., Response]:
        def at_study(study: str, request: Request, caller: Annotated[Caller, may_read]) -> Response:
            return work(request, retrieve.kept(caller, study))

        def at_series(study: str, series: str, request: Request, caller: Annotated[Caller, may_read]) -> Response:
            return work(request, retrieve.kept(caller, study, series))

        def at_instance(
            study: str, series: str, instance: str, request: Request, caller: Annotated[Caller, may_read]
        ) -> Response:
            return work(request, retrieve.kept(caller, study, series, instance))

        for path, endpoint in (
            ("", at_study),
            ("/series/{series}", at_series),
            ("/series/{series}/instances/{instance}", at_instance),
        ):
            suffix = _SUFFIX[work.__name__]
            router.add_api_route(f"{path}{suffix}", endpoint, methods=["GET"], name=f"{work.__name__}{path}")
        return work

    for work in (retrieve.instances, retrieve.rendered, retrieve.thumbnail):
        answering(work)

    @router.get("/series/{series}/instances/{instance}/frames/{frames}")
    def frames(
        study: str, series: str, instance: str, frames: str, request: Request, caller: Annotated[Caller, may_read]
    ) -> Response:
        """Give single frames."""
        (record,) = retrieve.kept(caller, study, series, instance)
        return retrieve.frames(request, record, _frame_numbers(frames))

    @router.get("/series/{series}/instances/{instance}/frames/{frame}/rendered")
    def rendered_frame(
        study: str, series: str, instance: str, frame: str, request: Request, caller: Annotated[Caller, may_read]
    ) -> Response:
        """Give a picture of one frame."""
        (record,) = retrieve.kept(caller, study, series, instance)
        (number,) = _frame_numbers(frame)[:1]
        return retrieve.picture(request, record, number - 1)

    @router.get("/series/{series}/instances/{instance}/bulkdata/{way:path}")
    def bulk_data(study: str, series: str, instance: str, way: str, caller: Annotated[Caller, may_read]) -> Response:
        """Give the value of one attribute that metadata gives by reference."""
        (record,) = retrieve.kept(caller, study, series, instance)
        return retrieve.bulk_data(record, way)

    return router


_SUFFIX = {"instances": "", "rendered": "/rendered", "thumbnail": "/thumbnail"}


class _Retrieve:
    """Answers retrievals from index and blobs."""

    def __init__(self, index: Index, blobs: BlobStore) -> None:
        self._index = index
        self._blobs = blobs

    def kept(
        self, caller: Caller, study: str, series: str | None = None, instance: str | None = None
    ) -> list[InstanceRecord]:
        """Find what a path names; `NotKept` where there is nothing that the caller may see."""
        records = self._index.instances_of(study, series, visible=caller.visible)
        if instance is not None:
            records = [record for record in records if record.sop_instance_uid == instance]
        if not records:
            raise NotKept("Nothing is kept here under these UIDs.")
        return records

    def instances(self, request: Request, records: Sequence[InstanceRecord]) -> Response:
        """Give whole instances, as stored."""
        accepted = _accepted(request)
        if len(records) == 1 and _wants_single(accepted, DICOM):
            return StreamingResponse(
                stream(self._blobs.open(records[0].path)),
                media_type=DICOM,
                headers={"Content-Length": str(records[0].size)},
            )
        _check_parts(accepted, (DICOM,))
        parts = (
            Part(f"{DICOM}; transfer-syntax={record.transfer_syntax_uid}", partial(self._blobs.open, record.path))
            for record in records
        )
        return multipart_answer(parts, kind=DICOM, boundary=_boundary())

    def frames(self, request: Request, record: InstanceRecord, numbers: Sequence[int]) -> Response:
        """Give frames as stored, or decoded where the caller takes plain octets only."""
        accepted = _accepted(request)
        encoded = _as_stored(accepted, record.transfer_syntax_uid)
        parts = []
        for number in numbers:
            with self._open(record) as file:
                if encoded and record.transfer_syntax_uid not in _NATIVE:
                    content, syntax = stored_frame(file, number - 1)
                else:
                    content, syntax = self._native(file, record, number - 1), _EXPLICIT
            kind = _FRAME_TYPES.get(syntax, OCTETS)
            parts.append(Part(f"{kind}; transfer-syntax={syntax}", partial(BytesIO, content)))
        kind = parts[0].content_type.partition(";")[0]
        return multipart_answer(parts, kind=kind, boundary=_boundary())

    def rendered(self, request: Request, records: Sequence[InstanceRecord]) -> Response:
        """Give a picture: of the instance, or of the middle one of a series or study."""
        return self.picture(request, self._middle(records), 0)

    def thumbnail(self, request: Request, records: Sequence[InstanceRecord]) -> Response:
        """Give a small picture."""
        record = self._middle(records)
        return self.picture(request, record, record.number_of_frames // 2, thumbnail=True)

    def picture(
        self, request: Request, record: InstanceRecord, frame_index: int, *, thumbnail: bool = False
    ) -> Response:
        """Render one frame."""
        kind = choose(_accepted(request), ("image/jpeg", "image/png"))
        window = _window(request.query_params.get("window"))
        with self._open(record) as file:
            array = render_frame(file, frame_index, window=window)
        if thumbnail:
            step = max(1, -(-max(array.shape[:2]) // _THUMBNAIL))
            array = array[::step, ::step]
        content = to_picture(array, "JPEG" if kind == "image/jpeg" else "PNG")
        return Response(content, media_type=kind)

    def bulk_data(self, record: InstanceRecord, way: str) -> Response:
        """Give one attribute's bytes; within sequences its way leads through numbered items."""
        names = way.split("/")
        if len(names) > _LONGEST_WAY or not all(name.isascii() and name.isalnum() for name in names):
            raise BadRequest("Bulk data are named by the eight hex digits of their tag.")
        with self._open(record) as file:
            dataset = dcmread(file)
        try:
            for tag, number in zip(names[:-1:2], names[1::2], strict=True):
                dataset = dataset[int(tag, 16)].value[int(number) - 1]
            element = dataset[int(names[-1], 16)]
        except (ValueError, LookupError, TypeError) as error:
            raise NotKept("The instance has no bulk data under this name.") from error
        if not isinstance(element.value, bytes):
            raise NotKept("The instance has no bulk data under this name.")
        little = record.transfer_syntax_uid != ExplicitVRBigEndian
        return Response(little_endian(element.VR, element.value, little=little), media_type=OCTETS)

    def _native(self, file: BinaryIO, record: InstanceRecord, frame_index: int) -> bytes:
        if record.transfer_syntax_uid in _NATIVE:
            try:
                return stored_frame(file, frame_index)[0]
            except UnreadablePixels:
                file.seek(0)
        return native_frame(file, frame_index)

    @staticmethod
    def _middle(records: Sequence[InstanceRecord]) -> InstanceRecord:
        return records[len(records) // 2]

    def _open(self, record: InstanceRecord) -> BinaryIO:
        return self._blobs.open(record.path)


def _accepted(request: Request) -> list[MediaRange]:
    return parse_accept(request.headers.get("accept"), request.query_params.get("accept"))


def _wants_single(accepted: Sequence[MediaRange], kind: str) -> bool:
    """Tell whether the caller asks for one object without the multipart frame around it."""
    return any(media.name == kind and media.quality > 0 for media in accepted)


def _check_parts(accepted: Sequence[MediaRange], available: Sequence[str]) -> None:
    for media in accepted:
        if media.quality <= 0:
            continue
        wanted = media.part if media.name == MULTIPART else media.name
        if media.takes(MULTIPART) and media.name != MULTIPART:
            return
        if any(matches(wanted, kind) for kind in available):
            return
    raise NotAcceptable(f"Available: {', '.join(f'multipart/related; type={kind}' for kind in available)}.")


def _as_stored(accepted: Sequence[MediaRange], transfer_syntax_uid: str) -> bool:
    """Tell whether a frame may go out as it is stored.

    Raises
    ------
    NotAcceptable
        Neither the stored form nor plain octets are accepted.
    """
    stored_kind = _FRAME_TYPES.get(transfer_syntax_uid, OCTETS)
    for media in accepted:
        if media.quality <= 0:
            continue
        wanted = media.part if media.name == MULTIPART else media.name
        syntax = media.transfer_syntax
        if syntax in ("*", transfer_syntax_uid):
            return True
        if wanted not in ("*/*", OCTETS) and matches(wanted, stored_kind):
            return True
        if matches(wanted, OCTETS) and syntax in (None, _EXPLICIT):
            return False
    available = (f"multipart/related; type={kind}" for kind in dict.fromkeys((OCTETS, stored_kind)))
    raise NotAcceptable(f"Available: {', '.join(available)}.")


def _frame_numbers(text: str) -> list[int]:
    """Read a list of frame numbers, from 1."""
    parts = text.split(",")
    if len(parts) > 10_000 or not all(part.isascii() and part.isdigit() and 0 < len(part) < 9 for part in parts):
        raise BadRequest("Frames are a list of whole numbers from 1, such as 1,2,3.")
    numbers = [int(part) for part in parts]
    if 0 in numbers:
        raise BadRequest("Frames are numbered from 1.")
    return numbers


def _window(text: str | None) -> Window | None:
    """Read `window=center,width,function`. Source: PS3.18 8.3.5.1.4."""
    if not text:
        return None
    try:
        center, width = (float(part) for part in text.split(",")[:2])
    except ValueError as error:
        raise BadRequest("A window is written center,width,function.") from error
    return Window(center, width)


def _boundary() -> str:
    return uuid.uuid4().hex
