from __future__ import annotations

from dicom_node.scp.pace import Pace


def test_a_peer_without_a_cap_never_waits() -> None:
    pace = Pace()
    assert [pace.wait_s("ct1", None, 0.0) for _ in range(100)] == [0.0] * 100


def test_a_burst_is_spread_over_time() -> None:
    pace = Pace()
    assert [pace.wait_s("ct1", 60, 5.0) for _ in range(4)] == [0.0, 1.0, 2.0, 3.0]


def test_a_pause_is_not_saved_up() -> None:
    pace = Pace()
    pace.wait_s("ct1", 60, 0.0)
    assert [pace.wait_s("ct1", 60, 100.0) for _ in range(2)] == [0.0, 1.0]


def test_peers_do_not_wait_for_each_other() -> None:
    pace = Pace()
    pace.wait_s("ct1", 1, 0.0)
    assert pace.wait_s("mr1", 1, 0.0) == 0.0
