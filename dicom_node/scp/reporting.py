"""Reports of storage commitment on the association that asked for it.

The peer gets a moment to release: who hangs up at once wants the report on an association of ours, and a report
that crosses a release confuses many. Where it stays, the report goes out as one more message of the association;
the courier takes over whatever was not taken here.
"""

from __future__ import annotations

import itertools
import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from io import BytesIO
from typing import Any

from pydicom.uid import UID
from pynetdicom import evt
from pynetdicom.association import Association
from pynetdicom.dimse_messages import N_EVENT_REPORT_RSP
from pynetdicom.dimse_primitives import N_EVENT_REPORT
from pynetdicom.dsutils import encode
from pynetdicom.events import Event

from dicom_node.commitment_report import (
    COMMITMENT_PUSH_MODEL,
    COMMITMENT_PUSH_MODEL_INSTANCE,
    event_information,
    event_type_of,
    was_taken,
)
from dicom_node.scp.services import ScpParts
from storage.commitments import Commitments
from storage.errors import StorageError
from storage.peer_records import CommitmentRecord, CommitmentState

log = logging.getLogger(__name__)

#: Seconds between the answer to a request and its report on the same association.
GRACE_S = 1.0
#: Seconds between looks at whether the receiver stops.
_LOOK_S = 5.0


@dataclass(eq=False)
class _Expected:
    """One report that the association of its request still may take."""

    association: Association
    context_id: int
    commitment: CommitmentRecord
    send_at: float
    """Monotonic time."""
    message_id: int | None = None
    """Of the report, once it is sent."""


class Reporting:
    """Sends reports on the associations of their requests, from a thread of its own."""

    def __init__(
        self, commitments: Commitments, parts: ScpParts, *, clock: Callable[[], datetime], grace_s: float = GRACE_S
    ) -> None:
        self.grace_s = grace_s
        self._commitments = commitments
        self._parts = parts
        self._clock = clock
        self._expected: list[_Expected] = []
        self._changed = threading.Condition()
        self._message_ids = itertools.count(1)
        self._thread: threading.Thread | None = None

    def handlers(self) -> Sequence[evt.EventHandlerType]:
        """Give the handlers that hear of answers and of ends."""
        return [
            (evt.EVT_DIMSE_RECV, self._on_message),
            (evt.EVT_RELEASED, self._on_end),
            (evt.EVT_ABORTED, self._on_end),
            (evt.EVT_CONN_CLOSE, self._on_end),
        ]

    def expect(self, association: Association, context_id: int, commitment: CommitmentRecord) -> None:
        """Take note of a report to send; called by the association's own thread, before it answers the request."""
        _send_whole_messages(association)
        with self._changed:
            self._expected.append(_Expected(association, context_id, commitment, time.monotonic() + self.grace_s))
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="commitment-reports", daemon=True)
                self._thread.start()
            self._changed.notify()

    def _run(self) -> None:
        while not self._parts.stopping.is_set():
            with self._changed:
                now = time.monotonic()
                ready = [each for each in self._expected if each.message_id is None and each.send_at <= now]
                for each in ready:
                    each.message_id = next(self._message_ids) % 65535 + 1
                if not ready:
                    later = [each.send_at - now for each in self._expected if each.message_id is None]
                    self._changed.wait(min(later, default=_LOOK_S))
            for each in ready:
                try:
                    self._send(each)
                except Exception:
                    log.exception("report not sent: our fault", extra=_facts("commitment_report_failed", each))

    def _send(self, expected: _Expected) -> None:
        association = expected.association
        if self._parts.register.of(association) is None or not association.is_established:
            self._hand_over(expected)
            return
        now = self._clock()
        until = now + timedelta(seconds=self._parts.settings.answer_within_s)
        commitment = self._commitments.claim(expected.commitment, now=now, until=until)
        if commitment is None:
            self._forget(expected)
            return
        association.dimse.send_msg(_report(commitment, expected, association), expected.context_id)

    def _on_message(self, event: Event) -> None:
        if not isinstance(event.message, N_EVENT_REPORT_RSP):
            return
        command = event.message.command_set
        message_id = command.get("MessageIDBeingRespondedTo")
        with self._changed:
            found = [
                each for each in self._expected if each.association is event.assoc and each.message_id == message_id
            ]
        for expected in found:
            self._note_answer(expected, int(command.get("Status", 0x0110)))

    def _note_answer(self, expected: _Expected, status: int) -> None:
        self._forget(expected)
        commitment_id = expected.commitment.commitment_id
        try:
            if was_taken(status):
                reason = "the report was taken on the association of the request"
                self._commitments.end(commitment_id, CommitmentState.TAKEN, reason, self._clock())
                log.info("report taken", extra=_facts("commitment_reported", expected))
            else:
                reason = f"The report was answered with 0x{status:04X}."
                self._commitments.put_off(commitment_id, reason, self._clock())
        except StorageError as error:
            facts = _facts("commitment_report_unrecorded", expected)
            log.warning("answer to a report not recorded; it is sent again", extra={**facts, "error": error.code})

    def _on_end(self, event: Event) -> None:
        with self._changed:
            left = [each for each in self._expected if each.association is event.assoc]
        for expected in left:
            self._hand_over(expected)

    def _hand_over(self, expected: _Expected) -> None:
        """Leave a report to the courier, at once."""
        if not self._forget(expected):
            return
        try:
            self._commitments.put_off(
                expected.commitment.commitment_id, "The association of the request has ended.", self._clock()
            )
        except StorageError as error:
            facts = _facts("commitment_report_unrecorded", expected)
            log.warning("report waits for its time", extra={**facts, "error": error.code})

    def _forget(self, expected: _Expected) -> bool:
        with self._changed:
            if expected not in self._expected:
                return False
            self._expected.remove(expected)
        return True


def _report(commitment: CommitmentRecord, expected: _Expected, association: Association) -> N_EVENT_REPORT:
    syntax = next(
        context.transfer_syntax[0]
        for context in association.accepted_contexts
        if context.context_id == expected.context_id
    )
    report = N_EVENT_REPORT()
    report.MessageID = expected.message_id
    report.AffectedSOPClassUID = UID(COMMITMENT_PUSH_MODEL)
    report.AffectedSOPInstanceUID = UID(COMMITMENT_PUSH_MODEL_INSTANCE)
    report.EventTypeID = event_type_of(commitment)
    encoded = encode(event_information(commitment), syntax.is_implicit_VR, syntax.is_little_endian, syntax.is_deflated)
    report.EventInformation = BytesIO(encoded or b"")
    return report


def _send_whole_messages(association: Association) -> None:
    """Let two threads send on one association: the fragments of a message stay together."""
    dimse: Any = association.dimse
    if "send_msg" in vars(dimse):
        return
    send, turn = dimse.send_msg, threading.Lock()

    def send_whole(primitive: Any, context_id: int) -> None:
        with turn:
            send(primitive, context_id)

    dimse.send_msg = send_whole


def _facts(action: str, expected: _Expected) -> dict[str, object]:
    return {
        "action": action,
        "peer": expected.commitment.peer,
        "calling_ae_title": expected.commitment.calling_ae_title,
        "transaction_uid": expected.commitment.transaction_uid,
    }
