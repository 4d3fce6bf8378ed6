"""What an association for storage and verification is answered: pure rules over its request."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from pydantic import SecretStr

from configs.implementation import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from configs.passcode import matches
from configs.peers import Service
from dicom_node.rejections import (
    APPLICATION_CONTEXT_NOT_SUPPORTED,
    NO_REASON_GIVEN,
    PROTOCOL_VERSION_NOT_SUPPORTED,
    Rejection,
)
from dicom_node.scp.contexts import preferred_syntax, service_of
from dicom_node.scp.pdus import (
    APPLICATION_CONTEXT,
    AnsweredContext,
    AssociateAnswer,
    AssociateRequest,
    RequestedContext,
    Roles,
    UserIdentity,
)

#: Operations that one association may have under way, where its peer asks for more than one.
WIDEST_WINDOW = 8
#: Level 2 (every attribute is kept), digital signatures level 3 (every bit is), no coercion.
#: Source: PS3.4 B.3.1.2, Table B.3-2.
STORAGE_INFORMATION = bytes((2, 0, 3, 0, 0, 0))
#: Types of user identity. Source: PS3.7 Table D.3-14.
_USER, _USER_AND_PASSCODE = 1, 2
_ACCEPTANCE, _ABSTRACT_SYNTAX, _TRANSFER_SYNTAXES = 0, 3, 4
#: The services that are ours alone to serve; any other leads an association to pynetdicom.
_OWN_SERVICES = frozenset({"echo", "store", None})


def is_for_storage(request: AssociateRequest) -> bool:
    """Tell whether an association asks for nothing beyond storage and verification."""
    return all(service_of(context.abstract_syntax) in _OWN_SERVICES for context in request.contexts)


def unfit(request: AssociateRequest) -> Rejection | None:
    """Give why a request cannot be met, whoever asks.

    Source: PS3.8 9.3.2 (protocol version: only bit 0 is tested), Table 9-21, PS3.7 A.2.1 (application context).
    """
    if not request.protocol_version & 1:
        return PROTOCOL_VERSION_NOT_SUPPORTED
    if request.application_context != APPLICATION_CONTEXT:
        return APPLICATION_CONTEXT_NOT_SUPPORTED
    if not request.contexts:
        return NO_REASON_GIVEN
    return None


def answer(request: AssociateRequest, accept: Collection[Service], *, maximum_pdu_size: int) -> AssociateAnswer:
    """Answer a request item by item.

    Parameters
    ----------
    accept
        Services that the peer may use.
    maximum_pdu_size
        Bytes of a P-DATA-TF that we take.
    """
    contexts = tuple(_answer_context(context, accept) for context in request.contexts)
    taken = {
        context.abstract_syntax
        for context, answered in zip(request.contexts, contexts, strict=True)
        if answered.result == _ACCEPTANCE
    }
    return AssociateAnswer(
        contexts=contexts,
        maximum_length=maximum_pdu_size,
        implementation_class_uid=IMPLEMENTATION_CLASS_UID,
        implementation_version_name=IMPLEMENTATION_VERSION_NAME,
        roles=tuple(
            Roles(roles.sop_class_uid, scu=roles.scu, scp=False)
            for roles in request.roles
            if roles.sop_class_uid in taken
        ),
        extended=tuple(
            (sop_class_uid, STORAGE_INFORMATION)
            for sop_class_uid, _ in request.extended
            if sop_class_uid in taken and service_of(sop_class_uid) == "store"
        ),
        window=window(request.window),
        user_acknowledged=request.user_identity is not None
        and acknowledges(request.user_identity.kind, response_requested=request.user_identity.response_requested),
    )


def acknowledges(kind: int, *, response_requested: bool) -> bool:
    """Tell whether a user identity is answered: where that is asked for, and can be without a token of a server.

    Source: PS3.7 D.3.3.7.2.
    """
    return response_requested and kind in (_USER, _USER_AND_PASSCODE)


def knows_user(identity: UserIdentity | None, users: Mapping[str, SecretStr]) -> bool:
    """Tell whether who uses a peer may; where the peer has no users listed, whoever it is.

    Source: PS3.7 D.3.3.7 (User Identity Negotiation).
    """
    if not users:
        return True
    if identity is None or identity.kind != _USER_AND_PASSCODE:
        return False
    hashed = users.get(identity.primary.decode("utf-8", "replace"))
    return hashed is not None and matches(identity.secondary, hashed.get_secret_value())


def window(asked: tuple[int, int] | None) -> tuple[int, int] | None:
    """Answer an asynchronous operations window: operations invoked by the peer, and performed by it.

    Source: PS3.7 D.3.3.3 (0: any number; an answer never exceeds what was asked for).
    """
    if asked is None:
        return None
    invoked, _ = asked
    return (min(invoked or WIDEST_WINDOW, WIDEST_WINDOW), 1)


def _answer_context(context: RequestedContext, accept: Collection[Service]) -> AnsweredContext:
    """Source: PS3.8 Table 9-18."""
    offered = context.transfer_syntaxes[0]
    if service_of(context.abstract_syntax) not in accept:
        return AnsweredContext(context.context_id, _ABSTRACT_SYNTAX, offered)
    picked = preferred_syntax(context.transfer_syntaxes)
    if picked is None:
        return AnsweredContext(context.context_id, _TRANSFER_SYNTAXES, offered)
    return AnsweredContext(context.context_id, _ACCEPTANCE, picked)
