"""An association that this node asks for."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import ssl
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import cast

from pynetdicom import evt
from pynetdicom.association import Association
from pynetdicom.events import Event
from pynetdicom.pdu_primitives import SCP_SCU_RoleSelectionNegotiation
from pynetdicom.presentation import PresentationContext

from configs.peers import Peer
from dicom_node.errors import AssociationRejected, ContextRefused, PeerUnreachable
from dicom_node.network import application_entity, is_ae_title
from dicom_node.platform import answer_without_delay
from dicom_node.rejections import Rejection, meaning
from dicom_node.scu.secured import PolledTls
from dicom_node.tls import outgoing_context

log = logging.getLogger(__name__)

#: Called where a peer is listed under any AE title. Common usage; the standard reserves no such title.
_ANY_TITLE = "ANY-SCP"


@dataclass(frozen=True)
class Timeouts:
    """How long a peer may take, in seconds."""

    connect_s: float = 10.0
    """For the connection."""
    associate_s: float = 30.0
    """For the answer to the association request, and to its release."""
    answer_s: float = 60.0
    """For the answer to a message, and for taking any of what is sent."""
    whole_s: float = 900.0
    """For all of an association over which we ask: one that gives a byte now and then is cut."""


DEFAULT_TIMEOUTS = Timeouts()


@contextlib.contextmanager
def associate(
    peer: Peer,
    *,
    calling_ae_title: str,
    contexts: Sequence[PresentationContext],
    timeouts: Timeouts,
    roles: Sequence[SCP_SCU_RoleSelectionNegotiation] = (),
    handlers: Sequence[evt.EventHandlerType] = (),
) -> Iterator[Association]:
    """Have an association with a peer; released at the end, aborted where the body fails.

    `roles`: role selection to negotiate, where we are not SCU alone; `handlers`: of what the peer may ask on it.

    Raises
    ------
    PeerUnreachable
        No connection, no answer in time, or the peer aborted.
    AssociationRejected
        The peer does not want it.
    ContextRefused
        The peer accepted it, and none of the contexts.
    """
    watchdog = _Watchdog(timeouts.whole_s)
    try:
        association = _request(peer, calling_ae_title, contexts, timeouts, roles, handlers, watchdog)
        try:
            yield association
        except BaseException:
            if association.is_established:
                association.abort()
            raise
        if association.is_established:
            association.release()
    finally:
        watchdog.stop()


class _Watchdog:
    """Cuts a connection when its time is over: whatever waits on it wakes up."""

    def __init__(self, within_s: float) -> None:
        self._timer = threading.Timer(within_s, self._cut)
        self._timer.daemon = True
        self._beneath: socket.socket | None = None

    def watch(self, descriptor: int) -> None:
        """Begin with this connection."""
        self._beneath = socket.socket(fileno=os.dup(descriptor))
        self._timer.start()

    def stop(self) -> None:
        """Let the connection be."""
        self._timer.cancel()
        if self._beneath is not None:
            self._beneath.close()

    def _cut(self) -> None:
        if self._beneath is not None:
            with contextlib.suppress(OSError):
                self._beneath.shutdown(socket.SHUT_RDWR)


def say(peer: Peer) -> str:
    """Name a peer as messages do."""
    return f"{peer.ae_title} at {peer.host}:{peer.port}"


def called_at(peer: Peer, calling_ae_title: str) -> tuple[str, int, str]:
    """Give host and port of a peer, and the AE title to call it by.

    Raises
    ------
    PeerUnreachable
        It is listed without host and port, or an AE title is none.
    """
    if peer.host is None or peer.port is None:
        raise PeerUnreachable(f"Peer {peer.ae_title} has no host and port in peers.yaml.")
    called = _ANY_TITLE if peer.ae_title == "*" else peer.ae_title
    for title in (called, calling_ae_title):
        if not is_ae_title(title):
            raise PeerUnreachable(f"DICOM does not allow the AE title {title!r}.")
    return peer.host, peer.port, called


def _request(
    peer: Peer,
    calling_ae_title: str,
    contexts: Sequence[PresentationContext],
    timeouts: Timeouts,
    roles: Sequence[SCP_SCU_RoleSelectionNegotiation],
    handlers: Sequence[evt.EventHandlerType],
    watchdog: _Watchdog,
) -> Association:
    host, port, called = called_at(peer, calling_ae_title)
    entity = application_entity(calling_ae_title)
    entity.connection_timeout = timeouts.connect_s
    entity.acse_timeout = timeouts.associate_s
    entity.dimse_timeout = timeouts.answer_s
    entity.network_timeout = timeouts.answer_s
    secured = PolledTls(outgoing_context(peer.tls)) if peer.tls is not None else None
    server_name = (peer.tls.server_name if peer.tls is not None else None) or host
    connected: list[bool] = []

    def on_connection(event: Event) -> None:
        connected.append(True)
        pipe = event.assoc.dul.socket
        if pipe is not None and pipe.socket is not None:
            answer_without_delay(pipe.socket)
            watchdog.watch(secured.descriptor if secured is not None else pipe.socket.fileno())
            pipe.socket.settimeout(timeouts.answer_s)  # pynetdicom would wait for ever

    try:
        association = entity.associate(
            host,
            port,
            contexts=list(contexts),
            ae_title=called,
            ext_neg=list(roles),
            tls_args=None if secured is None else (cast(ssl.SSLContext, secured), server_name),
            evt_handlers=[(evt.EVT_CONN_OPEN, on_connection), *handlers],
        )
    except OSError as error:
        raise PeerUnreachable(f"{say(peer)} cannot be reached: {error.strerror or error}.") from error
    if secured is not None and not association.is_established:
        association.dul.join(timeouts.associate_s)
        secured.close()
    if secured is not None and secured.failure:
        raise PeerUnreachable(f"{say(peer)} cannot be reached: TLS failed, {secured.failure}.")
    if not association.is_established:
        raise _why_not(peer, association, connected=bool(connected), timeouts=timeouts)
    return association


def _why_not(
    peer: Peer, association: Association, *, connected: bool, timeouts: Timeouts
) -> PeerUnreachable | AssociationRejected | ContextRefused:
    if association.is_rejected:
        answer = association.acceptor.primitive
        result = getattr(answer, "result", None) or 1
        source = getattr(answer, "result_source", None) or 1
        reason = getattr(answer, "diagnostic", None) or 1
        words = meaning(Rejection(result, source, reason))
        return AssociationRejected(
            f"{say(peer)} rejected the association: {words}.", result=result, source=source, reason=reason
        )
    if association.rejected_contexts and not association.accepted_contexts:
        return ContextRefused(f"{say(peer)} accepted none of the presentation contexts.")
    if not connected:
        return PeerUnreachable(f"{say(peer)} cannot be reached: no connection within {timeouts.connect_s:g} s.")
    return PeerUnreachable(f"{say(peer)} did not answer the association request, or aborted it.")
