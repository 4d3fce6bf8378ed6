"""Every cell of PS3.8 Table 9-10 on a socket: what the peer gets to read, and whether the connection stays open."""

from __future__ import annotations

import contextlib
import itertools
import socket
import struct
from collections.abc import Iterator

import pytest
from pynetdicom.fsm import TRANSITION_TABLE

from dicom_node.rejections import CALLING_AE_TITLE_NOT_RECOGNIZED
from dicom_node.scp import pdus
from dicom_node.scp.connection import BoundedConnection, Bounds
from dicom_node.scp.states import Event, State
from dicom_node.scp.upper_layer import UpperLayer

BOUNDS = Bounds(
    maximum_pdu_size=16384,
    maximum_message=1 << 20,
    maximum_in_memory=1 << 20,
    maximum_association=1 << 30,
    first_pdu_within_s=5,
    pdu_within_s=5,
    send_within_s=5,
)
#: How each state is come to from an open connection.
WAY: dict[State, tuple[Event, ...]] = {
    State.AWAITING_REQUEST: (),
    State.AWAITING_ANSWER: (Event.ASSOCIATE_RQ,),
    State.ESTABLISHED: (Event.ASSOCIATE_RQ, Event.ACCEPT),
    State.AWAITING_RELEASE_ANSWER: (Event.ASSOCIATE_RQ, Event.ACCEPT, Event.RELEASE_RQ),
    State.AWAITING_CLOSE: (Event.INVALID_PDU,),
}
#: What our own wishes send.
SENT = {
    Event.ACCEPT: pdus.pdu(pdus.ASSOCIATE_AC, b"accept"),
    Event.REJECT: pdus.write_associate_rj(CALLING_AE_TITLE_NOT_RECOGNIZED),
    Event.SEND_DATA: pdus.pdu(pdus.P_DATA_TF, b"data"),
    Event.AGREE_TO_RELEASE: pdus.write_release_rp(),
}
ABORT_OF_USER = pdus.write_abort(pdus.SERVICE_USER, pdus.NOT_SPECIFIED)
ABORT_OF_PROVIDER = pdus.write_abort(pdus.SERVICE_PROVIDER, pdus.UNEXPECTED_PDU)

#: Action → what goes out, and whether the connection is open afterwards; None: what the event says.
#: Written anew after PS3.8 Tables 9-6 to 9-9.
DOES: dict[str, tuple[bytes | None, bool]] = {
    "AE-6": (b"", True),
    "AE-7": (None, True),
    "AE-8": (None, True),
    "DT-1": (None, True),
    "DT-2": (b"", True),
    "AR-2": (b"", True),
    "AR-4": (None, True),
    "AR-5": (b"", False),  # the peer closed it
    "AR-7": (None, True),
    "AA-1": (ABORT_OF_USER, True),
    "AA-2": (b"", False),
    "AA-3": (b"", False),
    "AA-4": (b"", False),  # the peer closed it
    "AA-5": (b"", False),  # the peer closed it
    "AA-6": (b"", True),
    "AA-7": (ABORT_OF_PROVIDER, True),
    "AA-8": (ABORT_OF_PROVIDER, True),
}


@contextlib.contextmanager
def connected() -> Iterator[tuple[UpperLayer, socket.socket]]:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as peer:
        ours, _ = server.accept()
        layer = UpperLayer(BoundedConnection(ours, BOUNDS))
        peer.settimeout(5)
        try:
            yield layer, peer
        finally:
            layer.close()


def read_all(peer: socket.socket, layer: UpperLayer) -> bytes:
    """Read what went out; a mark behind it says where it ends, where the connection is open."""
    mark = struct.pack(">BxL", 0xEE, 0)
    with contextlib.suppress(OSError):
        layer._connection.send_all(mark)
    heard = b""
    while not heard.endswith(mark):
        chunk = peer.recv(4096)
        if not chunk:
            return heard
        heard += chunk
    return heard.removesuffix(mark)


def standard(state: State, event: Event) -> str | None:
    """Give the standard's action, by another implementation's table; None: the cell is empty."""
    return TRANSITION_TABLE.get((event.value, state.value))


@pytest.mark.parametrize(
    ("state", "event"),
    [
        pytest.param(state, event, id=f"{state.value}-{event.value}")
        for state, event in itertools.product(WAY, Event)
        if event is not Event.CONNECTED
    ],
)
def test_each_cell_does_on_the_wire_what_its_action_says(state: State, event: Event) -> None:
    action = standard(state, event)
    sent = SENT.get(event, b"")
    with connected() as (layer, peer):
        for step in WAY[state]:
            layer.on(step)
        assert layer.state is state
        read_all(peer, layer)
        done = layer.on(event, sent, reason=pdus.UNEXPECTED_PDU)
        assert (done.value if done is not None else None) == action
        heard = read_all(peer, layer)
        expected, stays_open = DOES[action] if action is not None else (b"", True)
        assert heard == (sent if expected is None else expected)
        if not stays_open and action in ("AA-2", "AA-3"):
            assert peer.recv(1) == b""
        if action is None:
            assert layer.state is state
