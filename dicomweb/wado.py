"""WADO-RS: the resources of studies, series, instances and frames. Source: PS3.18 10.4 (Retrieve Transaction)."""

# No postponed annotations here: the framework reads `Annotated[…, Depends]` made inside functions.

from collections.abc import Callable, Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Depends
from starlette.requests import Request
from starlette.responses import Response

from dicomweb.accesses import Accesses
from dicomweb.addresses import BaseUrl
from dicomweb.bulk_data import BulkData
from dicomweb.caller import Caller, Requires
from dicomweb.direct import first_tried
from dicomweb.frames import Frames, frame_numbers
from dicomweb.metadata import Metadata
from dicomweb.names import Uid
from dicomweb.objects import Objects
from dicomweb.ports import WebParts
from dicomweb.qido import PREFIX
from dicomweb.rendering import Rendering
from storage.errors import NotKept
from storage.index import Index
from storage.json_maker import Metadata as KeptMetadata
from storage.json_store import JsonStore
from storage.records import InstanceRecord, InstanceState

Work = Callable[[Request, Caller, Sequence[InstanceRecord]], Response]
_INSTANCE = "/series/{series}/instances/{instance}"


def routes(parts: WebParts, requires: Requires, base_url: BaseUrl, accesses: Accesses) -> APIRouter:
    """Give the retrieve resources."""
    router = APIRouter(prefix=f"{PREFIX}/studies/{{study}}", tags=["WADO-RS"])
    named = _Named(parts.index, accesses)
    kept = KeptMetadata(JsonStore(parts.database), parts.blobs)
    metadata = Metadata(kept, base_url, PREFIX)
    frames = Frames(parts.blobs, parts.pixels)
    bulk = BulkData(parts.blobs, kept, frames)
    rendering = Rendering(parts.blobs, parts.pixels, parts.readings)
    may_read = Depends(requires("read"))
    _frames(router, named, may_read, frames, rendering)
    _metadata(router, named, may_read, metadata)
    for suffix, work, what in (
        ("", _seen_by_all(Objects(parts.blobs, parts.pixels).answer), "whole instances"),
        ("/rendered", _seen_by_all(rendering.rendered), "a picture"),
        ("/thumbnail", _seen_by_all(rendering.thumbnail), "a small picture"),
        ("/pixeldata", _seen_by_all(bulk.pixels_of), "the pixel data"),
        ("/bulkdata", lambda request, caller, records: bulk.all_of(request, caller.visible, records), "the bulk data"),
    ):
        _at_every_level(router, named, may_read, suffix, work, what)

    @router.get(_INSTANCE + "/bulkdata/{path:path}")
    def bulk_data(
        study: Uid, series: Uid, instance: Uid, path: str, request: Request, caller: Annotated[Caller, may_read]
    ) -> Response:
        """Give the value of one attribute that metadata gives by reference."""
        return bulk.one(request, named.one(caller, study, series, instance), path)

    return router


def _seen_by_all(work: Callable[[Request, Sequence[InstanceRecord]], Response]) -> Work:
    return lambda request, _, records: work(request, records)


class _Named:
    """Finds what paths name."""

    def __init__(self, index: Index, accesses: Accesses) -> None:
        self._index = index
        self._accesses = accesses

    def all(self, caller: Caller, study: str, series: str | None = None) -> list[InstanceRecord]:
        """Give the instances of a study or series.

        Raises
        ------
        NotKept
            There is nothing that the caller may see.
        """
        records = self._index.instances_of(study, series, visible=caller.visible)
        # What was rejected answers to its UID alone.
        records = [record for record in records if record.state is not InstanceState.EXCLUDED]
        if not records:
            raise NotKept("Nothing is kept here under these UIDs.")
        self._accesses.note(caller, study, "DICOMweb")
        return records

    def noted(self, caller: Caller, study: str, answer: Response) -> Response:
        """Pass on an answer that was made already."""
        self._accesses.note(caller, study, "DICOMweb")
        return answer

    def one(self, caller: Caller, study: str, series: str, instance: str) -> InstanceRecord:
        """Give one instance; `NotKept` as above."""
        record = self._index.instance(instance, caller.visible)
        if (record.study_instance_uid, record.series_instance_uid) != (study, series):
            raise NotKept("Nothing is kept here under these UIDs.")
        self._accesses.note(caller, study, "DICOMweb")
        return record

    def one_at_hand(self, caller: Caller, study: str, series: str, instance: str) -> InstanceRecord | None:
        """Give one instance without waiting; None: ask `one`."""
        if not self._accesses.is_noted(caller, study, "DICOMweb"):
            return None
        record = self._index.instance_at_hand(instance, caller.visible)
        named = record is not None and (record.study_instance_uid, record.series_instance_uid) == (study, series)
        return record if named else None


