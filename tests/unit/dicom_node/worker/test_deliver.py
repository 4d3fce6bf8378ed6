# ruff: noqa: ARG002 (stand-ins have the signatures of what they stand in for)
from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from configs.errors import NodeError
from configs.peers import Peer
from dicom_node.errors import AssociationRejected, ContextRefused, PeerUnreachable
from dicom_node.scu.store import Outgoing
from dicom_node.worker.deliver import deliver
from inference.results.forms import MEASUREMENT_REPORTS, SEGMENTATIONS
from storage.records import DeliveryState, ItemState
from storage.visibility import NOTE_FORM
from tests.builders.paper_parts import make_input
from tests.builders.stage import Stage, make_delivery
from tests.builders.studies import at, make_peer

PACS = {"ae_title": "PACS", "port": 104, "deliver": {"by": "dimse"}}


class Wire:
    """Stands in for the SCU: answers in order, and remembers what was sent."""

    def __init__(self) -> None:
        self.answers: list[int | NodeError | None] = []
        self.sent: list[str] = []
        self.calling: list[str] = []

    def send(
        self,
        peer: Peer,
        *,
        calling_ae_title: str,
        items: Sequence[Outgoing],
        on_status: Callable[[Outgoing, int], None],
        **timeouts: Any,
    ) -> None:
        self.calling.append(calling_ae_title)
        for item in items:
            answer = self.answers.pop(0) if self.answers else 0x0000
            if isinstance(answer, NodeError):
                raise answer
            self.sent.append(item.sop_instance_uid)
            if answer is None:
                raise PeerUnreachable("pacs went away before it answered for an instance.")
            on_status(replace(item, sent_as=item.preferred[0] if item.preferred else item.transfer_syntax_uid), answer)


@pytest.fixture
def wire(monkeypatch: pytest.MonkeyPatch) -> Wire:
    made = Wire()
    monkeypatch.setattr("dicom_node.worker.carriers.send", made.send)
    return made


@pytest.fixture
def stage(stage: Stage) -> Stage:
    classes = {1: SEGMENTATIONS["binary"], 2: MEASUREMENT_REPORTS["comprehensive-3d"]}
    stage.keep(*[make_input(n, series="9", sop_instance_uid=f"9.{n}", sop_class_uid=uid) for n, uid in classes.items()])
    stage.peers = {"pacs": make_peer(**PACS)}
    stage.deliveries.delivery = make_delivery("seg", "sr")
    return stage


def run(stage: Stage, attempt: int = 1) -> tuple[DeliveryState, str, list[ItemState]]:
    deliver("key:binary+comprehensive-3d:pacs", attempt, stage.courier)
    delivery = stage.deliveries.delivery
    assert delivery is not None
    return delivery.state, delivery.reason, [item.state for item in delivery.items]


def test_seg_goes_first_and_the_sr_after_it_was_accepted(stage: Stage, wire: Wire) -> None:
    accepted = [ItemState.ACCEPTED, ItemState.ACCEPTED]
    assert run(stage) == (DeliveryState.DELIVERED, "pacs accepted SEG and SR.", accepted)
    assert wire.sent == ["9.1", "9.2"]


@pytest.mark.parametrize("status", [0xA700, 0x0110, 0xFE00, None])
def test_what_may_pass_is_tried_again_and_the_sr_stays_here(stage: Stage, wire: Wire, status: int | None) -> None:
    wire.answers = [status]
    state, reason, items = run(stage)
    assert (state, items) == (DeliveryState.WAITING, [ItemState.WAITING, ItemState.WAITING])
    assert reason.startswith("pacs did not take the SEG: " if status else "pacs went away")
    assert wire.sent == ["9.1"]
    (_, then, attempt) = stage.deliveries.retried[0]
    assert at(13) < then <= at(14)
    assert attempt == 1


def test_the_next_attempt_sends_only_what_is_missing(stage: Stage, wire: Wire) -> None:
    wire.answers = [0x0000, 0xA700]
    run(stage)
    assert run(stage, attempt=2)[0] is DeliveryState.DELIVERED
    assert wire.sent == ["9.1", "9.2", "9.2"]


