"""The matrix of receivers that answer wrongly: what becomes of the delivery, and whether it is tried again."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from pydicom import Dataset

from configs.settings import DimseSettings
from dicom_node.worker.deliver import deliver
from dicom_node.worker.parts import CourierParts
from inference.results.forms import MEASUREMENT_REPORTS, SEGMENTATIONS
from storage.records import DeliveryRecord, DeliveryState, ItemState
from tests.builders import fakes
from tests.builders.ct import encode, make_ct_instance
from tests.builders.paper_parts import make_input
from tests.builders.stage import Stage, make_delivery
from tests.builders.studies import make_peer

SEG, SR = SEGMENTATIONS["binary"], MEASUREMENT_REPORTS["comprehensive-3d"]
KINDS = {"1.9.1": ("seg", SEG), "1.9.2": ("sr", SR)}

# A fake that breaks off leaves its socket to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


def instance(uid: str, sop_class: str, *, megabytes: int = 0) -> Dataset:
    """Make an instance of a class; what it says does not matter here."""
    dataset = make_ct_instance()
    dataset.SOPInstanceUID, dataset.SOPClassUID = uid, sop_class
    if megabytes:
        dataset.EncapsulatedDocument = bytes(megabytes << 20)
    return dataset


class Courier:
    """A courier on paper whose wire is real."""

    def __init__(self, *, megabytes: int = 0) -> None:
        self.stage = Stage()
        self.stage.deliveries.delivery = replace(
            make_delivery("seg", "sr"),
            items=tuple(
                replace(item, sop_instance_uid=uid)
                for item, uid in zip(make_delivery("seg", "sr").items, KINDS, strict=True)
            ),
        )
        for uid, (_, sop_class) in KINDS.items():
            self.keep(uid, sop_class, megabytes)

    def keep(self, uid: str, sop_class: str, megabytes: int = 0) -> None:
        self.stage.keep(make_input(1, sop_instance_uid=uid, sop_class_uid=sop_class))
        record = replace(self.stage.index.instances[uid], path=f"blob/{uid}")
        self.stage.index.instances[uid] = record
        self.stage.blobs[f"blob/{uid}"] = encode(instance(uid, sop_class, megabytes=megabytes))

    def make_set(self, run_key: str, form: Any) -> list[tuple[str, str]]:
        """Make the other forms as the stage does, with bytes that can be sent and names that are UIDs."""
        made = []
        for number, (uid, kind) in enumerate(self.stage.make_set(run_key, form)):
            name = f"1.9.{len(self.stage.deliveries.replaced) + 3}.{number + 1}"
            self.keep(name, self.stage.index.instances[uid].sop_class_uid)
            made.append((name, kind))
        return made

    def run(self, port: int, attempt: int = 1, *, answer_s: float = 1.0) -> DeliveryRecord:
        self.stage.peers = {"pacs": make_peer(ae_title="PACS", host="127.0.0.1", port=port, deliver={"by": "dimse"})}
        courier: CourierParts = replace(
            self.stage.courier, make_set=self.make_set, dimse=DimseSettings(answer_within_s=answer_s)
        )
        deliver("key:binary+comprehensive-3d:pacs", attempt, courier)
        assert self.stage.deliveries.delivery is not None
        return self.stage.deliveries.delivery

    @property
    def items(self) -> list[ItemState]:
        assert self.stage.deliveries.delivery is not None
        return [item.state for item in self.stage.deliveries.delivery.items]


def _from_status(status: int) -> Callable[[], contextlib.AbstractContextManager[fakes.Receiver]]:
    return lambda: fakes.answering(lambda _: status)


def _from_behaviour(behave: fakes.Behave) -> Callable[[], contextlib.AbstractContextManager[fakes.Receiver]]:
    return lambda: fakes.behaving(behave)


WAITS, DONE, FAILED = DeliveryState.WAITING, DeliveryState.DELIVERED, DeliveryState.FAILED


@pytest.mark.parametrize(
    ("fake", "state", "tried_again", "said"),
    [
        pytest.param(_from_status(0x0000), DONE, False, "pacs accepted SEG and SR.", id="success"),
        pytest.param(_from_status(0xA700), WAITS, True, "0xA700 out of resources", id="0xA700"),
        pytest.param(_from_status(0xA900), WAITS, False, "sent secondary capture instead", id="0xA900"),
        pytest.param(_from_status(0xB000), DONE, False, "0xB000 warning", id="0xB000"),
        pytest.param(_from_status(0xC001), WAITS, False, "sent secondary capture instead", id="0xC001"),
        pytest.param(_from_status(0xFE00), WAITS, True, "0xFE00 cancelled", id="0xFE00"),
        pytest.param(_from_status(0x0110), WAITS, True, "0x0110 processing failure", id="0x0110"),
        pytest.param(_from_status(0x0111), DONE, False, "holds it already", id="0x0111"),
        pytest.param(_from_status(0x0124), FAILED, False, "0x0124 not authorised", id="0x0124"),
        pytest.param(_from_behaviour(fakes.silent), WAITS, True, "went away before it answered", id="silence"),
        pytest.param(_from_behaviour(fakes.aborting), WAITS, True, "before it answered", id="abort"),
        pytest.param(_from_behaviour(fakes.resetting), WAITS, True, "before it answered", id="reset"),
        pytest.param(_from_behaviour(fakes.dripping), WAITS, True, "before it answered", id="drip"),
        pytest.param(_from_behaviour(fakes.naming_another), WAITS, True, "before it answered", id="wrong UID"),
    ],
)
def test_state_and_retry_are_right_in_every_cell(
    fake: Callable[[], contextlib.AbstractContextManager[fakes.Receiver]],
    state: DeliveryState,
    tried_again: bool,
    said: str,
) -> None:
    courier, began = Courier(), time.monotonic()
    with fake() as receiver:
        delivery = courier.run(receiver.port, answer_s=20.0 if state is DONE else 1.0)
    assert delivery.state is state
    assert bool(courier.stage.deliveries.retried) is tried_again
    assert said in delivery.reason
    accepted = [ItemState.ACCEPTED] * 2
    assert (courier.items == accepted) is (state is DONE)
    assert ItemState.ACCEPTED not in courier.items or state is DONE
    assert state is DONE or time.monotonic() - began < 8


@pytest.mark.parametrize("behave", [fakes.stalled, fakes.sipping, fakes.silent, fakes.dripping])
def test_a_peer_that_stalls_while_much_is_sent_is_cut_within_its_time(behave: fakes.Behave) -> None:
    courier = Courier(megabytes=24)
    with fakes.behaving(behave) as receiver:
        began = time.monotonic()
        delivery = courier.run(receiver.port, answer_s=0.5)
        took_s = time.monotonic() - began
    assert delivery.state is WAITS
    assert courier.stage.deliveries.retried
    assert took_s < 0.5 + (24 << 20) / 100_000  # nobody waits longer than the slowest link would take


def test_no_object_of_a_set_is_sent_where_one_has_no_context() -> None:
    courier = Courier()
    with fakes.answering(lambda _: 0x0000, without=[SR]) as receiver:
        delivery = courier.run(receiver.port, answer_s=20.0)
        assert receiver.received == []
        assert delivery.reason == "pacs does not accept Comprehensive 3D SR; sent Comprehensive SR instead."
        assert delivery.form == "binary+comprehensive"
        assert courier.run(receiver.port, attempt=2, answer_s=20.0).state is DONE
    assert len(receiver.received) == 2


@pytest.mark.parametrize("refusal", ["status", "context"])
def test_a_pacs_that_takes_secondary_captures_alone_gets_pictures_and_a_page(refusal: str) -> None:
    pictures = {"1.2.840.10008.5.1.4.1.1.7", "1.2.840.10008.5.1.4.1.1.7.4"}
    others = [SEG, *MEASUREMENT_REPORTS.values(), "1.2.840.10008.5.1.4.1.1.88.11", "1.2.840.10008.5.1.4.1.1.104.1"]
    courier = Courier()
    with fakes.answering(
        lambda sop_class: 0x0000 if sop_class in pictures else 0x0122, without=others if refusal == "context" else ()
    ) as receiver:
        attempts = 0
        while courier.run(receiver.port, attempt=attempts + 1, answer_s=20.0).state is WAITS:
            attempts += 1
            assert attempts < 10
    assert courier.stage.deliveries.delivery is not None
    assert courier.stage.deliveries.delivery.state is DONE
    accepted = [item.kind for item in courier.stage.deliveries.delivery.items if item.state is ItemState.ACCEPTED]
    assert accepted == ["capture", "summary"]
    assert courier.stage.classes.refused_by("pacs") >= {SEG, SR}
    assert not courier.stage.deliveries.retried
