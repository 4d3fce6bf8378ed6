"""The DIMSE receiver: lets listed peers in, answers C-ECHO, and hands C-STORE to the one door."""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import cast

from pydicom.uid import UID
from pynetdicom import AE, evt
from pynetdicom.association import Association
from pynetdicom.dimse_messages import C_STORE_RQ
from pynetdicom.events import Event
from pynetdicom.pdu_primitives import (
    A_ASSOCIATE,
    A_P_ABORT,
    SOPClassCommonExtendedNegotiation,
    UserIdentityNegotiation,
)

from configs.errors import NodeError
from configs.peers import Peer
from configs.settings import DimseSettings
from dicom_node.network import application_entity
from dicom_node.rejections import TEMPORARY_CONGESTION, Rejection
from dicom_node.scp.admission import Refused
from dicom_node.scp.connection import BoundedConnection, Bounds
from dicom_node.scp.contexts import service_of, storage_outside_dictionary, supported_contexts
from dicom_node.scp.front import Front, Gate, log_end
from dicom_node.scp.hosts import HostNames
from dicom_node.scp.negotiation import acknowledges
from dicom_node.scp.pace import Pace
from dicom_node.scp.register import Register
from dicom_node.scp.server import BoundedServer, Reception, Secure, listen, securing
from dicom_node.scp.services import ScpParts, ScpService
from dicom_node.scp.status import SUCCESS
from dicom_node.scp.store import StoreParts, handle_store
from dicom_node.scp.unserved import answer_unserved, guard_decoding
from dicom_node.tls import incoming_context
from storage.associations import Associations
from storage.intake import Intake, utc_now

log = logging.getLogger(__name__)

_MEGABYTE, _GIGABYTE = 10**6, 10**9
#: Bytes of one message on an association that pynetdicom serves: it holds messages in memory.
MOST_IN_MEMORY = 1 << 30
#: C-STORE requests that may wait for their answers; peers that were promised one at a time send one at a time.
_MOST_STORES_WAITING = 8
#: Seconds between looks at whether to stop listening.
_POLL_S = 0.2


