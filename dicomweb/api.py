"""The node's own JSON: studies, results, deliveries, peers, rules, ledger."""

# No postponed annotations here: the framework reads `Annotated[…, Depends]` made inside functions.

from datetime import timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query
from starlette.responses import PlainTextResponse, Response

from dicomweb import correcting, seg_pictures, views
from dicomweb.accesses import Accesses
from dicomweb.caller import Caller, Requires
from dicomweb.errors import BadRequest, NotAllowed
from dicomweb.names import DeliveryId, Uid
from dicomweb.ports import Plane, WebParts
from storage.audit import AuditAction, AuditOutcome
from storage.errors import NotKept
from storage.ledger_report import Patience, account
from storage.records import StudyState
from storage.reopening import TRIED_ANEW, decide_anew
from storage.visibility import CANONICAL_FORM

#: Refused callers are shown for this long.
REFUSED_FOR = timedelta(hours=24)


def routes(parts: WebParts, requires: Requires, accesses: Accesses) -> APIRouter:
    """Give /api."""
    router = APIRouter(prefix="/api", tags=["node"])
    router.include_router(_studies(parts, requires, accesses))
    router.include_router(_overlays(parts, requires, accesses))
    router.include_router(_operations(parts, requires))
    router.include_router(correcting.routes(parts, requires))
    router.include_router(_node(parts, requires))
    return router


def _studies(parts: WebParts, requires: Requires, accesses: Accesses) -> APIRouter:
    router = APIRouter()
    may_read = Depends(requires("read"))

    @router.get("/studies")
    def studies(
        caller: Annotated[Caller, may_read],
        state: str | None = None,
        limit: Annotated[int, Query(ge=1, le=1000)] = 100,
        offset: Annotated[int, Query(ge=0)] = 0,
    ) -> dict[str, Any]:
        """List studies, the latest first."""
        states = None if state is None else [study_state(state)]
        found = parts.index.studies(visible=caller.visible, states=states, limit=limit, offset=offset)
        return {"studies": [views.study_line(study) for study in found]}

    @router.get("/studies/{study_instance_uid}")
    def study(study_instance_uid: Uid, caller: Annotated[Caller, may_read]) -> dict[str, Any]:
        """Give one study with its way through the node."""
        page = views.study_page(parts, study_instance_uid, caller.visible)
        accesses.note(caller, study_instance_uid, "way")
        return page

    @router.get("/studies/{study_instance_uid}/results")
    def results(study_instance_uid: Uid, caller: Annotated[Caller, may_read]) -> dict[str, Any]:
        """Give what engines said of a study, without DICOM."""
        said = views.study_results(parts, study_instance_uid, caller.visible)
        accesses.note(caller, study_instance_uid, "results")
        return said

    @router.get("/studies/{study_instance_uid}/findings")
    def findings(study_instance_uid: Uid, caller: Annotated[Caller, may_read]) -> dict[str, Any]:
        """Give what reports and segmentations of other makers state about a study, without DICOM."""
        said = views.stated_by_others(parts, study_instance_uid, caller.visible)
        accesses.note(caller, study_instance_uid, "findings")
        return said

    @router.get("/studies/{study_instance_uid}/rules")
    def rules(study_instance_uid: Uid, caller: Annotated[Caller, may_read]) -> dict[str, Any]:
        """Try the rules on a study: which match, which term failed on what; nothing is done."""
        tried = parts.rules.tried(study_instance_uid, caller.visible)
        accesses.note(caller, study_instance_uid, "rules")
        return tried

    @router.get("/studies/{study_instance_uid}/report.txt")
    def report(study_instance_uid: Uid, caller: Annotated[Caller, may_read]) -> PlainTextResponse:
        """Give the current reports as plain text."""
        text = report_of(parts, study_instance_uid, caller)
        accesses.note(caller, study_instance_uid, "report")
        return PlainTextResponse(text)

    return router


def _overlays(parts: WebParts, requires: Requires, accesses: Accesses) -> APIRouter:
    router = APIRouter()
    may_read = Depends(requires("read"))

    @router.get("/studies/{study_instance_uid}/results/{sop_instance_uid}/overlay/{plane}.png")
    def overlay(
        study_instance_uid: Uid, sop_instance_uid: Uid, plane: Plane, caller: Annotated[Caller, may_read]
    ) -> Response:
        """Give a picture of a segmentation on its source."""
        seg_pictures.segmentation(parts, caller.visible, study_instance_uid, sop_instance_uid)
        accesses.note(caller, study_instance_uid, "overlay")
        picture = parts.pictures.overlay(sop_instance_uid, plane)
        return Response(picture, media_type="image/png", headers={"Cache-Control": "private, max-age=3600"})

    return router


def report_of(parts: WebParts, study_instance_uid: str, caller: Caller) -> str:
    """Give the text of the current reports of a study that the caller may see."""
    parts.index.study(study_instance_uid, caller.visible)
    reports = [
        each
        for each in parts.results.of_study(study_instance_uid)
        if each.kind == "sr" and each.current and each.form == CANONICAL_FORM
    ]
    if not reports:
        raise NotKept("The study has no report.")
    return "\n\n".join(parts.readings.text(each.sop_instance_uid) for each in reports)


