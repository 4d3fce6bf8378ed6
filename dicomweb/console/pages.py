"""Pages of the console."""

# No postponed annotations here: the framework reads `Annotated[…, Depends]` made inside functions.

import re
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any
from zoneinfo import ZoneInfo

from fastapi import APIRouter, Depends, FastAPI, Form, Query
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, RedirectResponse, Response

from dicomweb import views
from dicomweb.accesses import Accesses
from dicomweb.api import REFUSED_FOR, ledger_of, report_of, study_state
from dicomweb.auth import SESSION_COOKIE, SESSION_LASTS_S, Access
from dicomweb.caller import Caller
from dicomweb.errors import NotAuthenticated
from dicomweb.names import DeliveryId, Uid
from dicomweb.ports import WebParts
from dicomweb.seg_pictures import segmentations_of_others
from storage.audit import AuditAction, AuditOutcome
from storage.errors import NotKept
from storage.records import StudyState
from storage.visibility import CANONICAL_FORM

_HERE = Path(__file__).parent
_PAGE = 50
#: Nothing but our own style sheet and pictures is loaded.
_POLICY = "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; frame-ancestors 'self'"
#: State of a study, job or delivery → how its chip looks.
_MOOD = {
    **dict.fromkeys(("answered", "done", "delivered", "confirmed", "accepted"), "good"),
    **dict.fromkeys(("failed", "quarantined", "refused"), "bad"),
    **dict.fromkeys(("gathering", "analysing", "queued", "running", "waiting", "sending"), "busy"),
}


def routes(parts: WebParts, pages: "Pages", access: Access, accesses: Accesses) -> APIRouter:
    """Give /console."""
    router = APIRouter(include_in_schema=False)
    router.include_router(_door(pages, access))
    router.include_router(_rooms(parts, pages, access, accesses))
    return router


def about(app: FastAPI, pages: "Pages", access: Access) -> APIRouter:
    """Give /openapi.json, and /docs which shows it without scripts."""
    router = APIRouter(include_in_schema=False)
    known = Depends(access.requires(""))

    @router.get("/openapi.json")
    def openapi(caller: Annotated[Caller, known]) -> dict[str, Any]:
        return app.openapi()

    @router.get("/docs")
    def docs(caller: Annotated[Caller, known]) -> HTMLResponse:
        return pages.answer("docs.html", {"paths": app.openapi()["paths"], "here": "docs"})

    return router


def _door(pages: "Pages", access: Access) -> APIRouter:
    router = APIRouter()

    @router.get("/")
    def root() -> RedirectResponse:
        return RedirectResponse("/console")

    @router.get("/console/style.css")
    def style() -> FileResponse:
        return FileResponse(
            _HERE / "static" / "style.css", media_type="text/css", headers={"Cache-Control": "max-age=300"}
        )

    @router.get("/console/login")
    def login_page(next: Annotated[str, Query(max_length=4000)] = "") -> HTMLResponse:  # noqa: A002 (as it is written)
        return pages.answer("login.html", {"wrong": False, "next": _own_page(next)})

    @router.post("/console/login")
    def login(
        request: Request,
        key: Annotated[str, Form(max_length=1000)],
        next: Annotated[str, Form(max_length=4000)] = "",  # noqa: A002 (as it is written)
    ) -> Response:
        try:
            token = access.log_in(key.strip())
        except NotAuthenticated:
            return pages.answer("login.html", {"wrong": True, "next": _own_page(next)}, status=401)
        response = RedirectResponse(_own_page(next) or "/console", status_code=303)
        is_secure = request.url.scheme == "https" or request.headers.get("x-forwarded-proto") == "https"
        response.set_cookie(
            SESSION_COOKIE, token, httponly=True, samesite="strict", secure=is_secure, max_age=SESSION_LASTS_S
        )
        return response

    @router.post("/console/logout")
    def logout(request: Request, caller: Annotated[Caller, Depends(access.requires("console"))]) -> Response:
        access.log_out(request.cookies.get(SESSION_COOKIE, ""))
        response = RedirectResponse("/console/login", status_code=303)
        response.delete_cookie(SESSION_COOKIE)
        return response

    return router


def _rooms(parts: WebParts, pages: "Pages", access: Access, accesses: Accesses) -> APIRouter:
    router = APIRouter()
    may_look = Depends(access.requires("console"))

    @router.get("/console")
    def studies(
        caller: Annotated[Caller, may_look],
        state: Annotated[str, Query(max_length=64)] = "",
        page: Annotated[int, Query(ge=1, le=100_000)] = 1,
    ) -> Response:
        return pages.studies(caller, state, page)

    @router.post("/console/deliveries/{delivery_id}/retry")
    def retry(delivery_id: DeliveryId, caller: Annotated[Caller, Depends(access.requires("operate"))]) -> Response:
        uid = parts.deliveries.delivery(delivery_id).study_instance_uid
        parts.index.study(uid, caller.visible)
        parts.deliveries.ask_again(delivery_id, f"asked for by {caller.name}", parts.now())
        parts.audit.record(AuditAction.OPERATE, caller.name, uid, AuditOutcome.DONE, "retry of a delivery", parts.now())
        return RedirectResponse(f"/console/studies/{uid}", status_code=303)

    @router.get("/console/studies/{study_instance_uid}")
    def study(study_instance_uid: Uid, caller: Annotated[Caller, may_look]) -> HTMLResponse:
        shown = pages.study(caller, study_instance_uid)
        accesses.note(caller, study_instance_uid, "console")
        return shown

    @router.get("/console/studies/{study_instance_uid}/rules")
    def tried(study_instance_uid: Uid, caller: Annotated[Caller, may_look]) -> HTMLResponse:
        shown = pages.rules(caller, study_instance_uid)
        accesses.note(caller, study_instance_uid, "rules")
        return shown

    @router.get("/console/peers")
    def peers(caller: Annotated[Caller, may_look]) -> HTMLResponse:
        return pages.peers(caller)

    @router.get("/console/ledger")
    def ledger(caller: Annotated[Caller, may_look]) -> HTMLResponse:
        return pages.answer("ledger.html", {"ledger": ledger_of(parts, caller), "here": "ledger"}, caller=caller)

    @router.get("/console/system")
    def system(caller: Annotated[Caller, may_look]) -> HTMLResponse:
        return pages.system(caller)

    return router


