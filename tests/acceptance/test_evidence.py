"""The node as a process: a modality says that it is done, and the study is taken at once."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest
from pydicom import dcmread

from configs.peers import Peer
from dicom_node.demo.phantom import write_phantom_study
from dicom_node.scu.files import outgoing
from dicom_node.scu.store import send
from tests.builders.announcing import IAN, MPPS, a_notice, a_step, an_end, create, set_
from tests.builders.dimse import EXPLICIT, associated
from tests.builders.node import NodeProcess

pytestmark = pytest.mark.timeout(180)

#: Longer than any test waits: a study that is taken before was taken on evidence.
QUIET_S = 90.0


@pytest.fixture
def node(tmp_path: Path) -> Iterator[NodeProcess]:
    peers = {"modality": {"ae_title": "CT1", "from": ["127.0.0.1"], "accept": ["echo", "store", "mpps", "ian"]}}
    made = NodeProcess(tmp_path, peers=peers, node={"quiet": {"after_s": QUIET_S, "at_most_s": 1800.0}})
    made.start()
    try:
        yield made
    finally:
        made.stop()


def send_all(node: NodeProcess, files: list[Path]) -> None:
    peer = Peer(ae_title="DICOMNODE", host="127.0.0.1", port=node.dimse_port)
    send(peer, calling_ae_title="CT1", items=[outgoing(path) for path in files], on_status=lambda *_: None)


@pytest.mark.parametrize("kind", ["mpps", "availability"])
def test_evidence_lets_a_study_be_taken_long_before_its_quiet_time(
    kind: str, node: NodeProcess, tmp_path: Path
) -> None:
    folder = tmp_path / "phantom"
    folder.mkdir()
    files = write_phantom_study(folder, slices=24)
    headers = [dcmread(path, stop_before_pixels=True) for path in files]
    study, uids = headers[0].StudyInstanceUID, [header.SOPInstanceUID for header in headers]
    series = headers[0].SeriesInstanceUID
    with associated(node.dimse_port, [(MPPS, [EXPLICIT]), (IAN, [EXPLICIT])]) as to:
        if kind == "mpps":
            create(to, a_step(study))
            assert set_(to, an_end({series: uids})).Status == 0x0000
        else:
            notice = a_notice(study, {series: dict.fromkeys(uids, "ONLINE")})
            assert create(to, notice, sop_class=IAN).Status == 0x0000
    send_all(node, files[:-1])
    time.sleep(1.0)
    assert node.study(study)["state"] == "gathering"
    send_all(node, files[-1:])
    last_success = time.time()
    found = node.await_state(study, "analysing", "answered", "unmatched", "declined", within_s=30)
    decision = found["decisions"][-1]
    assert decision["evidence"] == kind
    after_s = datetime.fromisoformat(decision["decided_at"]).timestamp() - last_success
    print(  # noqa: T201 (a figure, shown and not asserted)
        f"{kind}: decided {after_s:.2f} s after the last Success ({len(files)} instances)"
    )
    assert after_s < QUIET_S / 2