@pytest.mark.parametrize("status", [0x0117, 0x0124, 0x0211])
def test_a_permanent_refusal_is_not_repeated(stage: Stage, wire: Wire, status: int) -> None:
    wire.answers = [status]
    state, reason, items = run(stage)
    assert (state, items[0]) == (DeliveryState.FAILED, ItemState.REFUSED)
    assert f"0x{status:04X}" in reason
    assert not stage.deliveries.retried
    assert wire.sent == ["9.1"]


def test_a_warning_is_accepted_and_said(stage: Stage, wire: Wire) -> None:
    wire.answers = [0xB000, 0x0111]
    state, reason, _ = run(stage)
    assert state is DeliveryState.DELIVERED
    assert reason == (
        "pacs accepted SEG and SR. SEG: 0xB000 warning: the destination coerced attributes; "
        "SR: 0x0111 the destination holds it already."
    )


@pytest.mark.parametrize(
    ("error", "state"),
    [
        (PeerUnreachable("pacs at 10.1.2.3:104 does not answer"), DeliveryState.WAITING),
        (AssociationRejected("rejected", result=2, source=3, reason=1), DeliveryState.WAITING),
        (AssociationRejected("calling AE title not known", result=1, source=1, reason=3), DeliveryState.FAILED),
    ],
)
def test_a_failed_association_is_tried_again_unless_it_is_final(
    stage: Stage, wire: Wire, error: NodeError, state: DeliveryState
) -> None:
    wire.answers = [error]
    assert run(stage)[:1] == (state,)
    assert stage.deliveries.delivery is not None
    assert str(error) in stage.deliveries.delivery.reason


@pytest.mark.parametrize(
    "refusal", [0x0122, 0xA900, 0xC001, ContextRefused("pacs does not accept SEG.", sop_instance_uid="9.1")]
)
def test_a_secondary_capture_goes_where_seg_is_not_taken_with_a_report_that_names_no_seg(
    stage: Stage, wire: Wire, refusal: int | NodeError
) -> None:
    wire.answers = [refusal]
    state, reason, items = run(stage)
    assert (state, reason) == (DeliveryState.WAITING, "pacs does not accept SEG; sent secondary capture instead.")
    assert items == [ItemState.REPLACED, ItemState.REPLACED, ItemState.WAITING, ItemState.WAITING]
    assert stage.deliveries.replaced == ["capture+comprehensive-3d"]
    state, reason, items = run(stage, attempt=2)
    assert (state, reason) == (DeliveryState.DELIVERED, "pacs accepted CAPTURE and SR. It does not accept SEG.")
    assert wire.sent[-2:] == ["capture+comprehensive-3d/capture", "capture+comprehensive-3d/sr"]


def test_the_next_report_goes_alone_after_the_seg_was_taken_and_the_sr_was_not(stage: Stage, wire: Wire) -> None:
    wire.answers = [0x0000, 0x0122]
    state, reason, items = run(stage)
    assert (state, reason) == (
        DeliveryState.WAITING,
        "pacs does not accept Comprehensive 3D SR; sent Comprehensive SR instead.",
    )
    assert items == [ItemState.ACCEPTED, ItemState.REPLACED, ItemState.WAITING]
    assert stage.deliveries.replaced == ["none+comprehensive"]
    assert run(stage, attempt=2)[:2] == (DeliveryState.DELIVERED, "pacs accepted SEG and SR.")
    assert wire.sent == ["9.1", "9.2", "none+comprehensive/sr"]


def test_a_pacs_that_takes_no_form_at_all_is_asked_for_each_once_and_ends_with_the_cause(
    stage: Stage, wire: Wire
) -> None:
    wire.answers = [ContextRefused("pacs accepted none of the presentation contexts.")] * 20
    attempts = 0
    while (state := run(stage, attempt := attempts + 1)[0]) is DeliveryState.WAITING and attempts < 20:
        attempts = attempt
    assert state is DeliveryState.FAILED
    assert stage.deliveries.replaced == [
        "capture+comprehensive-3d",
        "none+comprehensive-3d",
        "none+comprehensive",
        "none+enhanced",
        "none+basic-text",
        "none+pdf",
        "none+summary",
    ]
    assert stage.deliveries.delivery is not None
    assert "It takes no other form of it either" in stage.deliveries.delivery.reason
    assert not stage.deliveries.retried


