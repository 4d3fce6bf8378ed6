"""What a restart must not do to studies that were gathering."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.builders.node import NodeProcess
from tests.builders.wire import Mill, Modality
from tests.chaos.network import PEERS

pytestmark = pytest.mark.timeout(240)


def test_silence_while_the_node_was_down_is_no_evidence_that_a_study_is_complete(tmp_path: Path) -> None:
    node = NodeProcess(tmp_path, peers=PEERS, routes=[], node={"quiet": {"after_s": 6.0}})
    study = [Mill(21, seed=21).make(1, number) for number in range(10)]
    uid = study[0].study_instance_uid
    node.start()
    try:
        with Modality(node.dimse_port) as modality:
            assert [modality.store(made) for made in study[:5]] == [0x0000] * 5
            node.kill()
        time.sleep(7.0)  # longer than the quiet time: a decision would fall at the start
        node.start()
        with Modality(node.dimse_port) as modality:
            assert [modality.store(made) for made in study[5:]] == [0x0000] * 5
            modality.release()
        decided = node.await_state(uid, "unmatched")
        assert (decided["decision_number"], decided["number_of_inputs"]) == (1, 10)
    finally:
        node.stop()
