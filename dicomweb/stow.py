"""STOW-RS: instances come in through the one door, as streams. Source: PS3.18 10.5 (Store Transaction), Annex I."""

# No postponed annotations here: the framework reads `Annotated[…, Depends]` made inside functions.

import logging
from collections import deque
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from functools import partial
from typing import Annotated, Any, BinaryIO, cast

import orjson
from anyio import CapacityLimiter
from fastapi import APIRouter, Depends
from pydicom.uid import UID
from starlette.requests import Request
from starlette.responses import Response

from configs.errors import NodeError
from dicomweb.addresses import BaseUrl
from dicomweb.assembly import METADATA_TYPES, Assembly, Waiting
from dicomweb.caller import Caller, Requires
from dicomweb.errors import BadRequest, TooLarge, Unfinished, UnsupportedMediaType
from dicomweb.media_types import DICOM, DICOM_JSON, DICOM_XML, JSON, MULTIPART, accepted_by, choose
from dicomweb.names import Uid
from dicomweb.native_xml import native_xml
from dicomweb.ports import WebParts
from dicomweb.qido import PREFIX
from dicomweb.uploads import BodyPart, Pull, media_type, parts_in, single, worked_on
from storage.blobs import BlobStore
from storage.errors import UnreadableInstance, UnsupportedSyntax
from storage.failures import OUT_OF_RESOURCES, reason_for
from storage.intake import Incoming, Intake
from storage.part10 import FileMeta, read_file_meta
from storage.records import Kept, Origin, OriginKind

log = logging.getLogger(__name__)

_MEGABYTE = 1_000_000
_PIECE = 1 << 20
#: Requests to store that are worked on at the same time; others wait, so that slow ones take no thread of a reader.
_AT_ONCE = 16
#: Instances that are made durable while the next ones come in, of all requests and of one.
_SYNCING, _SYNCING_OF_ONE = 16, 6
_TYPES = (DICOM, *METADATA_TYPES)
#: The request itself is broken: there are no further parts.
_BROKEN = (Unfinished, BadRequest)


def routes(parts: WebParts, requires: Requires, base_url: BaseUrl) -> APIRouter:
    """Give the store resources."""
    router = APIRouter(prefix=PREFIX, tags=["STOW-RS"])
    store = _Store(parts, base_url)
    may_store = Depends(requires("store"))

    @router.post("/studies", response_class=Response)
    async def studies(request: Request, caller: Annotated[Caller, may_store]) -> Response:
        """Store instances of any study."""
        return await store.answer(request, None)

    @router.post("/studies/{study}", response_class=Response)
    async def one_study(study: Uid, request: Request, caller: Annotated[Caller, may_store]) -> Response:
        """Store instances of one study."""
        return await store.answer(request, study)

    return router


@dataclass
class _Outcome:
    """What became of the instances of one request."""

    kept: list[tuple[Kept, str]] = field(default_factory=list)
    """Each with its SOP Class."""
    failed: list[tuple[FileMeta | None, int]] = field(default_factory=list)
    """Each with its Failure Reason; None: it is not known which instance it was."""
    too_large: bool = False

    def status(self) -> int:
        """Give the HTTP status. Source: PS3.18 Table 10.5.3-1."""
        if not self.failed:
            return 200
        if self.kept:
            return 202
        if self.too_large:
            return 413
        return 503 if {reason for _, reason in self.failed} == {OUT_OF_RESOURCES} else 409


class _Store:
    def __init__(self, parts: WebParts, base_url: BaseUrl) -> None:
        self._intake = parts.intake
        self._blobs = parts.blobs
        self._base_url = base_url
        self._limiter: CapacityLimiter | None = None
        self._settings = parts.settings
        self._syncing = ThreadPoolExecutor(_SYNCING, thread_name_prefix="stow")

    async def answer(self, request: Request, study: str | None) -> Response:
        """Store what a request brings, and say of each instance what became of it."""
        kind = choose(accepted_by(request), (DICOM_JSON, JSON, DICOM_XML))
        sent = media_type(request.headers.get("content-type", ""))
        boundary = sent.parameters.get("boundary", "")
        # Some senders leave the parts' type out; the parts themselves say it.
        if sent.name not in (MULTIPART, *_TYPES) or sent.wanted not in (*_TYPES, "*/*"):
            raise UnsupportedMediaType(f'Send multipart/related; type="…", or one part alone, of {", ".join(_TYPES)}.')
        origin = Origin(OriginKind.STOW, host=request.client.host if request.client else "")
        most = int(self._settings.http.store_part_mb * _MEGABYTE)

        def work(pull: Pull) -> _Outcome:
            parts = parts_in(pull, boundary, most) if sent.name == MULTIPART else iter([single(pull, sent, most)])
            return _Keeping(self._intake, self._blobs, self._syncing, origin, study).all_of(parts)

        if self._limiter is None:
            self._limiter = CapacityLimiter(_AT_ONCE)
        most_in_all = int(self._settings.http.store_request_mb * _MEGABYTE)
        outcome = await worked_on(request, work, self._limiter, most_in_all)
        if not outcome.kept and not outcome.failed:
            raise BadRequest("The request holds no instance.")
        return self._told(outcome, self._base_url(request) + PREFIX, study, kind)

    def _told(self, outcome: _Outcome, base: str, study: str | None, kind: str) -> Response:
        """Give the response data set. Source: PS3.18 Table I.2-1, I.2.2."""
        said: dict[str, Any] = {}
        studies = {kept.study_instance_uid for kept, _ in outcome.kept} | ({study} if study else set())
        if len(studies) == 1:
            said["00081190"] = {"vr": "UR", "Value": [f"{base}/studies/{studies.pop()}"]}
        named = [(meta, reason) for meta, reason in outcome.failed if meta is not None]
        unnamed = [reason for meta, reason in outcome.failed if meta is None]
        if named:
            said["00081198"] = _sequence(
                [_referenced(meta.sop_class_uid, meta.sop_instance_uid) | _reason(reason) for meta, reason in named]
            )
        if outcome.kept:
            said["00081199"] = _sequence([_kept(kept, sop_class, base) for kept, sop_class in outcome.kept])
        if unnamed:
            said["0008119A"] = _sequence([_reason(reason) for reason in unnamed])
        status = outcome.status()
        headers = {"Retry-After": "30"} if status == 503 else {}
        body = native_xml(said) if kind == DICOM_XML else orjson.dumps(said)
        return Response(body, status_code=status, media_type=kind, headers=headers)


