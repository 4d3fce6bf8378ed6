"""The upper layer of one association as its acceptor: what the state machine's actions do to a connection."""

from __future__ import annotations

import threading
import time

from dicom_node.rejections import Rejection
from dicom_node.scp import pdus
from dicom_node.scp.connection import BoundedConnection
from dicom_node.scp.states import Action, Event, Machine, State

#: PDU type → what its arrival is to the state machine. Source: PS3.8 9.3.1, Table 9-10.
ARRIVAL = {
    pdus.ASSOCIATE_RQ: Event.ASSOCIATE_RQ,
    pdus.ASSOCIATE_AC: Event.ASSOCIATE_AC,
    pdus.ASSOCIATE_RJ: Event.ASSOCIATE_RJ,
    pdus.P_DATA_TF: Event.P_DATA,
    pdus.RELEASE_RQ: Event.RELEASE_RQ,
    pdus.RELEASE_RP: Event.RELEASE_RP,
    pdus.ABORT: Event.PEER_ABORT,
}
#: Seconds that a peer gets to close the connection after our last word: the ARTIM timer of Sta13.
_CLOSE_WITHIN_S = 5.0
_SENDS = frozenset({Action.AE_7, Action.AE_8, Action.DT_1, Action.AR_4, Action.AR_7})
_CLOSES = frozenset({Action.AA_2, Action.AA_3})


class UpperLayer:
    """Takes in events and does what the table says; several threads may send or abort, one reads."""

    def __init__(self, connection: BoundedConnection) -> None:
        self._connection = connection
        self._machine = Machine()
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self.on(Event.CONNECTED)

    @property
    def state(self) -> State:
        """Where the association is."""
        return self._machine.state

    def on(self, event: Event, pdu: bytes = b"", *, reason: int = pdus.NOT_SPECIFIED) -> Action | None:
        """Take in an event and act; what cannot be sent any more is left: the reader will hear of it.

        Parameters
        ----------
        pdu
            What a sending action sends.
        reason
            Of a provider's abort (PS3.8 Table 9-26).

        Returns
        -------
        Action or None
            None: the event came too late to matter.
        """
        with self._lock:
            action = self._machine.on(event)
            try:
                self._act(action, pdu, reason)
            except OSError:
                self._connection.shutdown_both()
        return action

    def _act(self, action: Action | None, pdu: bytes, reason: int) -> None:
        if action in _SENDS:
            self._connection.send_all(pdu)
        elif action is Action.AA_1:
            self._connection.send_all(pdus.write_abort(pdus.SERVICE_USER, pdus.NOT_SPECIFIED))
        elif action in (Action.AA_7, Action.AA_8):
            self._connection.send_all(pdus.write_abort(pdus.SERVICE_PROVIDER, reason))
        elif action in _CLOSES:
            self._connection.close()

    def is_alive(self) -> bool:
        """Tell whether the connection is still open."""
        return not self._ended.is_set()

    def abort(self, *, block: bool = True) -> None:
        """End the association at once, by A-ABORT; without `block`, its own thread sees to the rest."""
        self.on(Event.ABORT)
        self._connection.stop_receiving()
        if block:
            self.join()

    def join(self, timeout: float | None = None) -> None:
        """Wait until the connection is closed."""
        self._ended.wait(timeout)

    def reject_as_provider(self, rejection: Rejection) -> None:
        """Reject a request that nobody could meet: the other half of action AE-6."""
        if self.on(Event.ASSOCIATE_RQ) is Action.AE_6:
            self.on(Event.REJECT, pdus.write_associate_rj(rejection))

    def await_close(self) -> None:
        """Be in Sta13: pass over what still comes until the peer closes, or ARTIM expires; then close.

        Closing at once would let the kernel take back our last word where bytes of the peer lie unread.
        """
        deadline = time.monotonic() + _CLOSE_WITHIN_S
        if self.state is State.AWAITING_CLOSE:
            self._connection.stop_sending()  # the peer finds the end behind our last word
        while self.state is State.AWAITING_CLOSE:
            if not self._connection.pass_over(deadline - time.monotonic()):
                self.on(Event.ARTIM_EXPIRED if time.monotonic() >= deadline else Event.CLOSED)
        self.close()

    def close(self) -> None:
        """Let the connection go."""
        self._connection.close()
        self._ended.set()
