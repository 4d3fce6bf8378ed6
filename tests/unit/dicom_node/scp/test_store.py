from __future__ import annotations

import threading
from typing import Any, cast

import pytest

from dicom_node.scp.pace import Pace
from dicom_node.scp.register import OpenAssociation
from dicom_node.scp.store import Named, Reception, StoreParts, is_uid
from storage.errors import DiskFull
from storage.records import Origin, OriginKind
from tests.builders.dimse import CT_IMAGE_STORAGE, EXPLICIT, VERIFICATION, RememberingDoor

MR = "1.2.840.10008.5.1.4.1.1.4"


def receive(
    door: RememberingDoor,
    *,
    sop_class: str = CT_IMAGE_STORAGE,
    instance: str = "1.2.3",
    context: str = CT_IMAGE_STORAGE,
) -> int:
    parts = StoreParts(cast(Any, door), cast(Any, None), {}, Pace(), threading.Event())
    here = OpenAssociation(cast(Any, None), cast(Any, None), Origin(OriginKind.DIMSE), recorded=True)
    reception = Reception(parts, here, Named(sop_class, instance, context, EXPLICIT))
    reception.write(b"abc")
    reception.write(memoryview(b"def"))
    return reception.keep()


def test_an_instance_is_kept_under_the_names_that_the_request_gave_it() -> None:
    door = RememberingDoor()
    assert receive(door) == 0x0000
    (arrived,) = door.kept
    assert (arrived.sop_class_uid, arrived.sop_instance_uid) == (CT_IMAGE_STORAGE, "1.2.3")
    assert (arrived.transfer_syntax_uid, arrived.data_set) == (EXPLICIT, b"abcdef")


@pytest.mark.parametrize(
    ("settings", "status"),
    [
        ({"sop_class": MR}, 0xA900),  # another class than the context was negotiated for
        ({"instance": ""}, 0x0117),
        ({"instance": "../../etc/passwd"}, 0x0117),
        ({"sop_class": ""}, 0x0117),
        ({"context": VERIFICATION, "sop_class": VERIFICATION}, 0x0122),
    ],
)
def test_what_cannot_be_kept_is_refused_and_leaves_nothing(settings: dict[str, str], status: int) -> None:
    door = RememberingDoor()
    assert receive(door, **settings) == status
    assert not door.kept


def test_a_failure_while_bytes_come_is_told_at_the_end_and_the_rest_is_dropped() -> None:
    door = RememberingDoor(write_failure=DiskFull("full"))
    assert receive(door) == 0xA700
    assert not door.kept
    assert door.left == 1


def test_a_bug_of_ours_is_a_processing_failure() -> None:
    assert receive(RememberingDoor(failure=RuntimeError("bug"))) == 0x0110


@pytest.mark.parametrize("text", ["1.2.3", "2.25.1", "1.2.003.4", "1"])
def test_what_names_an_instance(text: str) -> None:
    assert is_uid(text)


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        ".",
        "..",
        "../../etc/passwd",
        "/etc/passwd",
        "1..2",
        "1.2.",
        ".1.2",
        "1.2/3",
        "1.2\n3",
        "1.2\x00",
        "NUL",
        "Doe^John",
        "1." * 40 + "1",
        "1.2.3\n",
        "１.２",  # noqa: RUF001 (digits that are no ASCII)
    ],
)
def test_what_names_none(text: str | None) -> None:
    assert not is_uid(text)
