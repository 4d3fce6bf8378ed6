"""Delete, a service of this node's own (the standard has none): studies, series and instances go for good."""

# No postponed annotations here: the framework reads `Annotated[…, Depends]` made inside functions.

from typing import Annotated

from fastapi import APIRouter, Depends
from starlette.responses import Response

from dicomweb.caller import Caller, Requires
from dicomweb.names import Uid
from dicomweb.ports import WebParts
from dicomweb.qido import PREFIX
from storage.audit import AuditAction, AuditOutcome
from storage.deletion import Deletion, Named
from storage.errors import Undeletable


def routes(parts: WebParts, requires: Requires) -> APIRouter:
    """Give the resources that can be deleted."""
    router = APIRouter(prefix=f"{PREFIX}/studies/{{study}}", tags=["Delete"])
    may_delete = Depends(requires("delete"))

    def delete(caller: Caller, named: Named) -> Response:
        deletion = Deletion(parts.database, parts.blobs, parts.queue)
        try:
            deletion.delete(named, visible=caller.visible, by=caller.name, at=parts.now())
        except Undeletable as error:
            said = f"{named}: {error}"
            uid = named.study_instance_uid
            parts.audit.record(AuditAction.DELETE, caller.name, uid, AuditOutcome.REFUSED, said, parts.now())
            raise
        return Response(status_code=204)

    @router.delete("", status_code=204, response_class=Response)
    def study(study: Uid, caller: Annotated[Caller, may_delete]) -> Response:
        """Delete a study with all that was made of it."""
        return delete(caller, Named(study))

    @router.delete("/series/{series}", status_code=204, response_class=Response)
    def series(study: Uid, series: Uid, caller: Annotated[Caller, may_delete]) -> Response:
        """Delete a series."""
        return delete(caller, Named(study, series))

    @router.delete("/series/{series}/instances/{instance}", status_code=204, response_class=Response)
    def instance(study: Uid, series: Uid, instance: Uid, caller: Annotated[Caller, may_delete]) -> Response:
        """Delete an instance."""
        return delete(caller, Named(study, series, instance))

    return router
