from __future__ import annotations

import pytest
from pynetdicom.fsm import ACTIONS, TRANSITION_TABLE

from dicom_node.scp.states import NEXT, TABLE, Action, Event, Machine, State

OURS = {state.value for state in State}
#: Local wishes of a requestor: no acceptor has them.
REQUESTOR_ONLY = {"Evt1", "Evt2", "Evt11"}


def test_the_table_is_table_9_10_for_an_acceptor() -> None:
    standard = {
        (state, event): action
        for (event, state), action in TRANSITION_TABLE.items()
        if state in OURS and event not in REQUESTOR_ONLY
    }
    assert {(state.value, event.value): action.value for (state, event), action in TABLE.items()} == standard


@pytest.mark.parametrize("action", [action for action in Action if action is not Action.AE_6])
def test_each_action_leads_to_the_standard_s_next_state(action: Action) -> None:
    _, _, following = ACTIONS[action.value]
    assert NEXT[action].value == following


def test_a_request_leads_on_to_our_answer() -> None:
    assert NEXT[Action.AE_6].value in ACTIONS["AE-6"][2]


def test_every_state_can_be_reached_and_left() -> None:
    reached, known = {State.IDLE}, set[State]()
    while reached != known:
        known = set(reached)
        reached |= {NEXT[action] for (state, _), action in TABLE.items() if state in known}
    assert reached == set(State)


def test_every_pdu_is_answered_in_every_state_with_a_connection() -> None:
    arriving = {
        Event.ASSOCIATE_AC,
        Event.ASSOCIATE_RJ,
        Event.ASSOCIATE_RQ,
        Event.P_DATA,
        Event.RELEASE_RQ,
        Event.RELEASE_RP,
        Event.PEER_ABORT,
        Event.INVALID_PDU,
        Event.CLOSED,
    }
    for state in set(State) - {State.IDLE}:
        assert {event for event in arriving if (state, event) in TABLE} == arriving, state


def test_an_event_that_came_too_late_changes_nothing() -> None:
    machine = Machine()
    assert machine.on(Event.P_DATA) is None
    assert machine.state is State.IDLE


def test_a_whole_association_walks_through_the_table() -> None:
    machine = Machine()
    events = [
        Event.CONNECTED,
        Event.ASSOCIATE_RQ,
        Event.ACCEPT,
        Event.P_DATA,
        Event.SEND_DATA,
        Event.RELEASE_RQ,
        Event.AGREE_TO_RELEASE,
        Event.CLOSED,
    ]
    assert [action.value for event in events if (action := machine.on(event))] == [
        *("AE-5", "AE-6", "AE-7", "DT-2", "DT-1", "AR-2", "AR-4", "AR-5"),
    ]
    assert machine.state is State.IDLE
