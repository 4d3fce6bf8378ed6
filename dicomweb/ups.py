"""UPS-RS: work items, of engines of this node and of others. Source: PS3.18 11 (Worklist Service), PS3.4 CC."""

# No postponed annotations here: the framework reads `Annotated[…, Depends]` made inside functions.

from datetime import datetime
from typing import Annotated, Any
from uuid import uuid4

import orjson
from anyio import to_thread
from fastapi import APIRouter, Depends
from starlette.requests import Request
from starlette.responses import Response

from dicomweb.addresses import BaseUrl
from dicomweb.caller import Caller, Requires
from dicomweb.errors import BadRequest, TooLarge, UnsupportedMediaType
from dicomweb.media_types import DICOM_JSON, DICOM_XML, JSON, accepted_by, choose
from dicomweb.names import Uid
from dicomweb.native_xml import native_xml
from dicomweb.ports import WebParts
from dicomweb.qido import PREFIX, answer_rows, query_of
from dicomweb.uploads import media_type
from dicomweb.workitem_rules import (
    NAMES_OF_ENGINES,
    TRANSACTION_UID,
    check_changes,
    check_state,
    check_uid,
    completed,
    engine_of,
    study_of,
)
from dicomweb.xml_reader import read_native_xml
from storage.audit import AuditAction, AuditOutcome
from storage.errors import UnreadableInstance, WorkitemConflict
from storage.model_writer import first_text
from storage.subscriptions import FILTERED, GLOBAL, ask_to_cancel
from storage.urgency import Priorities, urgency_of
from storage.workitems import STATE, Workitem, Workitems, end_canceled

_MOST = 1 << 20
_NAME = "dicom-node"


def routes(parts: WebParts, requires: Requires, base_url: BaseUrl) -> APIRouter:
    """Give the worklist resources."""
    router = APIRouter(prefix=f"{PREFIX}/workitems", tags=["UPS-RS"])
    worklist = _Worklist(parts, base_url)
    may_read, may_ask = Depends(requires("read")), Depends(requires("predict"))

    @router.get("")
    def search(request: Request, caller: Annotated[Caller, may_read]) -> Response:
        """Search for work items."""
        return worklist.search(request, caller)

    @router.post("", status_code=201, response_class=Response)
    async def create(request: Request, caller: Annotated[Caller, may_ask]) -> Response:
        """Create a work item; one that names an engine of this node and a study is performed by the node."""
        dataset = await _dataset(request)
        return await to_thread.run_sync(worklist.create, request, caller, dataset)

    @router.get("/{workitem}")
    def retrieve(workitem: Uid, request: Request, caller: Annotated[Caller, may_read]) -> Response:
        """Give a work item."""
        return worklist.retrieve(request, caller, workitem)

    @router.post("/{workitem}", response_class=Response)
    async def update(workitem: Uid, request: Request, caller: Annotated[Caller, may_ask]) -> Response:
        """Change attributes of a work item."""
        dataset = await _dataset(request)
        return await to_thread.run_sync(worklist.update, request, caller, workitem, dataset)

    @router.put("/{workitem}/state", response_class=Response)
    async def change_state(workitem: Uid, request: Request, caller: Annotated[Caller, may_ask]) -> Response:
        """Claim, complete or cancel a work item."""
        dataset = await _dataset(request)
        return await to_thread.run_sync(worklist.change_state, request, caller, workitem, dataset)

    @router.post("/{workitem}/cancelrequest", status_code=202, response_class=Response)
    async def request_cancellation(workitem: Uid, request: Request, caller: Annotated[Caller, may_ask]) -> Response:
        """Ask that a work item be not done."""
        dataset = await _dataset(request, may_be_empty=True)
        return await to_thread.run_sync(worklist.cancel, caller, workitem, dataset)

    return router