def _at_every_level(router: APIRouter, named: _Named, may_read: Any, suffix: str, work: Work, what: str) -> None:
    def at_study(study: Uid, request: Request, caller: Annotated[Caller, may_read]) -> Response:
        return work(request, caller, named.all(caller, study))

    def at_series(study: Uid, series: Uid, request: Request, caller: Annotated[Caller, may_read]) -> Response:
        return work(request, caller, named.all(caller, study, series))

    def at_instance(
        study: Uid, series: Uid, instance: Uid, request: Request, caller: Annotated[Caller, may_read]
    ) -> Response:
        return work(request, caller, [named.one(caller, study, series, instance)])

    for path, endpoint, level in (
        ("", at_study, "study"),
        ("/series/{series}", at_series, "series"),
        (_INSTANCE, at_instance, "instance"),
    ):
        router.add_api_route(
            path + suffix,
            endpoint,
            methods=["GET"],
            name=f"{level}{suffix}",
            description=f"Give {what} of the {level}.",
            response_class=Response,
        )


def _metadata(router: APIRouter, named: _Named, may_read: Any, metadata: Metadata) -> None:
    @router.get("/metadata", response_class=Response)
    def of_study(study: Uid, request: Request, caller: Annotated[Caller, may_read]) -> Response:
        """Give all attributes but bulk data of the study."""
        return named.noted(caller, study, metadata.answer(request, caller.visible, study))

    @router.get("/series/{series}/metadata", response_class=Response)
    def of_series(study: Uid, series: Uid, request: Request, caller: Annotated[Caller, may_read]) -> Response:
        """Give all attributes but bulk data of the series."""
        return named.noted(caller, study, metadata.answer(request, caller.visible, study, series))

    @router.get(_INSTANCE + "/metadata", response_class=Response)
    def of_instance(
        study: Uid, series: Uid, instance: Uid, request: Request, caller: Annotated[Caller, may_read]
    ) -> Response:
        """Give all attributes but bulk data of the instance."""
        return named.noted(caller, study, metadata.answer(request, caller.visible, study, series, instance))


def _frames(router: APIRouter, named: _Named, may_read: Any, work: Frames, rendering: Rendering) -> None:
    def frames_at_once(
        *, study: str, series: str, instance: str, frames: str, request: Request, caller: Caller
    ) -> Response | None:
        numbers = frame_numbers(frames)
        record = named.one_at_hand(caller, study, series, instance)
        return None if record is None else work.answer_at_once(request, record, numbers)

    @router.get(_INSTANCE + "/frames/{frames}")
    @first_tried(frames_at_once)
    def frames(
        study: Uid, series: Uid, instance: Uid, frames: str, request: Request, caller: Annotated[Caller, may_read]
    ) -> Response:
        """Give frames, numbered from 1."""
        numbers = frame_numbers(frames)
        return work.answer(request, named.one(caller, study, series, instance), numbers)

    @router.get(_INSTANCE + "/frames/{frames}/rendered")
    def rendered_frames(
        study: Uid, series: Uid, instance: Uid, frames: str, request: Request, caller: Annotated[Caller, may_read]
    ) -> Response:
        """Give a picture of frames."""
        numbers = frame_numbers(frames)
        return rendering.rendered(request, [named.one(caller, study, series, instance)], numbers)

    @router.get(_INSTANCE + "/frames/{frames}/thumbnail")
    def thumbnail_of_frame(
        study: Uid, series: Uid, instance: Uid, frames: str, request: Request, caller: Annotated[Caller, may_read]
    ) -> Response:
        """Give a small picture of a frame."""
        numbers = frame_numbers(frames)
        return rendering.thumbnail(request, [named.one(caller, study, series, instance)], numbers[0])
