from __future__ import annotations

import ipaddress
from typing import Any

import pytest

from configs.peers import Peer
from dicom_node.rejections import (
    CALLED_AE_TITLE_NOT_RECOGNIZED,
    CALLING_AE_TITLE_NOT_RECOGNIZED,
    LOCAL_LIMIT_EXCEEDED,
)
from dicom_node.scp.admission import Admitted, Caller, Refused, admit, within_limits
from dicom_node.scp.hosts import Address, HostNames

TITLES = ("DICOMNODE",)


def resolve(name: str) -> frozenset[Address]:
    return frozenset({ipaddress.ip_address("10.1.2.3")}) if name == "ct1.local" else frozenset()


NAMES = HostNames(resolve)


def peer(ae_title: str, *sources: str, **more: Any) -> Peer:
    return Peer.model_validate({"ae_title": ae_title, "from": list(sources)} | more)


def ask(
    peers: dict[str, Peer], calling: str = "CT1", host: str = "10.1.2.3", called: str = "DICOMNODE"
) -> Admitted | Refused:
    return admit(Caller(calling, called, host), peers, TITLES, NAMES)


def refusal(*arguments: Any, **settings: Any) -> Refused:
    verdict = ask(*arguments, **settings)
    assert isinstance(verdict, Refused)
    return verdict


@pytest.mark.parametrize("source", ["10.1.2.3", "10.1.0.0/16", "ct1.local"])
def test_a_peer_may_call_from_an_address_a_network_or_a_host_name(source: str) -> None:
    assert ask({"ct1": peer("CT1", source)}) == Admitted("ct1")


def test_a_peer_without_from_may_call_from_its_host() -> None:
    assert ask({"ct1": Peer(ae_title="CT1", host="10.1.2.3")}) == Admitted("ct1")


def test_an_exact_ae_title_is_matched_before_any_even_from_a_wider_network() -> None:
    peers = {"any": peer("*", "10.1.2.3"), "ct1": peer("CT1", "10.0.0.0/8")}
    assert ask(peers) == Admitted("ct1")


def test_among_equal_titles_the_narrower_network_wins() -> None:
    peers = {"wide": peer("CT1", "10.0.0.0/8"), "narrow": peer("CT1", "10.1.2.0/24")}
    assert ask(peers) == Admitted("narrow")


def test_any_title_takes_who_has_no_entry_of_its_own() -> None:
    assert ask({"any": peer("*", "10.0.0.0/8")}, calling="UNKNOWN") == Admitted("any")


def test_an_address_inside_ipv6_is_the_same_address() -> None:
    assert ask({"ct1": peer("CT1", "10.1.2.3")}, host="::ffff:10.1.2.3") == Admitted("ct1")


def test_a_scoped_address_is_matched_without_its_scope() -> None:
    assert ask({"ct1": peer("CT1", "fe80::/10")}, host="fe80::1%eth0") == Admitted("ct1")


def test_a_wrong_called_title_is_refused_with_ours_named() -> None:
    refused = refusal({"ct01": peer("CT01", "10.1.2.3")}, calling="CT01", called="DICOMNOD")
    assert refused.why == "Refused CT01 at 10.1.2.3: called AE title DICOMNOD, this node is DICOMNODE."
    assert refused.rejection == CALLED_AE_TITLE_NOT_RECOGNIZED


def test_a_peer_may_call_the_title_that_answers_it() -> None:
    peers = {"ct1": peer("CT1", "10.1.2.3", answer_as="AI_CT")}
    assert ask(peers, called="AI_CT") == Admitted("ct1")


def test_the_title_that_answers_one_peer_answers_no_other() -> None:
    peers = {"ct1": peer("CT1", "10.1.2.3", answer_as="AI_CT"), "mr1": peer("MR1", "10.1.2.3")}
    assert refusal(peers, calling="MR1", called="AI_CT").rejection == CALLED_AE_TITLE_NOT_RECOGNIZED


def test_an_unlisted_caller_is_refused_with_the_line_that_lets_it_in() -> None:
    refused = refusal({}, calling="PACS1")
    assert refused.why == (
        "Refused PACS1 at 10.1.2.3: no peer matches. Allow: dicom-node peers add pacs1 --ae PACS1 --from 10.1.2.3"
    )
    assert refused.rejection == CALLING_AE_TITLE_NOT_RECOGNIZED


def test_a_listed_caller_from_elsewhere_is_told_apart_from_an_unlisted_one() -> None:
    refused = refusal({"ct1": peer("CT1", "10.1.2.4")})
    assert refused.why == (
        "Refused CT1 at 10.1.2.3: peer ct1 may call from 10.1.2.4. Allow: add 10.1.2.3 to its `from` in peers.yaml."
    )


def test_the_line_that_lets_in_takes_a_name_that_is_free() -> None:
    assert "peers add ct1-2 --ae CT1 " in refusal({"ct1": peer("OTHER", "10.9.9.9")}).why


def test_the_line_that_lets_in_quotes_what_a_shell_would_split() -> None:
    assert "peers add ct-room-1 --ae 'CT ROOM 1' --from 10.1.2.3" in refusal({}, calling="CT ROOM 1").why


@pytest.mark.parametrize("title", ["$(reboot)", "*", "--help", "a;b", "`id`", "a'b"])
def test_no_line_is_offered_for_a_title_that_a_shell_could_mistake(title: str) -> None:
    assert "peers add" not in refusal({}, calling=title).why


@pytest.mark.parametrize("title", ["CT\n1", "CT\x001", "CT\\1", "", " ", "SEVENTEEN_LETTERS", "CT\x1b[31m"])
def test_a_title_that_dicom_forbids_is_refused_and_shown_without_what_is_forbidden(title: str) -> None:
    refused = refusal({"any": peer("*", "0.0.0.0/0")}, calling=title)
    assert refused.rejection == CALLING_AE_TITLE_NOT_RECOGNIZED
    assert refused.why.isprintable()
    assert "\\" not in refused.why


def test_a_full_node_refuses_for_now() -> None:
    refused = within_limits(
        Caller("CT1", "DICOMNODE", "10.1.2.3"), peer("CT1", "10.1.2.3"), open_of_peer=0, open_in_all=2, maximum=2
    )
    assert refused is not None
    assert refused.rejection == LOCAL_LIMIT_EXCEEDED


def test_a_peer_at_its_cap_is_refused_for_now() -> None:
    capped = peer("CT1", "10.1.2.3", caps={"associations": 1})
    caller = Caller("CT1", "DICOMNODE", "10.1.2.3")
    assert within_limits(caller, capped, open_of_peer=0, open_in_all=5, maximum=9) is None
    refused = within_limits(caller, capped, open_of_peer=1, open_in_all=5, maximum=9)
    assert refused is not None
    assert refused.rejection == LOCAL_LIMIT_EXCEEDED
