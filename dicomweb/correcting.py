"""Corrections, rejections and retractions of one study: what waits, and what a person says to it."""

# No postponed annotations here: the framework reads `Annotated[…, Depends]` made inside functions.

from typing import Annotated, Any

from fastapi import APIRouter, Depends
from pydantic import BaseModel, ConfigDict, Field

from dicomweb import views
from dicomweb.caller import Caller, Requires
from dicomweb.errors import BadRequest
from dicomweb.names import Uid
from dicomweb.ports import WebParts
from storage.audit import AuditAction, AuditOutcome
from storage.corrections import Corrections
from storage.identity_change import IdentityChange
from storage.rejections import TITLES, Rejections
from storage.retractions import Retraction, Retractions
from storage.variants import Variants
from storage.waiting import apply_all, refuse_all, waiting


class Retract(BaseModel):
    """Why results are taken back."""

    model_config = ConfigDict(extra="forbid")

    title: str = "113001"
    """Code value: 113001 quality, 113037 patient safety, 113038 wrong worklist entry, 113039 retention."""
    said: str = Field(min_length=1, max_length=200)
    """Why, for who gets the note; no patient data."""


class Identity(BaseModel):
    """Whose a study is."""

    model_config = ConfigDict(extra="forbid")

    values: dict[str, str]
    """Keyword → value: PatientID, IssuerOfPatientID, PatientName, PatientBirthDate, PatientSex, AccessionNumber."""


def routes(parts: WebParts, requires: Requires) -> APIRouter:
    """Give what belongs to one study."""
    router = APIRouter(prefix="/studies/{study_instance_uid}")
    router.include_router(_waiting(parts, requires))
    router.include_router(_person(parts, requires))
    return router


def _note(parts: WebParts, caller: Caller, uid: str, detail: str, action: AuditAction = AuditAction.OPERATE) -> None:
    parts.audit.record(action, caller.name, uid, AuditOutcome.DONE, detail, parts.now())


def _waiting(parts: WebParts, requires: Requires) -> APIRouter:
    router = APIRouter()
    corrections, rejections = Corrections(parts.database, parts.blobs), Rejections(parts.database)
    may_read, may_operate = Depends(requires("read")), Depends(requires("operate"))

    @router.get("/corrections")
    def look(study_instance_uid: Uid, caller: Annotated[Caller, may_read]) -> dict[str, Any]:
        """Give corrections that wait, rejection notes, and retractions."""
        parts.index.study(study_instance_uid, caller.visible)
        taken_back = Retractions(parts.database).of_study(study_instance_uid)
        return {
            "held": [views.held_correction(each) for each in corrections.held(study_instance_uid)],
            "notes": [views.note(each) for each in rejections.of_study(study_instance_uid)],
            "retractions": [views.retraction(each) for each in taken_back],
        }

    @router.post("/corrections/apply")
    def apply(study_instance_uid: Uid, caller: Annotated[Caller, may_operate]) -> dict[str, int]:
        """Make all corrections, and follow all rejection notes, that wait."""
        parts.index.study(study_instance_uid, caller.visible)
        found = waiting(study_instance_uid, corrections, rejections)
        apply_all(found, corrections, rejections, by=caller.name, at=parts.now())
        _note(parts, caller, study_instance_uid, f"{found} applied")
        return {"corrections": len(found.corrections), "notes": len(found.notes)}

    @router.post("/corrections/refuse")
    def refuse(study_instance_uid: Uid, caller: Annotated[Caller, may_operate]) -> dict[str, int]:
        """Refuse all corrections, and all rejection notes, that wait: the first images stay as they are."""
        parts.index.study(study_instance_uid, caller.visible)
        found = waiting(study_instance_uid, corrections, rejections)
        refuse_all(found, corrections, rejections, by=caller.name, at=parts.now())
        _note(parts, caller, study_instance_uid, f"{found} refused")
        return {"corrections": len(found.corrections), "notes": len(found.notes)}

    return router


def _person(parts: WebParts, requires: Requires) -> APIRouter:
    router = APIRouter()
    may_operate, may_retract = Depends(requires("operate")), Depends(requires("retract"))

    @router.post("/identity")
    def identity(study_instance_uid: Uid, wanted: Identity, caller: Annotated[Caller, may_operate]) -> dict[str, int]:
        """Correct whose the study is, in every image; its results are taken back and made anew."""
        parts.index.study(study_instance_uid, caller.visible)
        corrections, variants = Corrections(parts.database, parts.blobs), Variants(parts.database)
        change = IdentityChange(parts.index, parts.blobs, parts.intake, corrections, variants)
        changed = change.change(study_instance_uid, wanted.values, by=caller.name, at=parts.now())
        _note(parts, caller, study_instance_uid, f"identity corrected: {', '.join(sorted(wanted.values))}")
        return {"instances": changed}

    @router.post("/retract")
    def retract(study_instance_uid: Uid, why: Retract, caller: Annotated[Caller, may_retract]) -> dict[str, int]:
        """Take the results of the study back, wherever they went."""
        if why.title not in TITLES:
            raise BadRequest(f"There is no reason {why.title[:16]!r}; there are {', '.join(TITLES)}.")
        parts.index.study(study_instance_uid, caller.visible)
        retractions = Retractions(parts.database)
        runs = retractions.run_keys_of(study_instance_uid)
        for run_key in runs:
            asked = Retraction(run_key, study_instance_uid, why.title, why.said, caller.name, parts.now())
            retractions.ask(asked)
        detail = f"{len(runs)} runs retracted: {TITLES[why.title]}"
        _note(parts, caller, study_instance_uid, detail, AuditAction.RETRACT)
        return {"runs": len(runs)}

    return router
