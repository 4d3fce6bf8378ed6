"""One association for storage and verification, served in its connection's own thread.

Messages are read in one pass: a command set into memory, a data set straight through to the one door. Where the
peer negotiated a window, instances become durable beside the reading, and are answered as they do.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from dicom_node.scp import commands, pdus
from dicom_node.scp.commands import Command, MalformedCommand
from dicom_node.scp.connection import BeyondBounds, BoundedConnection, TooSlow
from dicom_node.scp.contexts import VERIFICATION
from dicom_node.scp.pdus import AssociateAnswer, AssociateRequest, MalformedPdu
from dicom_node.scp.register import OpenAssociation
from dicom_node.scp.states import Action, Event, State
from dicom_node.scp.status import (
    DUPLICATE_INVOCATION,
    MISTYPED_ARGUMENT,
    SOP_CLASS_NOT_SUPPORTED,
    SUCCESS,
    UNRECOGNIZED_OPERATION,
)
from dicom_node.scp.store import Named, Reception, StoreParts
from dicom_node.scp.stream import Fragment, PduStream
from dicom_node.scp.upper_layer import ARRIVAL, UpperLayer

log = logging.getLogger(__name__)


class UnexpectedFragment(Exception):
    """A PDV that its message has no place for."""


class StorageAssociation:
    """Serves an accepted association until its end."""

    def __init__(
        self,
        connection: BoundedConnection,
        upper_layer: UpperLayer,
        request: AssociateRequest,
        answer: AssociateAnswer,
        here: OpenAssociation,
        parts: StoreParts,
    ) -> None:
        self._connection = connection
        self._upper_layer = upper_layer
        self._here = here
        self._parts = parts
        self._maximum_length = request.maximum_length
        abstract_syntaxes = {context.context_id: context.abstract_syntax for context in request.contexts}
        self._contexts = {
            context.context_id: (abstract_syntaxes[context.context_id], context.transfer_syntax)
            for context in answer.contexts
            if context.result == 0
        }
        self._window = answer.window[0] if answer.window else 1
        self._room = threading.BoundedSemaphore(self._window)
        self._keepers: ThreadPoolExecutor | None = None
        self._outstanding: set[int] = set()
        self._outstanding_lock = threading.Lock()
        self._command = bytearray()
        self._context_id = 0
        self._message: _Message | None = None
        self._take: Callable[[memoryview], None] = _ignore
        self._stream = PduStream(connection)

    def serve(self) -> None:
        """Read and answer until the association's end; the entry's `end` says which it came to.

        Where the peer asked for a release, every answer is out, and the agreement is left to the caller.
        """
        try:
            self._connection.stream()
            while self._upper_layer.state is State.ESTABLISHED:
                self._serve_pdu()
        except (MalformedPdu, MalformedCommand, UnexpectedFragment, BeyondBounds) as error:
            self._abort_for(error)
        except TooSlow:
            self._upper_layer.on(Event.ABORT)
        except OSError:
            if self._upper_layer.state is not State.AWAITING_CLOSE:  # else the end is ours
                self._here.end = "lost"
            self._upper_layer.on(Event.CLOSED)
        finally:
            self._here.unfinished_instance = self._stream.in_message
            if self._message is not None:
                self._message.forget()
            if self._keepers is not None:
                self._keepers.shutdown()

    def _abort_for(self, error: Exception) -> None:
        self._connection.broken_rule = str(error)
        if isinstance(error, MalformedCommand):
            self._upper_layer.on(Event.ABORT)  # the service user's complaint, not the provider's
            return
        reason = pdus.UNEXPECTED_PARAMETER if isinstance(error, UnexpectedFragment) else pdus.INVALID_PARAMETER
        self._upper_layer.on(Event.INVALID_PDU, reason=reason)

    def _serve_pdu(self) -> None:
        kind, length = self._stream.next_pdu()
        if kind == pdus.P_DATA_TF:
            if self._upper_layer.state is not State.ESTABLISHED:  # else DT-2, which changes nothing
                self._upper_layer.on(Event.P_DATA)
            for fragment in self._stream.fragments(length):
                self._take_fragment(fragment)
            return
        content = self._stream.content(length)
        event = ARRIVAL.get(kind, Event.INVALID_PDU)
        if kind == pdus.RELEASE_RQ and self._stream.in_message:
            raise UnexpectedFragment("a release within a message")
        if event is Event.PEER_ABORT:
            self._here.end = "lost" if content[2:3] == bytes((pdus.SERVICE_PROVIDER,)) else "aborted"
        reason = pdus.UNRECOGNIZED_PDU if event is Event.INVALID_PDU else pdus.UNEXPECTED_PDU
        if self._upper_layer.on(event, reason=reason) is Action.AA_8:
            self._connection.broken_rule = "a PDU that has no place here"

    def _take_fragment(self, fragment: Fragment) -> None:
        if self._message is None and not self._command:
            self._context_id = fragment.context_id
        if fragment.context_id != self._context_id or fragment.context_id not in self._contexts:
            raise UnexpectedFragment("a fragment is of another presentation context, or of none")
        if fragment.is_command:
            if self._message is not None:
                raise UnexpectedFragment("a command fragment where the data set should be")
            if len(self._command) + fragment.length > commands.LONGEST_COMMAND:
                raise MalformedCommand("a command is longer than any sensible one")
            self._stream.pass_on(fragment.length, self._command.extend)
            if fragment.is_last:
                self._stream.deliver()
                self._begin_message(commands.read_command(self._command))
            return
        if self._message is None:
            raise UnexpectedFragment("a data set without a command")
        self._stream.pass_on(fragment.length, self._take)
        if fragment.is_last:
            self._stream.deliver()
            self._end_message(self._message)

    def _begin_message(self, command: Command) -> None:
        self._command.clear()
        message = self._message_of(command)
        if command.has_data_set:
            self._message = message
            self._take = message.write
        else:
            self._end_message(message)

    def _end_message(self, message: _Message) -> None:
        self._message = None
        self._stream.message_ended()
        if message.command.field == commands.C_CANCEL_RQ:
            return  # nothing here can be cancelled, and a cancel has no response (PS3.7 9.3.2.3)
        if self._window == 1 or message.reception is None:
            self._answer(message)
            return
        self._room.acquire()
        if self._keepers is None:
            self._keepers = ThreadPoolExecutor(self._window, "store-keeper")
        with self._outstanding_lock:
            self._outstanding.add(message.command.message_id)
        self._keepers.submit(self._answer_beside, message)

    def _answer_beside(self, message: _Message) -> None:
        try:
            self._answer(message)
        finally:
            self._room.release()

    def _answer(self, message: _Message) -> None:
        response = commands.write_response(message.command, message.keep())
        with self._outstanding_lock:
            self._outstanding.discard(message.command.message_id)
        self._upper_layer.on(Event.SEND_DATA, pdus.write_p_data(message.context_id, response, self._maximum_length))

    def _message_of(self, command: Command) -> _Message:
        """Decide what becomes of a request, before its data set comes.

        Raises
        ------
        MalformedCommand
            It is a response, and nothing was asked.
        """
        if command.field & commands.RESPONSE:
            raise MalformedCommand("a response to no request of ours")
        abstract_syntax, transfer_syntax = self._contexts[self._context_id]
        with self._outstanding_lock:
            repeated = command.message_id in self._outstanding
        if command.field == commands.C_ECHO_RQ:
            status = SUCCESS if abstract_syntax == VERIFICATION else SOP_CLASS_NOT_SUPPORTED
            return _Message(command, self._context_id, status)
        if command.field != commands.C_STORE_RQ:
            return _Message(command, self._context_id, UNRECOGNIZED_OPERATION)
        if repeated:
            return _Message(command, self._context_id, DUPLICATE_INVOCATION)
        if not command.has_data_set:
            return _Message(command, self._context_id, MISTYPED_ARGUMENT)
        named = Named(command.sop_class_uid, command.sop_instance_uid, abstract_syntax, transfer_syntax)
        return _Message(command, self._context_id, reception=Reception(self._parts, self._here, named))


class _Message:
    """One request on its way in, and what it will be answered."""

    def __init__(
        self, command: Command, context_id: int, status: int = SUCCESS, *, reception: Reception | None = None
    ) -> None:
        self.command = command
        self.context_id = context_id
        self.reception = reception
        self._status = status

    def write(self, view: memoryview) -> None:
        """Take bytes of the data set; without a reception they are dropped."""
        if self.reception is not None:
            self.reception.write(view)

    def keep(self) -> int:
        """Finish it; give the Status."""
        return self._status if self.reception is None else self.reception.keep()

    def forget(self) -> None:
        """Let go of what did not come to its end."""
        if self.reception is not None:
            self.reception.forget()


def _ignore(_: memoryview) -> None:
    """Take nothing."""