def test_a_note_that_takes_results_back_has_no_other_form(stage: Stage, wire: Wire) -> None:
    stage.deliveries.delivery = replace(make_delivery("key-objects"), form=f"{NOTE_FORM}1")
    wire.answers = [0x0122]
    assert run(stage)[0] is DeliveryState.FAILED
    assert not stage.deliveries.replaced


def test_only_the_forms_that_an_entry_lists_are_tried(stage: Stage, wire: Wire) -> None:
    stage.peers = {"pacs": make_peer(**{**PACS, "deliver": {"by": "dimse", "outlines": ["binary"]}})}
    wire.answers = [0x0122]
    assert run(stage)[1] == "pacs does not accept SEG; it is left out."
    assert stage.deliveries.replaced == ["none+comprehensive-3d"]


@pytest.mark.parametrize(
    ("refusal", "remembered"),
    [
        (0x0122, True),
        (ContextRefused("pacs does not accept SEG.", sop_instance_uid="9.1"), True),
        (0xA900, False),
        (0xC001, False),
    ],
)
def test_what_a_destination_takes_is_remembered_by_class(
    stage: Stage, wire: Wire, refusal: int | NodeError, remembered: bool
) -> None:
    wire.answers = [refusal]
    run(stage)
    assert (("pacs", SEGMENTATIONS["binary"]) in stage.classes.answers) is remembered
    run(stage, attempt=2)
    assert stage.classes.answers[("pacs", MEASUREMENT_REPORTS["comprehensive-3d"])] is True


def test_a_form_that_is_known_to_be_refused_is_not_tried_on_the_way(stage: Stage, wire: Wire) -> None:
    stage.classes.learn("pacs", [MEASUREMENT_REPORTS["comprehensive"]], accepted=False, reason="", at=at(0))
    wire.answers = [0x0000, 0x0122]
    run(stage)
    assert stage.deliveries.replaced == ["none+enhanced"]


def test_the_last_attempt_ends_in_failure_with_its_cause(stage: Stage, wire: Wire) -> None:
    wire.answers = [PeerUnreachable("pacs does not answer")]
    assert run(stage, attempt=3)[:2] == (DeliveryState.FAILED, "pacs does not answer. Given up after 3 attempts.")


@pytest.mark.parametrize("peers", [{}, {"pacs": make_peer()}])
def test_a_destination_that_is_none_any_more_fails_with_the_line_to_add(
    stage: Stage, wire: Wire, peers: dict[str, Peer]
) -> None:
    stage.peers = peers
    state, reason, _ = run(stage)
    assert state is DeliveryState.FAILED
    assert "dicom-node peers add pacs --ae" in reason
    assert not wire.sent


def test_we_call_as_the_peer_knows_us(stage: Stage, wire: Wire) -> None:
    stage.peers = {"pacs": make_peer(**{**PACS, "answer_as": "AINODE"})}
    run(stage)
    assert set(wire.calling) == {"AINODE"}


def test_a_superseded_delivery_does_nothing(stage: Stage, wire: Wire) -> None:
    stage.deliveries.delivery = replace(make_delivery(), state=DeliveryState.SUPERSEDED)
    assert run(stage)[0] is DeliveryState.SUPERSEDED
    assert not wire.sent


def test_a_result_that_is_not_kept_any_more_is_no_matter_of_trying_again(stage: Stage, wire: Wire) -> None:
    stage.index.instances = {}
    assert run(stage)[0] is DeliveryState.FAILED
    assert not wire.sent


def test_the_record_says_the_syntax_that_each_instance_left_in(stage: Stage, wire: Wire) -> None:
    stage.peers = {"pacs": make_peer(**{**PACS, "deliver": {"by": "dimse", "encodings": ["jpeg-2000"]}})}
    run(stage)
    assert stage.deliveries.delivery is not None
    left = [item.transfer_syntax_uid for item in stage.deliveries.delivery.items]
    assert left == ["1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.1"]
