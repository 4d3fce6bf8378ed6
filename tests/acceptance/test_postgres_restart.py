"""PostgreSQL goes away in the middle of everything and comes back: no false Success, no role ends, work goes on."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydicom import dcmread

from dicom_node.demo.phantom import write_phantom_study
from tests.builders import postgres
from tests.builders.hospital import Hospital
from tests.chaos.audit import audit
from tests.chaos.ingest import Senders

pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def server() -> Iterator[postgres.Cluster]:
    """A server of the test's own: others must not be disturbed."""
    programs = postgres.server_programs()
    if programs is None:
        pytest.skip(postgres.MISSING)
    with postgres.cluster(programs) as cluster:
        yield cluster


@pytest.fixture
def hospital(server: postgres.Cluster, tmp_path: Path) -> Iterator[Hospital]:
    made = Hospital(tmp_path, environ={"DICOM_NODE_DATABASE__URL": server.new_database()})
    try:
        made.node.start()
        yield made
    finally:
        made.close()


def test_a_server_that_crashes_during_ingest_costs_no_acknowledged_instance(
    server: postgres.Cluster, hospital: Hospital
) -> None:
    pids = hospital.node.role_pids()
    with Senders(hospital.node.dimse_port, 3, seed=12, calling="CT1") as senders:
        for mode in ("immediate", "fast", "immediate"):
            time.sleep(1.5)
            server.restart(mode)
        before = len(senders.sent.acknowledged)
        time.sleep(4.0)
    sent = senders.sent
    assert len(sent.acknowledged) > before, "it goes on by itself"
    assert set(sent.refused) <= {0xA700}
    assert pids.items() <= hospital.node.role_pids().items(), "a role ended"
    url = hospital.node.environ["DICOM_NODE_DATABASE__URL"]
    assert hospital.node.run("ledger").stdout.splitlines()[-1] == "0 unexplained"
    hospital.node.stop()
    found = audit(hospital.node.data_dir, acknowledged=sent.acknowledged, offered=sent.offered, url=url)
    assert found.clean, found


def test_a_server_that_crashes_during_a_job_costs_no_result(
    server: postgres.Cluster, hospital: Hospital, tmp_path: Path
) -> None:
    pids = hospital.node.role_pids()
    source = tmp_path / "study"
    source.mkdir()
    files = write_phantom_study(source, slices=60, spacing_mm=5.0, seed=31)
    uid = str(dcmread(files[0], stop_before_pixels=True).StudyInstanceUID)
    hospital.send(files)
    for _ in range(4):
        time.sleep(0.9)
        server.restart("immediate")
    study = hospital.node.await_state(uid, "answered", within_s=120)
    assert [delivery["state"] for delivery in study["deliveries"]] == ["delivered"]
    assert len({str(each.SOPInstanceUID) for each in hospital.objects()}) == len(hospital.objects()) == 2
    assert pids.items() <= hospital.node.role_pids().items(), "a role ended"
