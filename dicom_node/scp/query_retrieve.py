"""Query/Retrieve: who asks, whether the request fits, what is answered when it does not, and what is audited.

Source: PS3.4 Annex C.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, ClassVar, cast

from pynetdicom import evt, sop_class
from pynetdicom.dimse_primitives import C_FIND, C_GET, C_MOVE
from pynetdicom.events import Event
from pynetdicom.presentation import PresentationContext
from pynetdicom.service_class import ServiceClass

from configs.errors import NodeError
from dicom_node.errors import IdentifierMismatch, PeerUnreachable
from dicom_node.scp.answers import Answers
from dicom_node.scp.contexts import QUERY_RETRIEVE_SERVICE_CLASS, SERVICE_CLASSES
from dicom_node.scp.encoding import Form
from dicom_node.scp.find import Negotiated, answer_find, names_of
from dicom_node.scp.get import Get
from dicom_node.scp.identifier import LEVELS, Identifier, QueryLevel, check_query, check_retrieval, read_identifier
from dicom_node.scp.move import Move, destination
from dicom_node.scp.register import OpenAssociation
from dicom_node.scp.retrieve import Retrieval, begin, instances_of, outgoing
from dicom_node.scp.services import ScpParts
from dicom_node.scp.status import (
    MOVE_DESTINATION_UNKNOWN,
    OUT_OF_RESOURCES,
    OUT_OF_RESOURCES_FOR_MATCHES,
    PROCESSING_FAILURE,
    SOP_CLASS_NOT_SUPPORTED,
    query_status_for,
)
from dicom_node.scu.association import Timeouts
from dicom_node.scu.store import Originator
from dicom_node.scu.transcoding import Transcoder
from storage.audit import Audit, AuditAction, AuditOutcome
from storage.blobs import BlobStore
from storage.errors import StorageError
from storage.index import Index
from storage.matching import values_of
from storage.records import EVERYTHING, InstanceRecord

log = logging.getLogger(__name__)

#: What we support of extended negotiation, byte by byte, by service: relational queries, combined date and time,
#: fuzzy matching, time zone adjustment, multi-frame conversion; relational retrieval, multi-frame conversion.
#: Source: PS3.4 C.5.1.1, C.5.2.1, C.5.3.1.
EXTENDED: dict[str, bytes] = {"find": b"\x01\x01\x01\x00\x00", "move": b"\x01\x00", "get": b"\x01\x00"}


class QueryRetrieve(ServiceClass):
    """Hands a request to our handler whole; the handler answers it itself."""

    EVENTS: ClassVar[dict[type, evt.EventType]] = {
        C_FIND: evt.EVT_C_FIND,
        C_MOVE: evt.EVT_C_MOVE,
        C_GET: evt.EVT_C_GET,
    }

    def SCP(self, req: Any, context: PresentationContext) -> None:  # noqa: N802 (pynetdicom's name)
        """Serve one request."""
        attributes = {"request": req, "context": context.as_tuple, "_is_cancelled": self.is_cancelled}
        evt.trigger(self.assoc, self.EVENTS[type(req)], attributes)


# pynetdicom registers further SOP Classes, not further service classes; this table is where it looks them up.
sop_class._SERVICE_CLASSES[QUERY_RETRIEVE_SERVICE_CLASS] = QueryRetrieve


@dataclass(frozen=True)
class QueryParts:
    """What queries need beside the receiver."""

    index: Index
    blobs: BlobStore
    audit: Audit
    transcoder: Transcoder
    now: Callable[[], datetime]


class QueryService:
    """C-FIND, C-MOVE and C-GET, as a service of the receiver."""

    def __init__(self, parts: QueryParts) -> None:
        self._parts = parts

    def __call__(self, parts: ScpParts) -> Sequence[evt.EventHandlerType]:
        """Give the handlers."""
        return [
            (evt.EVT_SOP_EXTENDED, on_extended),
            (evt.EVT_C_FIND, self._on_find, [parts]),
            (evt.EVT_C_MOVE, self._on_move, [parts]),
            (evt.EVT_C_GET, self._on_get, [parts]),
        ]

    def _on_find(self, event: Event, receiver: ScpParts) -> None:
        """Answer one C-FIND."""
        with Request(event, receiver) as request:
            levels = request.levels()
            identifier = request.identifier()
            check_query(identifier, levels, relational=request.negotiated.relational)
            status, given = answer_find(
                identifier,
                request.negotiated,
                request.answers,
                index=self._parts.index,
                visible=EVERYTHING,
                retrieve_ae_title=request.called_ae_title,
                form=request.form,
                is_cancelled=request.is_cancelled,
            )
            detail = f"C-FIND {identifier.level}: {given} matches, 0x{status:04X}; keys: {_keys_of(identifier)}"
            record(self._parts, AuditAction.ACCESS, request, study_of(identifier), AuditOutcome.DONE, detail)

    def _on_move(self, event: Event, receiver: ScpParts) -> None:
        """Answer one C-MOVE."""
        with Request(event, receiver) as request:
            records = self._named(request)
            wanted = str(getattr(event.request, "MoveDestination", "") or "").strip()
            found = destination(wanted, dict(receiver.peers))
            if found is None:
                request.answers.final(MOVE_DESTINATION_UNKNOWN, comment="Unknown move destination")
                detail = f"C-MOVE to an unknown destination, 0x{MOVE_DESTINATION_UNKNOWN:04X}"
                self._record_export(request, records, AuditOutcome.REFUSED, detail)
                return
            retrieval = begin(request.answers, request.form, records)
            if retrieval is None:
                return
            name, peer = found
            move = Move(
                peer,
                [outgoing(record, self._parts.blobs) for record in records],
                calling_ae_title=peer.answer_as or receiver.settings.ae_title,
                originator=Originator(request.calling_ae_title, int(event.request.MessageID or 0)),
                transcoder=self._parts.transcoder,
                timeouts=Timeouts(
                    associate_s=receiver.settings.answer_within_s, answer_s=receiver.settings.answer_within_s
                ),
            )
            cancelled = move.run(retrieval, request.is_cancelled)
            self._finish(request, retrieval, records, f"C-MOVE to {name}", cancelled=cancelled)

    def _on_get(self, event: Event, receiver: ScpParts) -> None:
        """Answer one C-GET."""
        with Request(event, receiver) as request:
            records = self._named(request)
            retrieval = begin(request.answers, request.form, records)
            if retrieval is None:
                return
            get = Get(
                event.assoc,
                int(event.request.MessageID or 0),
                self._parts.transcoder,
                answer_within_s=receiver.settings.answer_within_s,
            )
            items = [outgoing(record, self._parts.blobs) for record in records]
            try:
                cancelled = get.run(items, retrieval, request.is_cancelled)
            except PeerUnreachable as error:
                log.warning("retrieval ended early", extra={"action": "get_ended", **request.facts, "why": str(error)})
                event.assoc.abort()
                retrieval.rest_failed(items)
                cancelled = False
            self._finish(request, retrieval, records, "C-GET", cancelled=cancelled)

    def _named(self, request: Request) -> list[InstanceRecord]:
        """Find what a retrieval names."""
        levels = request.levels()
        identifier = request.identifier()
        check_retrieval(identifier, levels, relational=request.negotiated.relational)
        return instances_of(identifier, self._parts.index, EVERYTHING)

    def _finish(
        self, request: Request, retrieval: Retrieval, records: Sequence[InstanceRecord], what: str, *, cancelled: bool
    ) -> None:
        status = retrieval.finish(cancelled=cancelled)
        counts = retrieval.counts
        detail = (
            f"{what}: {counts.completed + counts.warning} of {len(records)} instances taken,"
            f" {counts.failed} failed, 0x{status:04X}"
        )
        log.info("retrieval ended", extra={"action": "retrieval_ended", **request.facts, "outcome": detail})
        taken = counts.completed or counts.warning
        self._record_export(request, records, AuditOutcome.DONE if taken else AuditOutcome.FAILED, detail)

    def _record_export(
        self, request: Request, records: Sequence[InstanceRecord], outcome: AuditOutcome, detail: str
    ) -> None:
        """Write one event for each study that was asked for."""
        for study in dict.fromkeys(record.study_instance_uid for record in records):
            record(self._parts, AuditAction.EXPORT, request, study, outcome, detail)


def on_extended(event: Event) -> dict[str, bytes]:
    """Answer SOP Class Extended Negotiation: of what was asked for, what we do.

    Source: PS3.4 C.5.
    """
    answers: dict[str, bytes] = {}
    for uid, asked in cast("dict[str, bytes]", vars(event)["app_info"]).items():
        supported = EXTENDED.get(SERVICE_CLASSES.get(str(uid), ""))
        if supported is not None:
            answers[uid] = bytes(min(wish, 1) & ours for wish, ours in zip(asked, supported, strict=False))
    return answers


class Request:
    """One request; at its end what went wrong is answered, and never raised further."""

    def __init__(self, event: Event, receiver: ScpParts) -> None:
        self.event = event
        self.answers = Answers(event)
        self._receiver = receiver
        self._entry: OpenAssociation | None = receiver.register.of(event.assoc)

    def __enter__(self) -> Request:
        """Begin."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> bool:
        """Answer a failure."""
        if error is None:
            return True
        if not isinstance(error, NodeError):
            log.error("request not served: our fault", exc_info=error, extra={"action": "query_failed", **self.facts})
            self.answers.final(PROCESSING_FAILURE)
            return isinstance(error, Exception)
        offending = error.offending if isinstance(error, IdentifierMismatch) else None
        status = self._status_of(error)
        log.warning(
            "request not served",
            extra={"action": "query_failed", **self.facts, "error": error.code, "status": f"0x{status:04X}"},
        )
        self.answers.final(status, comment=str(error), offending=offending)
        return True

    def _status_of(self, error: NodeError) -> int:
        if isinstance(error, SopClassRefused):
            return SOP_CLASS_NOT_SUPPORTED
        return query_status_for(error, otherwise=self.out_of_resources)

    @property
    def out_of_resources(self) -> int:
        """Status where the index does not answer."""
        return OUT_OF_RESOURCES if isinstance(self.event.request, C_FIND) else OUT_OF_RESOURCES_FOR_MATCHES

    @property
    def facts(self) -> dict[str, object]:
        """What log lines carry."""
        return self._entry.facts if self._entry is not None else {}

    @property
    def actor(self) -> str:
        """Who asks, as the audit trail has it."""
        if self._entry is None:
            return "unknown"
        return f"{self._entry.origin.peer} ({self._entry.origin.calling_ae_title})"

    @property
    def calling_ae_title(self) -> str:
        """The requestor's name."""
        return self._entry.origin.calling_ae_title if self._entry is not None else ""

    @property
    def called_ae_title(self) -> str:
        """The node's name in this association."""
        return self._entry.origin.called_ae_title if self._entry is not None else self._receiver.settings.ae_title

    def levels(self) -> tuple[QueryLevel, ...]:
        """Levels of the model in use.

        Raises
        ------
        SopClassRefused
            The request names another SOP Class than its context.
        """
        uid = str(self.event.context.abstract_syntax)
        if str(self.event.request.AffectedSOPClassUID) != uid or uid not in LEVELS:
            raise SopClassRefused
        return LEVELS[uid]

    @property
    def form(self) -> Form:
        """How identifiers of this association are encoded."""
        return Form.of(str(self.event.context.transfer_syntax))

    @property
    def negotiated(self) -> Negotiated:
        """What of extended negotiation holds."""
        items = self.event.assoc.acceptor.sop_class_extended
        return Negotiated.of(items.get(self.event.context.abstract_syntax, b""))

    def identifier(self) -> Identifier:
        """Read the identifier.

        Raises
        ------
        SopClassRefused, IdentifierMismatch, UnreadableInstance
        """
        encoded = getattr(self.event.request, "Identifier", None)
        if encoded is None:
            raise IdentifierMismatch("the request has no identifier")
        return read_identifier(encoded.getvalue(), str(self.event.context.transfer_syntax))

    def is_cancelled(self) -> bool:
        """Tell whether to stop: the requestor cancelled, or the receiver ends."""
        return bool(self.event.is_cancelled) or self._receiver.stopping.is_set()


class SopClassRefused(IdentifierMismatch):
    """The request names another SOP Class than its presentation context."""


def record(
    parts: QueryParts,
    action: AuditAction,
    request: Request,
    study_instance_uid: str | None,
    outcome: AuditOutcome,
    detail: str,
) -> None:
    """Write the audit trail; the answer is given already, so a failure is logged."""
    try:
        parts.audit.record(action, request.actor, study_instance_uid, outcome, detail, parts.now())
    except StorageError as error:
        log.error("audit event not recorded", extra={"action": "audit_failed", "error": error.code, **request.facts})


def study_of(identifier: Identifier) -> str | None:
    """Give the one study that an identifier names; None: several or none."""
    named = values_of(identifier.unique(QueryLevel.STUDY), "UI")
    return named[0] if len(named) == 1 and all(each.isdigit() or each == "." for each in named[0]) else None


def _keys_of(identifier: Identifier) -> str:
    return names_of(sorted({key.path[0] for key in identifier.keys})) or "none"
