"""The upper layer's state machine, as far as an acceptor can come in it: the table of PS3.8 9.2.

Rows and actions of a requestor (Sta4, 5, 7, 9 to 12) are left out: storage associations are only ever asked of us.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum


class State(Enum):
    """Where an association is. Source: PS3.8 Tables 9-1 to 9-5."""

    __hash__ = object.__hash__  # members are single; by name, each look-up would hash in Python

    IDLE = "Sta1"
    AWAITING_REQUEST = "Sta2"
    AWAITING_ANSWER = "Sta3"
    """The request is here; ours to say yes or no."""
    ESTABLISHED = "Sta6"
    AWAITING_RELEASE_ANSWER = "Sta8"
    """The peer wants to release; ours to agree."""
    AWAITING_CLOSE = "Sta13"


class Event(Enum):
    """What happens to an association. Source: PS3.8 Table 9-10."""

    __hash__ = object.__hash__  # members are single; by name, each look-up would hash in Python

    CONNECTED = "Evt5"
    ASSOCIATE_AC = "Evt3"
    ASSOCIATE_RJ = "Evt4"
    ASSOCIATE_RQ = "Evt6"
    ACCEPT = "Evt7"
    REJECT = "Evt8"
    SEND_DATA = "Evt9"
    P_DATA = "Evt10"
    RELEASE_RQ = "Evt12"
    RELEASE_RP = "Evt13"
    AGREE_TO_RELEASE = "Evt14"
    ABORT = "Evt15"
    """Our own wish."""
    PEER_ABORT = "Evt16"
    CLOSED = "Evt17"
    ARTIM_EXPIRED = "Evt18"
    INVALID_PDU = "Evt19"


class Action(Enum):
    """What is done about it. Source: PS3.8 Tables 9-6 to 9-9."""

    __hash__ = object.__hash__  # members are single; by name, each look-up would hash in Python

    AE_5 = "AE-5"  # issue connection response; start ARTIM
    AE_6 = "AE-6"  # stop ARTIM; indicate the request, or reject it and start ARTIM
    AE_7 = "AE-7"  # send A-ASSOCIATE-AC
    AE_8 = "AE-8"  # send A-ASSOCIATE-RJ; start ARTIM
    DT_1 = "DT-1"  # send P-DATA-TF
    DT_2 = "DT-2"  # indicate P-DATA
    AR_2 = "AR-2"  # indicate release
    AR_4 = "AR-4"  # send A-RELEASE-RP; start ARTIM
    AR_5 = "AR-5"  # stop ARTIM
    AR_7 = "AR-7"  # send P-DATA-TF
    AA_1 = "AA-1"  # send A-ABORT (service user); start or restart ARTIM
    AA_2 = "AA-2"  # stop ARTIM; close
    AA_3 = "AA-3"  # indicate abort; close
    AA_4 = "AA-4"  # indicate provider abort
    AA_5 = "AA-5"  # stop ARTIM
    AA_6 = "AA-6"  # ignore the PDU
    AA_7 = "AA-7"  # send A-ABORT
    AA_8 = "AA-8"  # send A-ABORT (service provider); indicate provider abort; start ARTIM


#: The state after an action. AE-6 leads to Sta13 instead where the provider itself rejects the request.
NEXT: Mapping[Action, State] = {
    Action.AE_5: State.AWAITING_REQUEST,
    Action.AE_6: State.AWAITING_ANSWER,
    Action.AE_7: State.ESTABLISHED,
    Action.AE_8: State.AWAITING_CLOSE,
    Action.DT_1: State.ESTABLISHED,
    Action.DT_2: State.ESTABLISHED,
    Action.AR_2: State.AWAITING_RELEASE_ANSWER,
    Action.AR_4: State.AWAITING_CLOSE,
    Action.AR_5: State.IDLE,
    Action.AR_7: State.AWAITING_RELEASE_ANSWER,
    Action.AA_1: State.AWAITING_CLOSE,
    Action.AA_2: State.IDLE,
    Action.AA_3: State.IDLE,
    Action.AA_4: State.IDLE,
    Action.AA_5: State.IDLE,
    Action.AA_6: State.AWAITING_CLOSE,
    Action.AA_7: State.AWAITING_CLOSE,
    Action.AA_8: State.AWAITING_CLOSE,
}

#: Columns of the table below.
_STATES = (
    State.IDLE,
    State.AWAITING_REQUEST,
    State.AWAITING_ANSWER,
    State.ESTABLISHED,
    State.AWAITING_RELEASE_ANSWER,
    State.AWAITING_CLOSE,
)
#: Source: PS3.8 Table 9-10, its columns Sta1, 2, 3, 6, 8, 13; an empty cell cannot happen.
_ROWS: Mapping[Event, str] = {
    Event.ASSOCIATE_AC: "     .    AA-1 AA-8 AA-8 AA-8 AA-6",
    Event.ASSOCIATE_RJ: "     .    AA-1 AA-8 AA-8 AA-8 AA-6",
    Event.CONNECTED: "        AE-5 .    .    .    .    .   ",
    Event.ASSOCIATE_RQ: "     .    AE-6 AA-8 AA-8 AA-8 AA-7",
    Event.ACCEPT: "           .    .    AE-7 .    .    .   ",
    Event.REJECT: "           .    .    AE-8 .    .    .   ",
    Event.SEND_DATA: "        .    .    .    DT-1 AR-7 .   ",
    Event.P_DATA: "           .    AA-1 AA-8 DT-2 AA-8 AA-6",
    Event.RELEASE_RQ: "       .    AA-1 AA-8 AR-2 AA-8 AA-6",
    Event.RELEASE_RP: "       .    AA-1 AA-8 AA-8 AA-8 AA-6",
    Event.AGREE_TO_RELEASE: " .    .    .    .    AR-4 .   ",
    Event.ABORT: "            .    .    AA-1 AA-1 AA-1 .   ",
    Event.PEER_ABORT: "       .    AA-2 AA-3 AA-3 AA-3 AA-2",
    Event.CLOSED: "           .    AA-5 AA-4 AA-4 AA-4 AR-5",
    Event.ARTIM_EXPIRED: "    .    AA-2 .    .    .    AA-2",
    Event.INVALID_PDU: "      .    AA-1 AA-8 AA-8 AA-8 AA-7",
}
TABLE: Mapping[tuple[State, Event], Action] = {
    (state, event): Action(cell)
    for event, row in _ROWS.items()
    for state, cell in zip(_STATES, row.split(), strict=True)
    if cell != "."
}


class Machine:
    """The state of one association, changed by the table alone."""

    def __init__(self) -> None:
        self.state = State.IDLE

    def on(self, event: Event) -> Action | None:
        """Take in an event; give the action, or None where the table has none: it came too late to matter."""
        action = TABLE.get((self.state, event))
        if action is not None:
            self.state = NEXT[action]
        return action
