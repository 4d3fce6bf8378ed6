"""An association to send instances over: one blocking socket, no thread, no polling.

Negotiation is encoded and decoded by pynetdicom; from then on messages go out as `dicom_node.pdata` makes them.

Source: PS3.8 7.1 (association), 9.3 (PDUs); PS3.7 9.3.1 (C-STORE messages).
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import BinaryIO

from pydicom.uid import UID
from pynetdicom import build_context
from pynetdicom.pdu import A_ASSOCIATE_AC, A_ASSOCIATE_RQ
from pynetdicom.pdu_primitives import (
    A_ASSOCIATE,
    ImplementationClassUIDNotification,
    ImplementationVersionNameNotification,
    MaximumLengthNotification,
)

from configs.implementation import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from configs.peers import Peer
from dicom_node import pdata
from dicom_node.errors import AssociationRejected, ContextRefused, PeerUnreachable
from dicom_node.platform import acknowledge_at_once, answer_without_delay
from dicom_node.rejections import Rejection, meaning
from dicom_node.scu.association import Timeouts, called_at, say
from dicom_node.scu.secured import secure
from dicom_node.tls import why_failed

#: A SOP Class and a transfer syntax: one presentation context each.
Wish = tuple[str, str]

_APPLICATION_CONTEXT = "1.2.840.10008.3.1.1.1"
_ASSOCIATE_AC, _ASSOCIATE_RJ, _RELEASE_RQ, _RELEASE_RP, _ABORT = 0x02, 0x03, 0x05, 0x06, 0x07
_HEADER = struct.Struct(">BxL")
_RELEASE_RQ_PDU = _HEADER.pack(_RELEASE_RQ, 4) + bytes(4)
_RELEASE_RP_PDU = _HEADER.pack(_RELEASE_RP, 4) + bytes(4)
_ABORT_PDU = _HEADER.pack(_ABORT, 4) + bytes(4)
#: Bytes of a PDU that a peer may send us: it has answers to give, no data.
_LONGEST_ANSWER = 1 << 14
_LONGEST_ACCEPT = 1 << 20
#: Some peers count the PDU's own header out of the maximum.
_MARGIN = 1 << 10


class Link:
    """An association that is open."""

    def __init__(
        self,
        connection: socket.socket,
        peer: Peer,
        contexts: Mapping[Wish, int],
        maximum_length: int,
        timeouts: Timeouts,
    ) -> None:
        self._connection = connection
        self._peer = peer
        self._maximum_length = maximum_length
        self._timeouts = timeouts
        self.contexts = contexts
        """Presentation contexts that the peer accepted: their IDs."""

    def store(
        self,
        context_id: int,
        command: Mapping[int, pdata.Value],
        file: BinaryIO,
        length: int,
        *,
        answer_within_s: float,
    ) -> int:
        """Send one C-STORE request and give the Status that the peer answers.

        Parameters
        ----------
        command
            Elements of the command set.
        file
            Stands at the first byte of the data set, as the context's transfer syntax encodes it.
        length
            Bytes of the data set.
        answer_within_s
            Seconds for the sending of it all, and again for the answer.

        Raises
        ------
        PeerUnreachable
            The peer went away, is too slow, or answers what is no answer.
        """
        encoded = pdata.command_set(command, data_set=True)
        try:
            # A peer that takes a little now and then is no better than one that takes nothing.
            deadline = time.monotonic() + answer_within_s
            for buffer in pdata.stream(context_id, encoded, file, length, self._maximum_length):
                left_s = deadline - time.monotonic()
                if left_s <= 0:
                    raise TimeoutError("the peer is too slow")
                self._connection.settimeout(min(self._timeouts.answer_s, left_s))
                self._connection.sendall(buffer)
            return self._status(command, time.monotonic() + answer_within_s)
        except (OSError, pdata.MalformedMessage) as error:
            raise self._gone("went away before it answered for an instance") from error

    def release(self) -> None:
        """End the association in good order; a peer that does not answer is left."""
        with contextlib.suppress(OSError, PeerUnreachable):
            self._connection.settimeout(self._timeouts.associate_s)
            self._connection.sendall(_RELEASE_RQ_PDU)
            deadline = time.monotonic() + self._timeouts.associate_s
            while True:
                kind, _ = self._pdu(deadline)
                if kind == _RELEASE_RQ:  # both at once
                    self._connection.sendall(_RELEASE_RP_PDU)
                elif kind != pdata.P_DATA_TF:
                    break
        self._connection.close()

    def abort(self) -> None:
        """End the association at once."""
        with contextlib.suppress(OSError):
            self._connection.settimeout(1.0)
            self._connection.sendall(_ABORT_PDU)
        self._connection.close()

    def _status(self, command: Mapping[int, pdata.Value], deadline: float) -> int:
        """Read the answer to a request."""
        encoded = bytearray()
        while True:
            kind, content = self._pdu(deadline)
            if kind != pdata.P_DATA_TF:
                raise self._gone("ended the association before it answered for an instance")
            for control, fragment in pdata.fragments(content):
                encoded += fragment
                if not control & pdata.COMMAND:
                    raise pdata.MalformedMessage("an answer with a data set")
                if control & pdata.LAST:
                    return self._read_status(bytes(encoded), command)
            if len(encoded) > _LONGEST_ANSWER:
                raise pdata.MalformedMessage("an answer without an end")

    @staticmethod
    def _read_status(encoded: bytes, command: Mapping[int, pdata.Value]) -> int:
        values = pdata.read_command(encoded)
        status = pdata.number_in(values, pdata.STATUS)
        answered = pdata.number_in(values, pdata.MESSAGE_ID_BEING_RESPONDED_TO)
        if status is None or answered != command[pdata.MESSAGE_ID]:
            raise pdata.MalformedMessage("an answer to something else")
        named = values.get(pdata.AFFECTED_SOP_INSTANCE_UID, b"").rstrip(b"\0 ").decode("ascii", "replace")
        if named and named != command[pdata.AFFECTED_SOP_INSTANCE_UID]:
            raise pdata.MalformedMessage("an answer for another instance")
        return status

    def _pdu(self, deadline: float) -> tuple[int, bytes]:
        kind, length = _HEADER.unpack(receive(self._connection, _HEADER.size, deadline))
        if length > _LONGEST_ANSWER + _MARGIN:
            raise self._gone("claims an answer longer than agreed")
        return kind, receive(self._connection, length, deadline)

    def _gone(self, what: str) -> PeerUnreachable:
        return PeerUnreachable(f"{say(self._peer)} {what}.")


@contextlib.contextmanager
def linked(peer: Peer, *, calling_ae_title: str, wishes: Sequence[Wish], timeouts: Timeouts) -> Iterator[Link]:
    """Have an association with a peer; released at the end, aborted where the body fails.

    Raises
    ------
    PeerUnreachable
        No connection, no answer in time, or the peer aborted.
    AssociationRejected
        The peer does not want it.
    ContextRefused
        The peer accepted it, and none of the contexts.
    """
    link = _open(peer, calling_ae_title, wishes, timeouts)
    try:
        if not link.contexts:
            raise ContextRefused(f"{say(peer)} accepted none of the presentation contexts.")
        yield link
    except BaseException:
        link.abort()
        raise
    link.release()


def _open(peer: Peer, calling_ae_title: str, wishes: Sequence[Wish], timeouts: Timeouts) -> Link:
    host, port, called = called_at(peer, calling_ae_title)
    try:
        connection = socket.create_connection((host, port), timeout=timeouts.connect_s)
    except OSError as error:
        raise PeerUnreachable(f"{say(peer)} cannot be reached: {error.strerror or error}.") from error
    try:
        connection = secure(connection, peer)
    except OSError as error:
        connection.close()
        why = why_failed(error) if isinstance(error, ssl.SSLError) else "no handshake in time, or it broke"
        raise PeerUnreachable(f"{say(peer)} cannot be reached: TLS failed, {why}.") from error
    try:
        answer_without_delay(connection)
        connection.settimeout(timeouts.associate_s)
        connection.sendall(_request(called, calling_ae_title, wishes))
        return _accepted(connection, peer, wishes, timeouts)
    except BaseException as error:
        connection.close()
        if isinstance(error, OSError):
            raise PeerUnreachable(f"{say(peer)} did not answer the association request, or aborted it.") from error
        raise


def _request(called: str, calling: str, wishes: Sequence[Wish]) -> bytes:
    request = A_ASSOCIATE()
    request.application_context_name = UID(_APPLICATION_CONTEXT)
    request.calling_ae_title, request.called_ae_title = calling, called
    contexts = [build_context(sop_class, syntax) for sop_class, syntax in wishes]
    for number, context in enumerate(contexts):
        context.context_id = 2 * number + 1
    request.presentation_context_definition_list = contexts
    length, ours, name = (
        MaximumLengthNotification(),
        ImplementationClassUIDNotification(),
        ImplementationVersionNameNotification(),
    )
    length.maximum_length_received = _LONGEST_ANSWER
    ours.implementation_class_uid = UID(IMPLEMENTATION_CLASS_UID)
    name.implementation_version_name = IMPLEMENTATION_VERSION_NAME
    request.user_information = [length, ours, name]
    return bytes(A_ASSOCIATE_RQ(request).encode())


def _accepted(connection: socket.socket, peer: Peer, wishes: Sequence[Wish], timeouts: Timeouts) -> Link:
    deadline = time.monotonic() + timeouts.associate_s
    header = receive(connection, _HEADER.size, deadline)
    kind, length = _HEADER.unpack(header)
    if kind not in (_ASSOCIATE_AC, _ASSOCIATE_RJ) or length > _LONGEST_ACCEPT:
        raise PeerUnreachable(f"{say(peer)} did not answer the association request, or aborted it.")
    content = receive(connection, length, deadline)
    if kind == _ASSOCIATE_RJ:
        raise _rejected(peer, content)
    accept = A_ASSOCIATE_AC()
    try:
        accept.decode(header + content)
        answer = accept.to_primitive()
        maximum_length = int(answer.maximum_length_received or 0)
        contexts = {
            wishes[(int(context.context_id or 0) - 1) // 2]: int(context.context_id or 0)
            for context in answer.presentation_context_definition_results_list
            if context.result == 0
        }
    except Exception as error:
        raise PeerUnreachable(f"{say(peer)} answered the association request with what is no answer.") from error
    return Link(connection, peer, contexts, maximum_length, timeouts)


def _rejected(peer: Peer, content: bytes) -> AssociationRejected:
    """Source: PS3.8 9.3.4 (one reserved byte, then result, source, reason)."""
    result, source, reason = content[1:4] if len(content) >= 4 else (1, 1, 1)
    words = meaning(Rejection(result, source, reason))
    return AssociationRejected(
        f"{say(peer)} rejected the association: {words}.", result=result, source=source, reason=reason
    )


def receive(connection: socket.socket, size: int, deadline: float) -> bytes:
    """Read exactly `size` bytes before a moment of the monotonic clock.

    Raises
    ------
    OSError
        The connection broke or ended, or the peer was too slow.
    """
    content = bytearray(size)
    view = memoryview(content)
    done = 0
    while done < size:
        left_s = deadline - time.monotonic()
        if left_s <= 0:
            raise TimeoutError("the peer is too slow")
        connection.settimeout(left_s)
        count = connection.recv_into(view[done:])
        if not count:
            raise ConnectionResetError("the peer closed the connection")
        acknowledge_at_once(connection)
        done += count
    return bytes(content)
