"""WADO-URI: one object by parameters of the query. Source: PS3.18 9 (URI Service)."""

# No postponed annotations here: the framework reads `Annotated[…, Depends]` made inside functions.

from typing import Annotated

from fastapi import APIRouter, Depends, Query
from starlette.requests import Request
from starlette.responses import Response

from dicomweb.accesses import Accesses
from dicomweb.caller import Caller, Requires
from dicomweb.conditional import Validators
from dicomweb.errors import BadRequest, NotAcceptable
from dicomweb.media_types import DICOM, MediaRange, accepts_in_order, choose, parse_accept
from dicomweb.metadata import ranged
from dicomweb.objects import Objects
from dicomweb.ports import WebParts
from dicomweb.rendering import MOST_VIEWPORT, Rendering, Wishes, numbers_of
from inference.syntaxes import EXPLICIT_LITTLE, targets_of
from storage.errors import NotKept
from storage.records import InstanceRecord

_UID = r"^[0-9.]{1,64}$"
Uid = Annotated[str, Query(pattern=_UID)]


def routes(parts: WebParts, requires: Requires, accesses: Accesses) -> APIRouter:
    """Give /wado."""
    router = APIRouter(tags=["WADO-URI"])
    objects = Objects(parts.blobs, parts.pixels)
    rendering = Rendering(parts.blobs, parts.pixels, parts.readings)

    @router.get("/wado", response_class=Response)
    def wado(
        request: Request,
        caller: Annotated[Caller, Depends(requires("read"))],
        studyUID: Uid,  # noqa: N803 (as the standard names it)
        seriesUID: Uid,  # noqa: N803
        objectUID: Uid,  # noqa: N803
        requestType: str = "",  # noqa: N803
    ) -> Response:
        """Give one object, as DICOM or as a picture."""
        if requestType != "WADO":
            raise BadRequest("requestType is WADO.")
        record = parts.index.instance(objectUID, caller.visible)
        if (record.study_instance_uid, record.series_instance_uid) != (studyUID, seriesUID):
            raise NotKept("Nothing is kept here under these UIDs.")
        accesses.note(caller, studyUID, "DICOMweb")
        if request.query_params.get("anonymize"):
            raise BadRequest("Objects are given as they are kept: anonymize is not supported.")
        accepted = parse_accept(request.query_params.get("contentType", "") or request.headers.get("accept", ""))
        kind = choose(accepted, ("image/jpeg", DICOM, "image/png", "image/gif"))
        if kind == DICOM:
            return _object(request, objects, record, accepts_in_order(accepted))
        return _picture(request, rendering, record, kind)

    return router


def _object(request: Request, objects: Objects, record: InstanceRecord, accepted: list[MediaRange]) -> Response:
    asked = request.query_params.get("transferSyntax", "")
    wanted = asked or next((media.transfer_syntax for media in accepted if media.transfer_syntax), EXPLICIT_LITTLE)
    targets = targets_of(record.transfer_syntax_uid)
    if asked and wanted != "*" and wanted not in targets:
        raise NotAcceptable(f"This object can be had in the transfer syntaxes {', '.join(targets)}.")
    syntax = wanted if wanted in targets else record.transfer_syntax_uid
    validators = Validators([record], f"URI {syntax}")
    if (known := validators.not_modified(request)) is not None:
        return known
    file = objects.open(record, syntax)
    size = file.seek(0, 2)
    file.seek(0)
    return ranged(request, validators, size, lambda: file, DICOM)


def _picture(request: Request, rendering: Rendering, record: InstanceRecord, kind: str) -> Response:
    number = _whole(request, "frameNumber", 1, 10**8)
    wishes = _wishes(request)
    validators = Validators([record], f"URI {kind} {request.url.query}")
    if (known := validators.not_modified(request)) is not None:
        return known
    return Response(rendering.picture(record, number, wishes, kind), media_type=kind, headers=validators.headers)


def _wishes(request: Request) -> Wishes:
    """Read how a picture is wanted. Source: PS3.18 9.1.2.2."""
    asked = request.query_params
    window = None
    if asked.get("windowCenter") or asked.get("windowWidth"):
        values = numbers_of([asked.get("windowCenter", ""), asked.get("windowWidth", "")])
        if values is None or values[1] < 1:
            raise BadRequest("windowCenter and windowWidth are numbers, given together; the width is 1 at least.")
        window = (values[0], values[1])
    viewport = None
    if asked.get("rows") or asked.get("columns"):
        high, wide = (_whole(request, name, MOST_VIEWPORT, MOST_VIEWPORT) for name in ("rows", "columns"))
        viewport = (wide, high)
    return Wishes(window=window, viewport=viewport, quality=_whole(request, "imageQuality", 90, 100))


def _whole(request: Request, name: str, otherwise: int, most: int) -> int:
    text = request.query_params.get(name, "")
    if not text:
        return otherwise
    if not (text.isascii() and text.isdigit() and len(text) < 10 and 1 <= int(text) <= most):
        raise BadRequest(f"{name} is a whole number from 1 to {most}.")
    return int(text)
