from __future__ import annotations

import pytest
from pynetdicom.status import STORAGE_SERVICE_CLASS_STATUS, code_to_category

from configs.errors import NodeError
from dicom_node.scp.status import FAILURE_REASON, INVALID_SOP_INSTANCE, PROCESSING_FAILURE, status_for
from storage.errors import DiskFull, IndexUnavailable, NotKept, SopClassMismatch, UnreadableInstance


@pytest.mark.parametrize(
    ("failure", "status"),
    [(DiskFull, 0xA700), (IndexUnavailable, 0xA700), (SopClassMismatch, 0xA900), (UnreadableInstance, 0xC000)],
)
def test_each_failure_to_keep_has_its_status(failure: type[NodeError], status: int) -> None:
    assert status_for(failure()) == status


def test_a_failure_that_the_table_does_not_name_is_ours() -> None:
    assert status_for(NotKept()) == PROCESSING_FAILURE == 0x0110


def test_a_kind_of_a_failure_has_the_status_of_what_it_is_a_kind_of() -> None:
    class ReserveReached(DiskFull):
        """More special."""

    assert status_for(ReserveReached()) == 0xA700


def test_every_status_is_a_failure_that_the_standard_gives_to_storage() -> None:
    for status in (*FAILURE_REASON.values(), INVALID_SOP_INSTANCE):
        assert status in STORAGE_SERVICE_CLASS_STATUS
        assert code_to_category(status) == "Failure"
    assert code_to_category(PROCESSING_FAILURE) == "Failure"
