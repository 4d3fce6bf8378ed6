from __future__ import annotations

import pytest

from dicom_node.demo.run import _is_final
from storage.records import StudyState

UNDER_WAY = {StudyState.GATHERING, StudyState.ANALYSING}


@pytest.mark.parametrize("state", StudyState)
def test_the_demo_waits_for_what_is_under_way_and_for_nothing_else(state: StudyState) -> None:
    assert _is_final({"state": state.value, "deliveries": []}) == (state not in UNDER_WAY)


@pytest.mark.parametrize("state", ["waiting", "sending"])
def test_the_demo_waits_for_deliveries(state: str) -> None:
    assert not _is_final({"state": StudyState.ANSWERED.value, "deliveries": [{"state": state}]})
