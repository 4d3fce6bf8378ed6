"""The node as a process: a study arrives by C-STORE, SR and SEG come back, whatever is killed meanwhile."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydicom import dcmread

from configs.peers import Peer
from dicom_node.demo.checks import check_received
from dicom_node.demo.phantom import write_phantom_study
from dicom_node.errors import AssociationRejected, PeerError
from dicom_node.scu.echo import echo
from dicom_node.scu.files import outgoing
from dicom_node.scu.store import Outgoing, send
from tests.builders.hospital import Hospital
from tests.builders.node import wait_until

pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def hospital(tmp_path: Path) -> Iterator[Hospital]:
    made = Hospital(tmp_path)
    made.node.start()
    yield made
    made.close()


@pytest.fixture(scope="module")
def chest(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, list[Path]]:
    """A phantom of thick slices: its UID and files."""
    folder = tmp_path_factory.mktemp("chest")
    files = write_phantom_study(folder, slices=60, spacing_mm=5.0, seed=11)
    return str(dcmread(files[0], stop_before_pixels=True).StudyInstanceUID), files


def test_a_study_comes_in_and_its_results_reach_the_pacs(hospital: Hospital, chest: tuple[str, list[Path]]) -> None:
    uid, files = chest
    assert hospital.send(files) == [0x0000] * 60
    study = hospital.node.await_state(uid, "answered")
    assert [delivery["state"] for delivery in study["deliveries"]] == ["delivered"]
    objects, problems = check_received(hospital.received, files[0].parent, uid)
    assert problems == ()
    assert {each.modality for each in objects} == {"SR", "SEG"}
    results = hospital.node.get(f"/api/studies/{uid}/results")
    assert results["results"][0]["engine"] == "classical-lung"
    said = hospital.node.run("ledger")
    assert (said.returncode, said.stdout.splitlines()[-1]) == (0, "0 unexplained"), said.stdout + said.stderr
    shown = hospital.node.run("show", uid)
    assert "Segmented lung: total" in shown.stdout


def test_results_sent_back_ten_times_lead_to_one_result_set(hospital: Hospital, chest: tuple[str, list[Path]]) -> None:
    uid, files = chest
    hospital.send(files)
    hospital.node.await_state(uid, "answered")
    back = sorted(hospital.received.rglob("*.dcm"))
    assert len(back) == 2
    for _ in range(10):
        assert hospital.send([*back, *files[:3]], calling="PACS") == [0x0000] * 5
    time.sleep(2.5)
    study = hospital.node.study(uid)
    assert (study["state"], study["decision_number"]) == ("answered", 1)
    assert len(study["results"]) == 2
    assert len(hospital.objects()) == 2


def test_a_late_slice_leads_to_a_second_revision(hospital: Hospital, chest: tuple[str, list[Path]]) -> None:
    uid, files = chest
    hospital.send(files[:-1])
    hospital.node.await_state(uid, "answered")
    hospital.send(files[-1:])
    study = wait_until(
        lambda: (page := hospital.node.study(uid))["decision_number"] == 2 and page["state"] == "answered" and page,
        within_s=60,
        what="second decision is answered",
    )
    assert sorted({result["revision"] for result in study["results"]}) == [1, 2]
    current = [result for result in study["results"] if result["current"]]
    assert [result["revision"] for result in current] == [2, 2]
    assert len({result["series_instance_uid"] for result in study["results"]}) == 2


def test_a_slice_that_comes_during_the_analysis_is_in_the_last_result(
    hospital: Hospital, chest: tuple[str, list[Path]]
) -> None:
    uid, files = chest
    hospital.send(files[:-1])
    wait_until(lambda: hospital.node.study(uid)["state"] == "analysing", within_s=30, what="the job is there")
    hospital.send(files[-1:])
    study = wait_until(
        lambda: (page := hospital.node.study(uid))["decision_number"] == 2 and page["state"] == "answered" and page,
        within_s=90,
        what="second decision is answered",
    )
    current = [result for result in study["results"] if result["current"]]
    assert sorted(result["kind"] for result in current) == ["seg", "sr"]
    (segmentation,) = (result for result in current if result["kind"] == "seg")
    wait_until(
        lambda: segmentation["sop_instance_uid"] in {str(each.SOPInstanceUID) for each in hospital.objects()},
        within_s=30,
        what="the last result is at the PACS",
    )
    assert hospital.node.run("ledger").stdout.splitlines()[-1] == "0 unexplained"


@pytest.mark.parametrize("role", ["worker", "courier", "web", "receiver"])
def test_a_role_killed_in_the_middle_loses_and_doubles_nothing(
    hospital: Hospital, chest: tuple[str, list[Path]], role: str
) -> None:
    uid, files = chest
    hospital.send(files)
    wait_until(lambda: hospital.node.study(uid)["state"] == "analysing", within_s=30, what="the job is there")
    hospital.node.kill_role(role)
    wait_until(lambda: role in hospital.node.role_pids(), within_s=30, what=f"{role} is back")
    wait_until(hospital.node._is_ready, within_s=30, what="the node is ready again")
    study = hospital.node.await_state(uid, "answered")
    assert len(study["results"]) == 2
    assert [delivery["state"] for delivery in study["deliveries"]] == ["delivered"]
    assert len({str(each.SOPInstanceUID) for each in hospital.objects()}) == len(hospital.objects()) == 2


def test_a_node_killed_while_receiving_has_every_acknowledged_instance(
    hospital: Hospital, chest: tuple[str, list[Path]]
) -> None:
    uid, files = chest
    acknowledged: list[str] = []
    for number in range(4):
        batch = [outgoing(path) for path in files[number * 15 : (number + 1) * 15]]
        last = batch[5 + number].sop_instance_uid
        peer = Peer(ae_title="DICOMNODE", host="127.0.0.1", port=hospital.node.dimse_port)

        def on_status(item: Outgoing, status: int, last: str = last) -> None:
            assert status == 0x0000
            acknowledged.append(item.sop_instance_uid)
            if item.sop_instance_uid == last:
                hospital.node.kill()

        with pytest.raises(PeerError):
            send(peer, calling_ae_title="CT1", items=batch, on_status=on_status)
        hospital.node.start()
    assert len(acknowledged) == 6 + 7 + 8 + 9
    kept = hospital.node.get(f"/dicom-web/studies/{uid}/instances?limit=1000")
    assert set(acknowledged) <= {each["00080018"]["Value"][0] for each in kept}
    assert hospital.node.run("ledger").stdout.splitlines()[-1] == "0 unexplained"


def test_a_second_node_on_the_same_data_is_refused_and_a_second_start_is_not(hospital: Hospital) -> None:
    assert hospital.node.run("up").stderr.strip().endswith("to another directory.")
    assert hospital.node.stop() == 0
    hospital.node.start()


def test_bad_input_gets_its_status_and_disturbs_nobody(
    hospital: Hospital, chest: tuple[str, list[Path]], tmp_path: Path
) -> None:
    _, files = chest
    nameless = dcmread(files[0])
    nameless.SOPInstanceUID = "1.2.3.4"
    del nameless.SeriesInstanceUID
    path = tmp_path / "nameless.dcm"
    nameless.save_as(path, enforce_file_format=True)
    assert hospital.send([path, files[0]]) == [0xC000, 0x0000]
    with pytest.raises(AssociationRejected):
        echo(Peer(ae_title="WRONG", host="127.0.0.1", port=hospital.node.dimse_port), "CT1")
    assert "called AE title WRONG" in hospital.node.run("peers", "list", "--refused").stdout
    assert "Phantom" not in hospital.node.log()
