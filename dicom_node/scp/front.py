"""The front of the receiver: reads what a new connection asks for, lets listed peers in, and picks who serves them.

Associations for storage and verification are served by our own upper layer; all others go to pynetdicom, which
reads their request again.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from configs.peers import Peer
from configs.settings import DimseSettings
from dicom_node.rejections import NO_REASON_GIVEN, meaning
from dicom_node.scp import negotiation, pdus
from dicom_node.scp.admission import Admitted, Caller, Refused, admit, prove
from dicom_node.scp.connection import BeyondBounds, BoundedConnection, TooSlow
from dicom_node.scp.contexts import service_of
from dicom_node.scp.hosts import HostNames, address_of
from dicom_node.scp.pdus import AssociateRequest, MalformedPdu, UserIdentity
from dicom_node.scp.register import OpenAssociation, Register
from dicom_node.scp.states import Event, State
from dicom_node.scp.storage_association import StorageAssociation
from dicom_node.scp.store import StoreParts
from dicom_node.scp.upper_layer import ARRIVAL, UpperLayer

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Gate:
    """Knows who may come in."""

    peers: Mapping[str, Peer]
    own_titles: Sequence[str]
    names: HostNames
    register: Register

    def judge(
        self, calling_ae_title: str, called_ae_title: str, host: str, connection: BoundedConnection
    ) -> tuple[Caller, str, Peer] | Refused:
        """Give who calls, and as which peer; a refusal is remembered."""
        address = address_of(host)
        caller = Caller(calling_ae_title, called_ae_title, str(address) if address is not None else host)
        peers = dict(self.peers)  # one state of the list for one decision
        verdict = admit(caller, peers, self.own_titles, self.names)
        if isinstance(verdict, Admitted):
            peer = peers[verdict.peer]
            unproven = prove(caller, peer, secure=connection.is_secure, certificate=connection.certificate)
            if unproven is None:
                return caller, verdict.peer, peer
            verdict = unproven
        self.register.refuse(caller, verdict.why)
        return verdict

    def ask_user(
        self, identity: UserIdentity | None, caller: Caller, name: str, peer: Peer
    ) -> tuple[Caller, str, Peer] | Refused:
        """Refuse, and remember, a peer whose user is none of those listed; it is asked before anybody serves it."""
        if negotiation.knows_user(identity, peer.users):
            return caller, name, peer
        why = f"Refused {caller.shown}: it gave no user and passcode that stand in users of peer {name} in peers.yaml."
        self.register.refuse(caller, why)
        return Refused(why, NO_REASON_GIVEN)


class Front:
    """Meets each new connection, in a thread of the connection's own."""

    def __init__(
        self,
        settings: DimseSettings,
        gate: Gate,
        parts: StoreParts,
        *,
        hand_over: Callable[[BoundedConnection, tuple[str, int]], None],
    ) -> None:
        self._settings = settings
        self._gate = gate
        self._parts = parts
        self._hand_over = hand_over

    def meet(self, connection: BoundedConnection, address: tuple[str, int]) -> None:
        """Serve a connection to its end, or hand it over."""
        upper_layer = UpperLayer(connection)
        handed_over = False
        try:
            content = self._await_request(connection, upper_layer, address[0])
            request = self._read(content, upper_layer, address[0]) if content is not None else None
            if request is None:
                return
            verdict = self._gate.judge(request.calling_ae_title, request.called_ae_title, address[0], connection)
            if not isinstance(verdict, Refused):
                verdict = self._gate.ask_user(request.user_identity, *verdict)
            if isinstance(verdict, Refused):
                upper_layer.on(Event.ASSOCIATE_RQ)
                _reject(upper_layer, verdict)
            elif negotiation.is_for_storage(request):
                upper_layer.on(Event.ASSOCIATE_RQ)
                self._serve(connection, upper_layer, request, *verdict)
            else:
                connection.replay(pdus.pdu(pdus.ASSOCIATE_RQ, content or b""))
                self._hand_over(connection, address)
                handed_over = True
        finally:
            if not handed_over:
                upper_layer.await_close()

    def _await_request(self, connection: BoundedConnection, upper_layer: UpperLayer, host: str) -> bytes | None:
        """Be in Sta2: give the content of an A-ASSOCIATE-RQ, or None where something else came, or nothing."""
        event = Event.CLOSED
        try:
            kind, content = connection.read_pdu()
            if kind == pdus.ASSOCIATE_RQ:
                return content
            if kind:
                event = ARRIVAL.get(kind, Event.INVALID_PDU)
        except TooSlow:
            event = Event.ARTIM_EXPIRED
        except BeyondBounds:
            event = Event.INVALID_PDU
        except OSError:
            event = Event.CLOSED
        upper_layer.on(event)
        # Health probes connect and say nothing: no news.
        facts = {"action": "no_association", "host": host, "event": event.name}
        log.debug("connection closed before any association", extra=facts)
        return None

    @staticmethod
    def _read(content: bytes, upper_layer: UpperLayer, host: str) -> AssociateRequest | None:
        try:
            request = pdus.read_associate_rq(content)
        except MalformedPdu as error:
            facts = {"action": "association_refused", "host": host, "why": str(error)}
            log.warning("association request not understood", extra=facts)
            upper_layer.on(Event.INVALID_PDU)
            return None
        rejection = negotiation.unfit(request)
        if rejection is None:
            return request
        log.warning(
            "association refused",
            extra={"action": "association_refused", "host": host, "why": meaning(rejection)},
        )
        upper_layer.reject_as_provider(rejection)
        return None

    def _serve(
        self,
        connection: BoundedConnection,
        upper_layer: UpperLayer,
        request: AssociateRequest,
        caller: Caller,
        name: str,
        peer: Peer,
    ) -> None:
        entry = self._gate.register.enter(
            upper_layer,
            connection,
            caller,
            peer_name=name,
            peer=peer,
            services={service_of(context.abstract_syntax) or "" for context in request.contexts},
            maximum=self._settings.maximum_associations,
        )
        if isinstance(entry, Refused):
            _reject(upper_layer, entry)
            return
        answer = negotiation.answer(request, peer.services, maximum_pdu_size=self._settings.maximum_pdu_size)
        try:
            upper_layer.on(Event.ACCEPT, pdus.write_associate_ac(request, answer))
            accepted = sum(context.result == 0 for context in answer.contexts)
            counts = {"contexts_accepted": accepted, "contexts_refused": len(answer.contexts) - accepted}
            log.info("association accepted", extra={"action": "association_accepted", **entry.facts, **counts})
            StorageAssociation(connection, upper_layer, request, answer, entry, self._parts).serve()
        finally:
            self._leave(upper_layer, entry)

    def _leave(self, upper_layer: UpperLayer, entry: OpenAssociation) -> None:
        """End an association: its place is free before its peer hears of the release."""
        self._gate.register.make_room(upper_layer)
        released = upper_layer.state is State.AWAITING_RELEASE_ANSWER
        if released:
            upper_layer.on(Event.AGREE_TO_RELEASE, pdus.write_release_rp())
        self._gate.register.record_end(entry, "released" if released else entry.end)
        if released:
            log.info("association released", extra={"action": "association_released", **entry.facts})
            return
        log_end(entry)


def log_end(entry: OpenAssociation) -> None:
    """Say that an association ended without a release, and why."""
    facts = {"action": f"association_{entry.end}", **entry.facts, "unfinished_instance": entry.unfinished_instance}
    if entry.connection.broken_rule:
        facts["why"] = entry.connection.broken_rule
    log.warning("association ended without a release", extra=facts)


def _reject(upper_layer: UpperLayer, refused: Refused) -> None:
    log.warning("association refused", extra={"action": "association_refused", "why": refused.why})
    upper_layer.on(Event.REJECT, pdus.write_associate_rj(refused.rejection))