class _Keeping:
    """Keeps what one request brings, part by part."""

    def __init__(
        self, intake: Intake, blobs: BlobStore, syncing: ThreadPoolExecutor, origin: Origin, study: str | None
    ) -> None:
        self._intake = intake
        self._syncing = syncing
        self._pending: deque[tuple[FileMeta, Future[Kept]]] = deque()
        self._origin = origin
        self._study = study
        self._assembly = Assembly(blobs, intake.check_reserve)
        self._outcome = _Outcome()

    def all_of(self, parts: Iterable[BodyPart]) -> _Outcome:
        """Keep the instances of all parts, and say what became of each."""
        with closing(self._assembly):
            try:
                for part in parts:
                    if part.kind.name == DICOM:
                        self._keep_file(part)
                    elif part.kind.name in METADATA_TYPES or self._assembly.count:
                        self._keep_assembled(part)
                    else:
                        self._failed(None, UnreadableInstance())
            finally:
                self._settle(0)
            for meta in self._assembly.broken:
                self._failed(meta, UnreadableInstance())
            for instance in self._assembly.rest():
                self._failed(instance.named, UnreadableInstance())
        return self._outcome

    def _keep_file(self, part: BodyPart) -> None:
        meta: FileMeta | None = None
        try:
            file = cast(BinaryIO, part.content)
            meta = read_file_meta(file)
            _check_syntax(meta)
            self._keep(meta, iter(partial(file.read, _PIECE), b""))
        except _BROKEN:
            raise
        except NodeError as error:
            self._failed(meta, error)

    def _keep_assembled(self, part: BodyPart) -> None:
        """Keep the instances that are whole with this part."""
        try:
            for instance in self._assembly.take(part):
                self._keep_instance(instance)
        except _BROKEN:
            raise
        except NodeError as error:  # of the part: which instances it was of is not known
            self._failed(None, error)

    def _keep_instance(self, instance: Waiting) -> None:
        try:
            meta, pieces = self._assembly.pieces(instance)
            self._keep(meta, pieces)
        except NodeError as error:
            self._failed(instance.named, error)

    def _keep(self, meta: FileMeta, pieces: Iterable[bytes]) -> None:
        uids = (meta.sop_class_uid, meta.sop_instance_uid, meta.transfer_syntax_uid)
        with ExitStack() as stack:
            incoming = stack.enter_context(self._intake.open(self._origin, *uids))
            for piece in pieces:
                incoming.write(piece)
            held = stack.pop_all()
        self._pending.append((meta, self._syncing.submit(self._made_durable, incoming, held)))
        self._settle(_SYNCING_OF_ONE)

    def _made_durable(self, incoming: Incoming, held: ExitStack) -> Kept:
        with held:
            return incoming.keep(study_instance_uid=self._study)

    def _settle(self, most: int) -> None:
        """Wait until no more than so many are on their way, and note what became of the others, in their order."""
        while len(self._pending) > most:
            meta, kept = self._pending.popleft()
            try:
                self._outcome.kept.append((kept.result(), meta.sop_class_uid))
            except NodeError as error:
                self._failed(meta, error)

    def _failed(self, meta: FileMeta | None, error: NodeError) -> None:
        too_large = isinstance(error, TooLarge)
        self._outcome.too_large |= too_large
        reason = OUT_OF_RESOURCES if too_large else reason_for(error)
        self._outcome.failed.append((meta if _is_named(meta) else None, reason))
        log.warning("instance not kept", extra={"action": "store_failed", "error": error.code})


def _check_syntax(meta: FileMeta) -> None:
    """Take transfer syntaxes of the standard alone: what nobody can name nobody can read again."""
    uid = UID(meta.transfer_syntax_uid)
    if not (uid.is_valid and not uid.is_private and uid.is_transfer_syntax):
        raise UnsupportedSyntax


def _is_named(meta: FileMeta | None) -> bool:
    return meta is not None and UID(meta.sop_class_uid).is_valid and UID(meta.sop_instance_uid).is_valid


def _kept(kept: Kept, sop_class_uid: str, base: str) -> dict[str, Any]:
    path = f"studies/{kept.study_instance_uid}/series/{kept.series_instance_uid}/instances/{kept.sop_instance_uid}"
    url = {"00081190": {"vr": "UR", "Value": [f"{base}/{path}"]}}
    return _referenced(sop_class_uid, kept.sop_instance_uid) | url


def _referenced(sop_class_uid: str, sop_instance_uid: str) -> dict[str, Any]:
    return {
        "00081150": {"vr": "UI", "Value": [sop_class_uid]},
        "00081155": {"vr": "UI", "Value": [sop_instance_uid]},
    }


def _reason(code: int) -> dict[str, Any]:
    return {"00081197": {"vr": "US", "Value": [code]}}


def _sequence(items: list[dict[str, Any]]) -> dict[str, Any]:
    return {"vr": "SQ", "Value": items}
