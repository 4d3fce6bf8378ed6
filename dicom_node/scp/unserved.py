"""Requests that pynetdicom would drop without an answer, or end the association for: answered here by their Status.

A message comes by before pynetdicom looks at it. What is answered here loses its Message ID, so that pynetdicom
passes it over as no request.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, cast

from pydicom import Dataset
from pynetdicom import dimse_messages as messages
from pynetdicom import dimse_primitives as primitives
from pynetdicom.association import Association
from pynetdicom.dimse_messages import DIMSEMessage
from pynetdicom.events import Event
from pynetdicom.pdu_primitives import P_DATA

from configs.peers import Service
from dicom_node.scp.contexts import service_of
from dicom_node.scp.register import OpenAssociation
from dicom_node.scp.requests import BROKEN, NO_SUCH_ACTION, NO_SUCH_EVENT_TYPE, NO_SUCH_SOP_CLASS, NO_SUCH_SOP_INSTANCE
from dicom_node.scp.status import (
    INVALID_SOP_INSTANCE,
    MISTYPED_ARGUMENT,
    MOVE_DESTINATION_UNKNOWN,
    SOP_CLASS_NOT_SUPPORTED,
    UNRECOGNIZED_OPERATION,
)

log = logging.getLogger(__name__)

_MEDIUM = 0  # Source: PS3.7 Annex E (Priority)
_NO_DATA_SET = 0x0101

#: Service → its requests.
_REQUESTS: Mapping[Service, tuple[type[DIMSEMessage], ...]] = {
    "echo": (messages.C_ECHO_RQ,),
    "store": (messages.C_STORE_RQ,),
    "find": (messages.C_FIND_RQ,),
    "move": (messages.C_MOVE_RQ,),
    "get": (messages.C_GET_RQ,),
    "commit": (messages.N_ACTION_RQ, messages.N_EVENT_REPORT_RQ),
    "mpps": (messages.N_CREATE_RQ, messages.N_SET_RQ),
    "ian": (messages.N_CREATE_RQ,),
}

_WITH_PRIORITY = (messages.C_STORE_RQ, messages.C_FIND_RQ, messages.C_GET_RQ, messages.C_MOVE_RQ)
#: Request → its Status where its context is of another service; any other is an unrecognized operation there.
_WRONG_CONTEXT: Mapping[type[DIMSEMessage], int] = {
    messages.C_ECHO_RQ: SOP_CLASS_NOT_SUPPORTED,
    messages.C_STORE_RQ: SOP_CLASS_NOT_SUPPORTED,
}
#: Request → its answer's primitive.
_ANSWERS: Mapping[type[DIMSEMessage], type[Any]] = {
    messages.C_ECHO_RQ: primitives.C_ECHO,
    messages.C_STORE_RQ: primitives.C_STORE,
    messages.C_FIND_RQ: primitives.C_FIND,
    messages.C_GET_RQ: primitives.C_GET,
    messages.C_MOVE_RQ: primitives.C_MOVE,
    messages.N_EVENT_REPORT_RQ: primitives.N_EVENT_REPORT,
    messages.N_GET_RQ: primitives.N_GET,
    messages.N_SET_RQ: primitives.N_SET,
    messages.N_ACTION_RQ: primitives.N_ACTION,
    messages.N_CREATE_RQ: primitives.N_CREATE,
    messages.N_DELETE_RQ: primitives.N_DELETE,
}

#: Request → what it must say, and the Status where it does not.
#: Source: PS3.7 9.1.1 to 9.1.4, 10.1.2 to 10.1.5 (mandatory parameters), Annex C (Statuses).
_MANDATORY: Mapping[type[DIMSEMessage], tuple[tuple[str, int], ...]] = {
    messages.C_STORE_RQ: (
        ("AffectedSOPClassUID", INVALID_SOP_INSTANCE),
        ("AffectedSOPInstanceUID", INVALID_SOP_INSTANCE),
    ),
    messages.C_FIND_RQ: (("AffectedSOPClassUID", SOP_CLASS_NOT_SUPPORTED),),
    messages.C_GET_RQ: (("AffectedSOPClassUID", SOP_CLASS_NOT_SUPPORTED),),
    messages.C_MOVE_RQ: (
        ("AffectedSOPClassUID", SOP_CLASS_NOT_SUPPORTED),
        ("MoveDestination", MOVE_DESTINATION_UNKNOWN),
    ),
    messages.N_ACTION_RQ: (
        ("RequestedSOPClassUID", NO_SUCH_SOP_CLASS),
        ("RequestedSOPInstanceUID", NO_SUCH_SOP_INSTANCE),
        ("ActionTypeID", NO_SUCH_ACTION),
    ),
    messages.N_EVENT_REPORT_RQ: (
        ("AffectedSOPClassUID", NO_SUCH_SOP_CLASS),
        ("AffectedSOPInstanceUID", NO_SUCH_SOP_INSTANCE),
        ("EventTypeID", NO_SUCH_EVENT_TYPE),
    ),
    messages.N_CREATE_RQ: (("AffectedSOPClassUID", NO_SUCH_SOP_CLASS),),
    messages.N_SET_RQ: (
        ("RequestedSOPClassUID", NO_SUCH_SOP_CLASS),
        ("RequestedSOPInstanceUID", INVALID_SOP_INSTANCE),
    ),
}


def answer_unserved(event: Event, entry: OpenAssociation) -> bool:
    """Answer a request that nobody here serves, or that lacks what it must say; tell whether it was one.

    A Priority or a C-ECHO's SOP Class that is left out is filled in: nothing depends on it.
    """
    message = event.message
    if type(message) not in _ANSWERS:
        return False
    command = message.command_set
    context = next((each for each in event.assoc.accepted_contexts if each.context_id == message.context_id), None)
    if context is None or command.get("MessageID") is None:
        log.warning("association aborted: no sound request", extra={"action": "association_aborted", **entry.facts})
        event.assoc.abort(block=False)
        return True
    abstract_syntax = str(context.abstract_syntax)
    _fill_in(message, abstract_syntax)
    status = _fault(message, service_of(abstract_syntax))
    if status is None:
        return False
    facts = {**entry.facts, "status": f"0x{status:04X}", "request": type(message).__name__}
    log.warning("request not served", extra={"action": "request_unserved", **facts})
    reply = _ANSWERS[type(message)]()
    reply.MessageIDBeingRespondedTo, reply.Status = command.MessageID, status
    del command.MessageID
    event.assoc.dimse.send_msg(reply, cast(int, message.context_id))
    return True


def guard_decoding(association: Association) -> None:
    """Have bytes that are no command end their association by an abort: pynetdicom's thread would die of them.

    Source: PS3.8 Table 9-10 (Evt19).
    """
    receive = association.dimse.receive_primitive

    def guarded(primitive: P_DATA) -> None:
        try:
            receive(primitive)
        except (*BROKEN, IndexError) as error:
            facts = {"action": "association_aborted", "host": association.requestor.address}
            log.warning("association aborted: no command", extra={**facts, "error": type(error).__name__})
            association.dul.event_queue.put("Evt19")

    setattr(association.dimse, "receive_primitive", guarded)  # noqa: B010 (mypy knows a method there)


def _fill_in(message: DIMSEMessage, abstract_syntax: str) -> None:
    command = message.command_set
    if isinstance(message, messages.C_ECHO_RQ) and _is_missing(command, "AffectedSOPClassUID"):
        command.AffectedSOPClassUID = abstract_syntax
    if isinstance(message, _WITH_PRIORITY) and _is_missing(command, "Priority"):
        command.Priority = _MEDIUM


def _fault(message: DIMSEMessage, service: Service | None) -> int | None:
    """Give the Status of a request that cannot be served; None: it can."""
    command = message.command_set
    if service is None or type(message) not in _REQUESTS[service]:
        return _WRONG_CONTEXT.get(type(message), UNRECOGNIZED_OPERATION)
    for keyword, status in _MANDATORY.get(type(message), ()):
        if _is_missing(command, keyword):
            return status
    if isinstance(message, messages.C_STORE_RQ) and command.get("CommandDataSetType") == _NO_DATA_SET:
        return MISTYPED_ARGUMENT
    return None


def _is_missing(command: Dataset, keyword: str) -> bool:
    return command.get(keyword) in (None, "")