class _Worklist:
    def __init__(self, parts: WebParts, base_url: BaseUrl) -> None:
        self._parts = parts
        self._base_url = base_url

    @property
    def _items(self) -> Workitems:
        return Workitems(self._parts.database)

    def search(self, request: Request, caller: Caller) -> Response:
        query = query_of(request.query_params.multi_items())
        found = self._items.search(query.keys, caller.visible)
        most = query.limit if query.limit is not None else len(found)
        page = found[query.offset : query.offset + most]
        headers = {}
        if len(found) > query.offset + len(page):
            headers["Warning"] = f'299 {_NAME} "There are additional results that can be requested."'
        return answer_rows(request, [dict(each.attributes) for each in page], headers)

    def create(self, request: Request, caller: Caller, dataset: dict[str, Any]) -> Response:
        parts, now = self._parts, self._parts.now()
        uid = _named_in_query(request, "workitem") or first_text(dataset, "00080018") or f"2.25.{uuid4().int}"
        check_uid(uid)
        if uid in (GLOBAL, FILTERED):
            raise BadRequest("This UID names all work items.")
        attributes, was_changed = completed(dataset, uid, now)
        engine = engine_of(attributes, [each.name for each in parts.engines])
        study = study_of(attributes)
        if engine and not study:
            raise BadRequest("The Input Information Sequence names no study, or several: an engine reads one.")
        # A study that is still to come is waited for; who sees only some studies names one of these.
        if engine and caller.visible.sender_peers is not None:
            parts.index.study(study, caller.visible)
        item = self._items.create(uid, attributes, study_instance_uid=study, engine=engine, at=now)
        self._say_urgency(caller, item, dataset, now)
        self._note(caller, study, f"work item {uid} created for {engine or 'others'}")
        url = f"{self._base_url(request)}{PREFIX}/workitems/{uid}"
        headers = {"Location": url, "Content-Location": url}
        if was_changed:
            headers["Warning"] = f"299 {url}: The Workitem was created with modifications."
        return Response(status_code=201, headers=headers)

    def retrieve(self, request: Request, caller: Caller, workitem: str) -> Response:
        kind = choose(accepted_by(request), (DICOM_JSON, JSON, DICOM_XML))
        item = self._items.get(workitem, caller.visible)
        body = native_xml(item.attributes) if kind == DICOM_XML else orjson.dumps([item.attributes])
        return Response(body, media_type=kind, headers={"Cache-Control": "no-cache"})

    def update(self, request: Request, caller: Caller, workitem: str, dataset: dict[str, Any]) -> Response:
        transaction_uid = _named_in_query(request, "transaction") or first_text(dataset, TRANSACTION_UID)
        changes = check_changes(dataset)
        now = self._parts.now()
        item = self._items.update(workitem, changes, transaction_uid, now, caller.visible)
        self._say_urgency(caller, item, changes, now)
        return Response(status_code=200, headers=self._content_location(request, workitem))

    def _say_urgency(self, caller: Caller, item: Workitem, said: dict[str, Any], now: datetime) -> None:
        """Have all work on a study be as urgent as who may see it says."""
        urgency = urgency_of(said)
        if urgency is None or not item.study_instance_uid or caller.visible.sender_peers is not None:
            return
        source = f"ups:{item.workitem_uid}"
        Priorities(self._parts.database).say(item.study_instance_uid, source, urgency, now)

    def change_state(self, request: Request, caller: Caller, workitem: str, dataset: dict[str, Any]) -> Response:
        to = check_state(first_text(dataset, STATE))
        transaction_uid = first_text(dataset, TRANSACTION_UID) or _named_in_query(request, "transaction")
        check_uid(transaction_uid)
        changed = self._items.change_state(workitem, to, transaction_uid, self._parts.now(), caller.visible)
        headers = self._content_location(request, workitem)
        if not changed:
            headers["Warning"] = f'299 {_NAME} "The UPS is already in the requested state of {to}."'
        else:
            self._note(caller, "", f"work item {workitem}: {to}")
        return Response(status_code=200, headers=headers)

    def cancel(self, caller: Caller, workitem: str, dataset: dict[str, Any]) -> Response:
        reason = first_text(dataset, "00741238") or f"Cancellation asked for by {caller.name}."
        now = self._parts.now()
        if not self._items.cancel_scheduled(workitem, reason, now, caller.visible):
            item = self._items.get(workitem, caller.visible)
            self._cancel_in_progress(item, dataset, caller, reason, now)
        self._note(caller, "", f"work item {workitem}: cancellation asked for")
        return Response(status_code=202)

    def _cancel_in_progress(
        self, item: Workitem, asked: dict[str, Any], caller: Caller, reason: str, now: datetime
    ) -> None:
        """End what the node performs itself; have others that perform one be told (PS3.4 CC.2.2.3)."""
        with self._parts.database.write() as connection:
            if item.job_id:
                end_canceled(connection, item, reason, now)
            elif not ask_to_cancel(connection, item, asked, caller.name, now):
                raise WorkitemConflict("Another performs the work item, and cannot be told.")

    def _content_location(self, request: Request, workitem: str) -> dict[str, str]:
        return {"Content-Location": f"{self._base_url(request)}{PREFIX}/workitems/{workitem}"}

    def _note(self, caller: Caller, study: str, detail: str) -> None:
        now = self._parts.now()
        self._parts.audit.record(AuditAction.OPERATE, caller.name, study or None, AuditOutcome.DONE, detail, now)


def _named_in_query(request: Request, what: str) -> str:
    """Give a UID of the query: `?1.2.3`, as the standard writes it, or by a name that clients use."""
    names = {f"{what}-uid", f"{what}uid", f"{what}_uid", what, NAMES_OF_ENGINES.get(what, what)}
    for name, value in request.query_params.multi_items():
        if name.lower() in names:
            return value
        if not value and name.replace(".", "").isdigit():
            return name
    bare = request.url.query
    return bare if bare and bare.replace(".", "").isdigit() else ""


async def _dataset(request: Request, *, may_be_empty: bool = False) -> dict[str, Any]:
    """Read the one data set of a request."""
    content = b""
    async for piece in request.stream():
        content += piece
        if len(content) > _MOST:
            raise TooLarge(f"A work item may have {_MOST} bytes.")
    if not content and may_be_empty:
        return {}
    kind = media_type(request.headers.get("content-type", DICOM_JSON)).name
    if kind == DICOM_XML:
        try:
            return read_native_xml(content)
        except UnreadableInstance as error:
            raise BadRequest(str(error)) from error
    if kind not in (DICOM_JSON, JSON):
        raise UnsupportedMediaType(f"Send {DICOM_JSON} or {DICOM_XML}.")
    try:
        said = orjson.loads(content)
    except orjson.JSONDecodeError as error:
        raise BadRequest("The work item is no JSON.") from error
    datasets = said if isinstance(said, list) else [said]
    if len(datasets) != 1 or not isinstance(datasets[0], dict):
        raise BadRequest("A request holds one work item.")
    return datasets[0]
