"""WADO-RS metadata: joined from what was made when the instances came.

Source: PS3.18 10.4.1.1.2 (metadata), Annex F (DICOM JSON).
"""

# No postponed annotations here: the framework reads `Annotated[…, Depends]` made inside functions.

from typing import Annotated

from fastapi import APIRouter, Depends
from starlette.requests import Request
from starlette.responses import Response

from dicomweb.caller import Caller
from dicomweb.media_types import DICOM_JSON, choose, parse_accept
from dicomweb.qido import PREFIX, Requires
from storage.dicom_json import resolved
from storage.json_maker import Metadata


def routes(metadata: Metadata, requires: Requires) -> APIRouter:
    """Give the metadata resources."""
    router = APIRouter(prefix=f"{PREFIX}/studies/{{study}}", tags=["WADO-RS"])
    may_read = Depends(requires("read"))

    @router.get("/metadata")
    def study_metadata(study: str, request: Request, caller: Annotated[Caller, may_read]) -> Response:
        """Give all attributes but bulk data, as DICOM JSON."""
        _check_accepted(request)
        return _answer(request, metadata.of(study, visible=caller.visible))

    @router.get("/series/{series}/metadata")
    def series_metadata(study: str, series: str, request: Request, caller: Annotated[Caller, may_read]) -> Response:
        """Give all attributes but bulk data, as DICOM JSON."""
        _check_accepted(request)
        return _answer(request, metadata.of(study, series, visible=caller.visible))

    @router.get("/series/{series}/instances/{instance}/metadata")
    def instance_metadata(
        study: str, series: str, instance: str, request: Request, caller: Annotated[Caller, may_read]
    ) -> Response:
        """Give all attributes but bulk data, as DICOM JSON."""
        _check_accepted(request)
        return _answer(request, metadata.of(study, series, instance, visible=caller.visible))

    return router


def _check_accepted(request: Request) -> None:
    accepted = parse_accept(request.headers.get("accept"), request.query_params.get("accept"))
    choose(accepted, (DICOM_JSON, "application/json"))


def _answer(request: Request, kept: bytes) -> Response:
    base = f"{request.url.scheme}://{request.headers.get('host', request.url.netloc)}{PREFIX}"
    return Response(resolved(kept, base), media_type=DICOM_JSON)