class Pages:
    """Renders pages."""

    def __init__(self, parts: WebParts, *, viewer_at: Callable[[], str]) -> None:
        """Prepare; `viewer_at`: where the viewer shows the study whose UID is put behind it, empty without viewer."""
        self._parts = parts
        self._zone = ZoneInfo(parts.settings.node.timezone)
        self._environment = Environment(
            loader=FileSystemLoader(_HERE / "templates"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._environment.filters |= {"clock": self._clock, "mood": _mood, "person": _person, "date": _date}
        self._environment.globals |= {"version": parts.version, "settings": parts.settings}
        self._environment.globals |= {"viewer_at": viewer_at, "canonical_form": CANONICAL_FORM}

    def answer(
        self, template: str, values: Mapping[str, Any], *, caller: Caller | None = None, status: int = 200
    ) -> HTMLResponse:
        """Render a page."""
        always = {"refresh": 0, "here": "", "caller": caller}
        text = self._environment.get_template(template).render({**always, **values})
        headers = {"Content-Security-Policy": _POLICY, "Cache-Control": "no-store"}
        return HTMLResponse(text, status_code=status, headers=headers)

    def problem(self, status: int, detail: str) -> Response:
        """Say why there is no page; who is not known yet may log in."""
        if status == 401:
            return RedirectResponse("/console/login", status_code=303)
        return self.answer("problem.html", {"status": status, "detail": detail}, status=status)

    def studies(self, caller: Caller, state: str, page: int) -> HTMLResponse:
        """List studies with their states and reasons."""
        states = [study_state(state)] if state else None
        found = self._parts.index.studies(
            visible=caller.visible, states=states, limit=_PAGE + 1, offset=(page - 1) * _PAGE
        )
        return self.answer(
            "studies.html",
            {
                "studies": [views.study_line(each) for each in found[:_PAGE]],
                "totals": self._parts.index.counts(caller.visible),
                "states": list(StudyState),
                "state": state,
                "page": page,
                "more": len(found) > _PAGE,
                "here": "studies",
                "refresh": 5,
            },
            caller=caller,
        )

    def study(self, caller: Caller, study_instance_uid: str) -> HTMLResponse:
        """Show the way of one study, its results and deliveries."""
        study = views.study_page(self._parts, study_instance_uid, caller.visible)
        try:
            report = report_of(self._parts, study_instance_uid, caller)
        except NotKept:
            report = ""
        busy = study["state"] in ("gathering", "analysing")
        return self.answer(
            "study.html",
            {
                "study": study,
                "report": report,
                "segmentations": segmentations_of_others(self._parts, study_instance_uid, caller.visible),
                "here": "studies",
                "refresh": 3 if busy else 0,
            },
            caller=caller,
        )

    def rules(self, caller: Caller, study_instance_uid: str) -> HTMLResponse:
        """Show what the rules say of a study now."""
        tried = self._parts.rules.tried(study_instance_uid, caller.visible)
        values = {"tried": tried, "refusal": self._parts.rules.refusal, "here": "studies"}
        return self.answer("rules.html", values, caller=caller)

    def peers(self, caller: Caller) -> HTMLResponse:
        """Show peers, and who was refused."""
        refused = self._parts.associations.refused_since(self._parts.now() - REFUSED_FOR)
        values = {"peers": self._parts.peers, "refused": [views.refused(each) for each in refused], "here": "peers"}
        return self.answer("peers.html", values, caller=caller)

    def system(self, caller: Caller) -> HTMLResponse:
        """Show engines, rules, disk."""
        values = {
            "engines": self._parts.engines,
            "routes": self._parts.rules.listed(),
            "refusal": self._parts.rules.refusal,
            "free_gb": self._parts.blobs.free_bytes() / 1e9,
            "totals": self._parts.index.counts(caller.visible),
            "here": "system",
        }
        return self.answer("system.html", values, caller=caller)

    def _clock(self, moment: str | None) -> str:
        if not moment:
            return "-"
        at = datetime.fromisoformat(moment).astimezone(self._zone)
        return f"{at:%Y-%m-%d %H:%M:%S} {at.tzname()}"


def _own_page(path: str) -> str:
    """Give a page of ours that somebody wanted to see before logging in; empty for anything else."""
    is_ours = re.fullmatch(r"/(?:viewer|console)(?:[/?][\w./?=&%,:+-]*)?", path, re.ASCII) is not None
    return path if is_ours else ""


def _person(name: str) -> str:
    """Show a name as people write it: family name, given names (the same in other scripts)."""
    groups = [", ".join(filter(None, (part.strip() for part in group.split("^")))) for group in name.split("=")]
    shown = list(filter(None, groups))
    return f"{shown[0]} ({'; '.join(shown[1:])})" if len(shown) > 1 else "".join(shown) or "-"


def _date(value: str) -> str:
    is_date = len(value) == 8 and value.isdigit()
    return f"{value[:4]}-{value[4:6]}-{value[6:]}" if is_date else value


def _mood(state: str) -> str:
    return _MOOD.get(state, "calm")
