from __future__ import annotations

from dicom_node.routing.destinations import kept_only, resolve
from tests.builders.studies import make_peer, make_sender

DELIVER = {"by": "dimse"}
LOOPBACK = make_peer(ae_title="*", host=None, **{"from": ["127.0.0.0/8", "::1"]})


def test_sender_means_every_peer_that_sent_and_takes_results_each_once() -> None:
    peers = {"ct1": make_peer(port=104, deliver=DELIVER), "ct2": make_peer()}
    senders = [make_sender("ct1"), make_sender("ct1"), make_sender("ct2")]
    destinations = resolve(["pacs", "sender", "ct1"], senders, peers)
    assert destinations.names == ("pacs", "ct1")
    assert [sender.peer for sender in destinations.without_deliver] == ["ct2"]


def test_a_sender_without_deliver_is_told_with_the_line_that_changes_it() -> None:
    said = kept_only([make_sender("ct1")], {"ct1": make_peer()})
    assert said == (
        'Kept here only: peer "ct1" has no deliver. Add one: dicom-node peers remove ct1 && '
        "dicom-node peers add ct1 --ae CT1 --host 10.1.2.3 --port PORT"
    )


def test_the_shipped_loopback_peer_stays_beside_a_more_exact_one() -> None:
    sender = make_sender("loopback", calling_ae_title="STORESCU", host="127.0.0.1")
    assert kept_only([sender], {"loopback": LOOPBACK}) == (
        'Kept here only: peer "loopback" has no deliver. Add one: '
        "dicom-node peers add storescu --ae STORESCU --host 127.0.0.1 --port PORT"
    )


def test_a_proposed_line_is_safe_to_paste_and_its_name_is_free() -> None:
    sender = make_sender("loopback", calling_ae_title="CT;rm -rf *", host="127.0.0.1")
    said = kept_only([sender], {"loopback": LOOPBACK, "ct-rm-rf": make_peer()})
    assert "peers add ct-rm-rf-2 --ae 'CT;rm -rf *' --host 127.0.0.1" in said


def test_a_study_that_came_by_http_has_no_peer_to_add() -> None:
    said = kept_only([make_sender("", calling_ae_title="", host="")], {})
    assert said.startswith("Kept here only: the study was not sent by a DICOM peer")


def test_nothing_is_said_where_everybody_takes_results() -> None:
    assert kept_only([], {}) == ""
