"""User identity: asked for where the peer's entry lists users, else taken as it is; answered where that is asked."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError
from pynetdicom import build_context
from pynetdicom.association import Association
from pynetdicom.pdu_primitives import UserIdentityNegotiation

from configs.passcode import hash_passcode
from configs.peers import Peer
from dicom_node.network import application_entity
from tests.builders.dimse import EXPLICIT, Listening, a_peer, await_that, listening

VERIFICATION, COMMITMENT = "1.2.840.10008.1.1", "1.2.840.10008.1.20.1"
USERS = {"modality": hash_passcode("open sesame")}
PEERS = {"ct1": a_peer(ae_title="CT1", accept=["echo", "store", "commit"], users=USERS)}


def identity(kind: int, primary: bytes, secondary: bytes = b"", *, answer: bool = False) -> Any:
    made = UserIdentityNegotiation()
    made.user_identity_type, made.primary_field, made.secondary_field = kind, primary, secondary
    made.positive_response_requested = answer
    return made


def ask(here: Listening, said: Any, sop_class: str) -> Association:
    """Ask for an association; again where pynetdicom loses the answer to the end of the connection behind it."""
    for _ in range(3):
        association = _ask(here, said, sop_class)
        if association.acceptor.primitive is not None:
            break
    return association


def _ask(here: Listening, said: Any, sop_class: str) -> Association:
    entity = application_entity("CT1")
    entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = 10
    association = entity.associate(
        "127.0.0.1",
        here.port,
        contexts=[build_context(sop_class, EXPLICIT)],
        ae_title="DICOMNODE",
        ext_neg=[said] if said is not None else [],
    )
    if association.is_established:
        association.release()
    return association


@pytest.mark.parametrize("sop_class", [VERIFICATION, COMMITMENT])
@pytest.mark.parametrize(
    ("said", "let_in"),
    [
        (identity(2, b"modality", b"open sesame"), True),
        (identity(2, b"modality", b"wrong"), False),
        (identity(2, b"nobody", b"open sesame"), False),
        (identity(2, b"\xff\xfe", b"open sesame"), False),
        (identity(1, b"modality"), False),
        (identity(3, b"a ticket"), False),
        (None, False),
    ],
)
def test_a_peer_with_users_must_give_one_with_its_passcode(said: Any, let_in: bool, sop_class: str) -> None:
    with listening(peers=PEERS) as here:
        association = ask(here, said, sop_class)
        if let_in:
            assert association.is_released
            return
        answer = association.acceptor.primitive
        assert (answer.result, answer.result_source, answer.diagnostic) == (1, 1, 1)
        await_that(lambda: here.rows.refusals)
        assert here.rows.refusals[0][3].startswith("Refused CT1 at 127.0.0.1: it gave no user and passcode")
        assert "sesame" not in here.rows.refusals[0][3]


@pytest.mark.parametrize(
    "said", [identity(1, b"x"), identity(2, b"x", b"y"), identity(3, b"x"), identity(4, b"x"), identity(5, b"x")]
)
@pytest.mark.parametrize("sop_class", [VERIFICATION, COMMITMENT])
def test_a_peer_without_users_is_let_in_whoever_uses_it(said: Any, sop_class: str) -> None:
    with listening(peers={"ct1": a_peer(accept=["echo", "commit"])}) as here:
        assert ask(here, said, sop_class).is_released


@pytest.mark.parametrize("sop_class", [VERIFICATION, COMMITMENT])
@pytest.mark.parametrize(("kind", "answered"), [(1, True), (2, True), (3, False), (5, False)])
def test_a_positive_response_is_given_to_users_and_left_out_for_tokens(
    kind: int, answered: bool, sop_class: str
) -> None:
    with listening(peers={"ct1": a_peer(accept=["echo", "commit"])}) as here:
        said = identity(kind, b"x", b"y" if kind == 2 else b"", answer=True)
        association = ask(here, said, sop_class)
        response = association.acceptor.user_identity
    assert (response is not None) == answered
    if answered:
        assert response.server_response == b""


@pytest.mark.parametrize("sop_class", [VERIFICATION, COMMITMENT])
def test_no_response_is_given_where_none_was_asked_for(sop_class: str) -> None:
    with listening(peers={"ct1": a_peer(accept=["echo", "commit"])}) as here:
        association = ask(here, identity(2, b"x", b"y"), sop_class)
    assert association.is_released
    assert association.acceptor.user_identity is None


def test_a_passcode_that_is_not_hashed_stops_the_start_and_shows_nowhere() -> None:
    with pytest.raises(ValidationError, match="dicom-node peers passcode") as caught:
        Peer.model_validate({"ae_title": "CT1", "host": "10.1.2.3", "users": {"modality": "open sesame"}})
    assert "open sesame" not in str(caught.value)
    assert "scrypt" not in repr(PEERS["ct1"])