def _operations(parts: WebParts, requires: Requires) -> APIRouter:
    router = APIRouter()
    may_operate = Depends(requires("operate"))

    def note(caller: Caller, study_instance_uid: str, detail: str) -> None:
        parts.audit.record(AuditAction.OPERATE, caller.name, study_instance_uid, AuditOutcome.DONE, detail, parts.now())

    @router.post("/studies/{study_instance_uid}/rerun")
    def rerun(study_instance_uid: Uid, caller: Annotated[Caller, may_operate]) -> dict[str, Any]:
        """Do the jobs of the study's current decision again; an unchanged study leads to no new result.

        Where no rule matched, the rules as they stand now are tried: the study is decided on anew.
        """
        study = parts.index.study(study_instance_uid, caller.visible)
        jobs = [
            each for each in parts.job_book.jobs_of(study_instance_uid) if each.decision_number == study.decision_number
        ]
        if not jobs and study.state is StudyState.UNMATCHED:
            decide_anew(parts.database, study_instance_uid, f"asked for by {caller.name}", parts.now())
            note(caller, study_instance_uid, "rerun: the rules are tried anew")
            return {"jobs": [], "said": TRIED_ANEW}
        if not jobs:
            raise BadRequest(f"The study has no job to do again: it is {study.state}.")
        done = [parts.job_book.rerun(parts.queue, each.job_id, parts.now()) for each in jobs]
        note(caller, study_instance_uid, "rerun")
        return {"jobs": [views.job(each) for each in done], "said": ""}

    @router.post("/deliveries/{delivery_id}/retry")
    def retry(delivery_id: DeliveryId, caller: Annotated[Caller, may_operate]) -> dict[str, Any]:
        """Try a failed or waiting delivery again now."""
        study_instance_uid = parts.deliveries.delivery(delivery_id).study_instance_uid
        parts.index.study(study_instance_uid, caller.visible)
        asked = parts.deliveries.ask_again(delivery_id, f"asked for by {caller.name}", parts.now())
        note(caller, study_instance_uid, "retry of a delivery")
        return views.delivery(asked)

    return router


def _node(parts: WebParts, requires: Requires) -> APIRouter:
    router = APIRouter()
    may_look = Depends(requires("console"))

    @router.get("/jobs")
    def jobs(caller: Annotated[Caller, may_look], limit: Annotated[int, Query(ge=1, le=1000)] = 100) -> dict[str, Any]:
        """List jobs, the latest first."""
        # Who sees only some studies has theirs picked out of more.
        latest = parts.job_book.jobs(limit=limit if caller.visible.sender_peers is None else 10 * limit)
        found = [each for each in latest if _may_see(parts, caller, each.study_instance_uid)][:limit]
        return {"jobs": [views.job(each) for each in found]}

    @router.get("/peers")
    def peers(caller: Annotated[Caller, may_look]) -> dict[str, Any]:
        """List peers, and callers that were refused in the last 24 hours."""
        refused = parts.associations.refused_since(parts.now() - REFUSED_FOR)
        listed = {name: peer.model_dump(mode="json", by_alias=True) for name, peer in parts.peers.items()}
        return {"peers": listed, "refused": [views.refused(each) for each in refused]}

    @router.get("/rules")
    def rules(caller: Annotated[Caller, may_look]) -> dict[str, Any]:
        """List the rules, in the order in which they are tried."""
        return {
            "routes": [
                {
                    "name": route.name,
                    "engine": route.engine,
                    "series": route.series,
                    "priority": route.priority.value,
                    "at_most_per_hour": route.at_most_per_hour,
                    "deliver_to": list(route.deliver_to),
                    "deliver_refusals": route.deliver_refusals,
                    "originals_to": list(route.originals_to),
                }
                for route in parts.rules.listed()
            ],
            "refused_file": parts.rules.refusal,
        }

    @router.get("/engines")
    def engines(caller: Annotated[Caller, may_look]) -> dict[str, Any]:
        """List the engines of this installation."""
        return {"engines": [vars(engine) for engine in parts.engines]}

    @router.get("/ledger")
    def ledger(caller: Annotated[Caller, may_look]) -> dict[str, Any]:
        """Account for everything that is kept."""
        return ledger_of(parts, caller)

    return router


def ledger_of(parts: WebParts, caller: Caller) -> dict[str, Any]:
    """Account for everything that is kept, without looking at each file.

    Raises
    ------
    NotAllowed
        The caller sees only some studies.
    """
    if caller.visible.sender_peers is not None:
        raise NotAllowed("The ledger accounts for all studies; this key sees only some.")
    patience = Patience(gathering_at_most_s=parts.settings.quiet.at_most_s)
    said = account(parts.database, parts.blobs, parts.now(), queue=parts.queue, patience=patience, check_files=False)
    return views.ledger(said)


def study_state(word: str) -> StudyState:
    """Read a state's name."""
    try:
        return StudyState(word)
    except ValueError as error:
        raise BadRequest(f"There is no state {word[:40]!r}; there are {', '.join(StudyState)}.") from error


def _may_see(parts: WebParts, caller: Caller, study_instance_uid: str) -> bool:
    if caller.visible.sender_peers is None:
        return True
    try:
        parts.index.study(study_instance_uid, caller.visible)
    except NotKept:
        return False
    return True
