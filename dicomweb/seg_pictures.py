"""Segmentations of any maker on their images, as pictures: `/api/studies/{study}/instances/{instance}/overlay`."""

# No postponed annotations here: the framework reads `Annotated[…, Depends]` made inside functions.

from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Query
from starlette.requests import Request
from starlette.responses import Response

from dicomweb.accesses import Accesses
from dicomweb.caller import Caller, Requires
from dicomweb.conditional import Validators
from dicomweb.media_types import accepted_by, choose
from dicomweb.names import Uid
from dicomweb.ports import WebParts
from storage import matching
from storage.errors import NotKept
from storage.matching import Key, Level, tag_path
from storage.records import InstanceRecord, StudyFilter

#: Segmentation and Label Map Segmentation Storage. Source: PS3.4 B.5.
SEGMENTATIONS = frozenset({"1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7"})
_MOST_SHOWN = 12
_UID = r"^[0-9.]{1,64}$"
_FORMS: dict[str, Literal["PNG", "JPEG"]] = {"image/png": "PNG", "image/jpeg": "JPEG"}


def routes(parts: WebParts, requires: Requires, accesses: Accesses) -> APIRouter:
    """Give the overlay resource."""
    router = APIRouter(prefix="/api", tags=["node"])

    @router.get("/studies/{study_instance_uid}/instances/{sop_instance_uid}/overlay", response_class=Response)
    def overlay(
        study_instance_uid: Uid,
        sop_instance_uid: Uid,
        request: Request,
        caller: Annotated[Caller, Depends(requires("read"))],
        image: Annotated[str, Query(pattern=_UID)] = "",
        frame: Annotated[int, Query(ge=1, le=1_000_000)] = 1,
        quality: Annotated[int, Query(ge=1, le=100)] = 90,
    ) -> Response:
        """Give a picture of a segmentation on an image: the one where it has most, unless one is named."""
        kind = choose(accepted_by(request), tuple(_FORMS))
        seg = segmentation(parts, caller.visible, study_instance_uid, sop_instance_uid)
        if not image:
            with parts.blobs.open(seg.path) as file:
                image, frame = parts.pixels.drawn_on(file)
        shown = _image(parts, caller.visible, study_instance_uid, image)
        accesses.note(caller, study_instance_uid, "overlay")
        validators = Validators([seg, shown], f"overlay {kind} {frame} {quality}")
        if (known := validators.not_modified(request)) is not None:
            return known
        with parts.blobs.open(seg.path) as seg_file, parts.blobs.open(shown.path) as image_file:
            content = parts.pixels.overlay(seg_file, image_file, frame - 1, form=_FORMS[kind], quality=quality)
        return Response(content, media_type=kind, headers=validators.headers)

    return router


def segmentations_of_others(parts: WebParts, study_instance_uid: str, visible: StudyFilter) -> list[str]:
    """SOP Instance UIDs of some kept segmentations of a study that are no results of this node."""
    wanted = Key(tag_path("SOPClassUID"), "\\".join(sorted(SEGMENTATIONS)))
    query = matching.Query(keys=(wanted,), study_instance_uid=study_instance_uid, limit=_MOST_SHOWN)
    rows = parts.index.search(Level.INSTANCE, query, visible).rows
    ours = {each.sop_instance_uid for each in parts.results.of_study(study_instance_uid)}
    return [uid for row in rows if (uid := str(row["00080018"]["Value"][0])) not in ours]


def segmentation(parts: WebParts, visible: StudyFilter, study: str, sop_instance_uid: str) -> InstanceRecord:
    """Give a segmentation of a study.

    Raises
    ------
    NotKept
        The study has none under this UID, or the caller may not see it.
    """
    record = parts.index.instance(sop_instance_uid, visible)
    if record.study_instance_uid != study or record.sop_class_uid not in SEGMENTATIONS:
        raise NotKept("The study has no such segmentation.")
    return record


def _image(parts: WebParts, visible: StudyFilter, study: str, sop_instance_uid: str) -> InstanceRecord:
    try:
        record = parts.index.instance(sop_instance_uid, visible)
    except NotKept as error:
        raise NotKept("The image of this segmentation is not kept here.") from error
    if record.study_instance_uid != study:
        raise NotKept("The image of this segmentation is of another study.")
    return record