class Receiver:
    """Serves DIMSE on one port, from `start` to `stop`."""

    def __init__(
        self,
        settings: DimseSettings,
        *,
        peers: Mapping[str, Peer],
        intake: Intake,
        associations: Associations,
        services: Sequence[ScpService] = (),
        number: int = 0,
        names: HostNames | None = None,
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        self._settings = settings
        self._peers = peers
        receiver = f"{socket.gethostname()[:20]}-{settings.port}" + (f"-{number}" if number else "")
        self._register = Register(associations, receiver=receiver, clock=clock)
        self._stopping = threading.Event()
        own_titles = (settings.ae_title, *settings.also_answers_to)
        self._gate = Gate(peers, own_titles, names or HostNames(), self._register)
        self._store_parts = StoreParts(intake, self._register, peers, Pace(), self._stopping)
        self._front = Front(settings, self._gate, self._store_parts, hand_over=self._hand_over)
        parts = ScpParts(settings, self._register, peers, self._stopping)
        self._services = [handler for service in services for handler in service(parts)]
        self._servers: list[BoundedServer] = []
        self._threads: list[threading.Thread] = []

    @property
    def port(self) -> int:
        """The port that it listens on: with TLS, where that is configured."""
        return self._servers[0].port if self._servers else self._settings.port

    @property
    def plaintext_port(self) -> int | None:
        """The port without TLS beside one with it; None: there is none."""
        return self._servers[1].port if len(self._servers) > 1 else None

    def start(self) -> None:
        """Listen; returns at once.

        Raises
        ------
        ConfigError
            The port is in use, or the host is none of this machine's.
        IndexUnavailable
            The database does not answer.
        """
        entity = application_entity(self._settings.ae_title)
        entity.maximum_pdu_size = self._settings.maximum_pdu_size
        entity.acse_timeout = entity.dimse_timeout = self._settings.answer_within_s
        entity.network_timeout = self._settings.idle_after_s
        # Its own count takes in connections that ask for nothing; ours is in `admission`.
        entity.maximum_associations = 2 * self._maximum_connections
        try:
            for port, secure in self._ports():
                self._servers.append(self._listen(entity, port, secure))
            self._register.start()
        except NodeError:
            for server in self._servers:
                server.server_close()
            raise
        for server in self._servers:
            thread = threading.Thread(target=server.serve_forever, args=(_POLL_S,), name="dimse-server", daemon=True)
            thread.start()
            self._threads.append(thread)

    def _ports(self) -> Sequence[tuple[int, Secure | None]]:
        tls = self._settings.tls
        if tls is None:
            return [(self._settings.port, None)]
        beside = [] if tls.plaintext_port is None else [(tls.plaintext_port, None)]
        return [(self._settings.port, securing(incoming_context(tls))), *beside]

    def _listen(self, entity: AE, port: int, secure: Secure | None) -> BoundedServer:
        return listen(
            entity,
            self._settings.host,
            port,
            evt_handlers=self._handlers(),
            reception=Reception(
                self._bounds(),
                self._maximum_connections,
                meet=self._front.meet,
                secure=secure,
                share_port=self._settings.processes > 1,
            ),
        )

    def _bounds(self) -> Bounds:
        settings = self._settings
        return Bounds(
            maximum_pdu_size=settings.maximum_pdu_size,
            maximum_message=int(settings.maximum_instance_mb * _MEGABYTE),
            maximum_in_memory=MOST_IN_MEMORY,
            maximum_association=int(settings.maximum_association_gb * _GIGABYTE),
            first_pdu_within_s=settings.answer_within_s,
            pdu_within_s=settings.idle_after_s,
            send_within_s=settings.answer_within_s,
        )

    def _hand_over(self, connection: BoundedConnection, address: tuple[str, int]) -> None:
        if not self._servers:
            raise RuntimeError("a connection came in before the receiver was started")
        self._servers[0].hand_over(connection, address)

    @property
    def _maximum_connections(self) -> int:
        return 2 * self._settings.maximum_associations + 32

    def stop(self, within_s: float = 10.0) -> None:
        """Stop listening, let instances that are being kept be kept, and abort what is open."""
        self._stopping.set()
        if not self._threads:
            return
        for server in self._servers:
            server.shutdown()
        for thread in self._threads:
            thread.join()
        deadline = time.monotonic() + within_s
        entries = self._register.all()
        for entry in entries:
            entry.busy.wait(deadline - time.monotonic())
            entry.association.abort(block=False)
        for entry in entries:
            entry.association.join(max(0.1, deadline - time.monotonic()))
        self._register.stop()

    def _handlers(self) -> list[evt.EventHandlerType]:
        return [
            (evt.EVT_REQUESTED, self._on_requested),
            (evt.EVT_SOP_COMMON, _on_common_extended),
            (evt.EVT_ESTABLISHED, self._on_established),
            (evt.EVT_DIMSE_RECV, self._on_message),
            (evt.EVT_C_ECHO, _on_echo),
            (evt.EVT_C_STORE, handle_store, [self._store_parts]),
            (evt.EVT_ACSE_RECV, self._on_upper_layer),
            (evt.EVT_RELEASED, self._on_released),
            (evt.EVT_ABORTED, self._on_aborted),
            (evt.EVT_REJECTED, self._on_aborted),
            *self._services,
        ]

    def _on_requested(self, event: Event) -> None:
        """Let a listed peer in with the contexts that it may have; reject anyone else."""
        association = event.assoc
        try:
            refused = self._take_in(association)
        except Exception:
            log.exception("association not judged: our fault", extra={"action": "association_failed"})
            _reject(association, TEMPORARY_CONGESTION)
            return
        if refused is not None:
            log.warning("association refused", extra={"action": "association_refused", "why": refused.why})
            _reject(association, refused.rejection)

    def _take_in(self, association: Association) -> Refused | None:
        request = cast(A_ASSOCIATE, association.requestor.primitive)
        verdict = self._gate.judge(
            str(request.calling_ae_title).strip(" "),
            str(request.called_ae_title).strip(" "),
            association.requestor.address,
            _connection_of(association),
        )
        if isinstance(verdict, Refused):
            return verdict
        caller, name, peer = verdict
        wishes = association.requestor.role_selection
        roles = {str(uid): (bool(item.scu_role), bool(item.scp_role)) for uid, item in wishes.items()}
        contexts = supported_contexts(request.presentation_context_definition_list, peer.services, roles)
        entry = self._register.enter(
            association,
            _connection_of(association),
            caller,
            peer_name=name,
            peer=peer,
            services={service_of(str(context.abstract_syntax)) or "" for context in contexts},
            maximum=self._settings.maximum_associations,
        )
        if isinstance(entry, Refused):
            return entry
        association.acceptor.supported_contexts = contexts
        _acknowledge_user(association)
        guard_decoding(association)
        return None

    def _on_established(self, event: Event) -> None:
        entry = self._register.of(event.assoc)
        if entry is not None:
            counts = {
                "contexts_accepted": len(event.assoc.accepted_contexts),
                "contexts_refused": len(event.assoc.rejected_contexts),
            }
            log.info("association accepted", extra={"action": "association_accepted", **entry.facts, **counts})

    def _on_message(self, event: Event) -> None:
        """Take note of each whole message, as it arrives and before it is served."""
        entry = self._register.of(event.assoc)
        if entry is None:
            return
        entry.connection.message_ended()
        if answer_unserved(event, entry) or not isinstance(event.message, C_STORE_RQ):
            return
        entry.stores_waiting += 1
        if entry.stores_waiting > _MOST_STORES_WAITING:
            facts = {"action": "association_aborted", **entry.facts}
            log.warning("association aborted: the peer does not wait for answers", extra=facts)
            event.assoc.abort()

    def _on_upper_layer(self, event: Event) -> None:
        entry = self._register.of(event.assoc)
        if entry is not None and isinstance(getattr(event, "primitive", None), A_P_ABORT):
            entry.end = "lost"

    def _on_released(self, event: Event) -> None:
        entry = self._register.leave(event.assoc, "released")
        if entry is not None:
            log.info("association released", extra={"action": "association_released", **entry.facts})

    def _on_aborted(self, event: Event) -> None:
        entry = self._register.of(event.assoc)
        if entry is None or self._register.leave(event.assoc, entry.end) is None:
            return
        entry.unfinished_instance = entry.connection.in_message
        log_end(entry)


def _connection_of(association: Association) -> BoundedConnection:
    pipe = association.dul.socket
    connection: object = pipe.socket if pipe is not None else None
    if not isinstance(connection, BoundedConnection):
        raise TypeError("an association without a bounded connection")
    return connection


def _reject(association: Association, rejection: Rejection) -> None:
    association.acse.send_reject(rejection.result, rejection.source, rejection.reason)
    association.kill()  # waits until the rejection is sent


def _acknowledge_user(association: Association) -> None:
    """Answer a user identity where that is asked for: pynetdicom answers tokens alone.

    Source: PS3.7 D.3.3.7.2 (the response to types 1 and 2 is empty).
    """
    identity = association.requestor.user_identity
    if identity is None:
        return
    if acknowledges(identity.user_identity_type or 0, response_requested=identity.positive_response_requested):
        response = UserIdentityNegotiation()
        response.server_response = b""
        association.acceptor.add_negotiation_item(response)


def _on_common_extended(event: Event) -> dict[UID, SOPClassCommonExtendedNegotiation]:
    """Have every storage context served as storage, whether pynetdicom knows its SOP Class or not."""
    return storage_outside_dictionary(event.assoc.acceptor.supported_contexts)


def _on_echo(_: Event) -> int:
    return SUCCESS
