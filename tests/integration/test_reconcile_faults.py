"""Damage of each kind, seeded: it is found, repaired where that is safe, and nothing acknowledged is ever removed."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from pydicom import Dataset
from sqlalchemy import delete, update

from configs.peers import Peer
from dicom_node.worker.analyse import infer
from dicom_node.worker.repair import Repairs, missing_elsewhere
from storage import tables
from storage.blobs import LocalBlobs
from storage.correction_tables import removed_files
from storage.database import Database
from storage.inspection import Fault, FaultKind, Inspection, digest_of
from storage.jobs import Queue, prepare_queue
from storage.records import DeliveryState, JobState, StudyState
from tests.builders.real_node import STUDY, RealNode, slices
from tests.builders.studies import make_peer
from tests.builders.work import transitions_of


@dataclass
class Damaged:
    """A node with an answered study, and who looks after it."""

    node: RealNode
    root: Path
    inspection: Inspection
    repairs: Repairs

    def found(self, *, digests: bool = False) -> list[Fault]:
        """Look: everything was placed long ago."""
        return list(self.inspection.faults(before=self.node.later(10**9), digests=digests))

    def kinds(self, *, digests: bool = False) -> list[FaultKind]:
        """Look, and give what kinds there are."""
        return [fault.kind for fault in self.found(digests=digests)]

    def repair(self, *, digests: bool = False) -> list[str]:
        """Repair all, and say what was done."""
        return [self.repairs.repair(fault) for fault in self.found(digests=digests)]

    def path(self, position: int = 0) -> Path:
        """Give the file of an input."""
        return self.root / self.node.index.inputs_of(STUDY)[position].path

    @property
    def result(self) -> Path:
        """Give the file of a result."""
        return self.root / self.node.index.instance(self.node.results.of_study(STUDY)[0].sop_instance_uid).path


@pytest.fixture
def damaged(sqlite_database: Database, blobs: LocalBlobs, tmp_path: Path) -> Damaged:
    prepare_queue(sqlite_database.url)
    queue = Queue(sqlite_database)
    node = RealNode(sqlite_database, blobs, queue)
    node.send(slices())
    node.analyse("pacs")
    node.deliver()
    inspection = Inspection(sqlite_database, blobs, queue)
    made = Damaged(node, tmp_path / "blobs", inspection, Repairs(sqlite_database, blobs, queue, node.worker))
    assert made.kinds(digests=True) == []
    return made


def test_a_missing_image_is_reported_and_healed_by_the_next_copy(damaged: Damaged) -> None:
    damaged.path().unlink()
    assert damaged.kinds() == [FaultKind.MISSING_FILE]
    assert damaged.repair() == [""]
    damaged.node.send(slices(1))
    assert damaged.kinds(digests=True) == []


def test_a_missing_result_is_built_again_to_the_last_bit(damaged: Damaged) -> None:
    before = damaged.node.results.of_study(STUDY)[0].sop_instance_uid
    digest = damaged.node.index.instance(before).sha256
    damaged.result.unlink()
    assert damaged.kinds() == [FaultKind.MISSING_FILE]
    assert damaged.repair() == ["built again"]
    kept = damaged.node.index.instance(before)
    assert digest_of(damaged.node.blobs, kept.path) == digest == kept.sha256
    assert damaged.kinds(digests=True) == []


def test_other_bytes_go_aside_and_the_next_copy_takes_their_place(damaged: Damaged) -> None:
    path = damaged.path()
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    assert damaged.kinds() == []
    assert damaged.kinds(digests=True) == [FaultKind.WRONG_FILE]
    (said,) = damaged.repair(digests=True)
    assert "set aside" in said
    (aside,) = (damaged.root / "damaged").iterdir()
    assert aside.read_bytes() == content
    damaged.node.send(slices(1))
    assert damaged.kinds(digests=True) == []


def test_a_file_cut_short_is_found_by_its_size(damaged: Damaged) -> None:
    os.truncate(damaged.path(), 1000)
    assert damaged.kinds() == [FaultKind.WRONG_FILE]


def test_an_orphan_enters_again_and_one_that_is_no_instance_stays(damaged: Damaged) -> None:
    known = damaged.path()
    orphan, strange = known.with_name(f"{'0' * 40}-1.dcm"), known.with_name(f"{'1' * 40}-2.dcm")
    orphan.write_bytes(known.read_bytes())
    strange.write_bytes(b"no instance")
    assert damaged.kinds() == [FaultKind.ORPHAN, FaultKind.ORPHAN]
    assert sorted(damaged.repair()) == ["", "entered again: already kept"]
    assert not orphan.exists()
    assert strange.exists()


def test_an_orphan_stands_in_for_a_file_that_is_gone(damaged: Damaged) -> None:
    path = damaged.path()
    path.rename(path.with_name(f"{'0' * 40}-1.dcm"))
    assert damaged.kinds() == [FaultKind.MISSING_FILE, FaultKind.ORPHAN]
    assert damaged.repair() == ["", "entered again: already kept"]
    assert damaged.kinds(digests=True) == []


def test_what_a_dead_process_left_half_written_is_removed_and_a_living_ones_stays(damaged: Damaged) -> None:
    dead = damaged.root / "incoming" / "999999-dead"
    dead.mkdir(parents=True)
    (dead / "half").write_bytes(b"half")
    with damaged.node.intake.open(damaged.node.index.inputs_of(STUDY)[0].origin, "1.2", "1.3", "1.2.840.10008.1.2"):
        assert damaged.kinds() == [FaultKind.HALF_WRITTEN]
        assert damaged.repair() == ["removed"]
        assert not dead.exists()
        assert len(list((damaged.root / "incoming").glob("*/[!.]*"))) == 1


def test_findings_without_a_row_are_removed_and_those_with_one_stay(damaged: Damaged) -> None:
    damaged.node.blobs.put("findings/ab/abc-1.bin", b"nobody's")
    (record,) = [damaged.node.findings.of(each.run_key) for each in damaged.node.results.of_study(STUDY)[:1]]
    assert damaged.kinds() == [FaultKind.FINDINGS_WITHOUT_ROW]
    assert damaged.repair() == ["removed"]
    assert damaged.kinds() == []
    assert record is not None
    assert damaged.node.findings.of(record.run_key) == record


def test_findings_that_lost_their_content_are_left_to_a_person(damaged: Damaged) -> None:
    for path in (damaged.root / "findings").rglob("*.bin"):
        path.unlink()
    assert damaged.kinds() == [FaultKind.MISSING_FINDINGS]
    assert damaged.repair() == [""]


def test_the_file_of_a_deleted_instance_goes(damaged: Damaged) -> None:
    damaged.node.blobs.put("instances/ab/gone.dcm", b"gone")
    with damaged.node.database.write() as connection:
        connection.execute(removed_files.insert().values(path="instances/ab/gone.dcm", removed_at=damaged.node.at))
    assert damaged.kinds() == [FaultKind.NOT_DELETED]
    assert damaged.repair() == ["deleted"]
    assert damaged.kinds() == []


def test_metadata_that_is_missing_is_made_again(damaged: Damaged) -> None:
    lost = damaged.node.index.inputs_of(STUDY)[3].sop_instance_uid
    with damaged.node.database.write() as connection:
        connection.execute(delete(tables.json_pending).where(tables.json_pending.c.sop_instance_uid == lost))
    assert [(fault.kind, fault.subject_id) for fault in damaged.found()] == [(FaultKind.MISSING_JSON, lost)]
    assert damaged.repair() == ["to be made"]
    assert damaged.kinds() == []


def test_wrong_counts_are_counted_again(damaged: Damaged) -> None:
    with damaged.node.database.write() as connection:
        connection.execute(update(tables.studies).values(number_of_instances=99, size_bytes=1))
    assert damaged.kinds() == [FaultKind.WRONG_COUNT]
    assert damaged.repair() == ["counted again"]
    assert damaged.node.index.study(STUDY).number_of_instances == 14
    assert damaged.kinds() == []


def test_a_job_whose_turn_is_gone_is_asked_for_again(damaged: Damaged) -> None:
    node = damaged.node
    node.send(slices(13)[12:])
    job_id = node.decide("pacs")
    node.queue.forget([job_id])
    assert damaged.kinds() == [FaultKind.STUCK_JOB]
    assert damaged.repair() == ["asked for again"]
    assert node.jobs.job(job_id).state is JobState.QUEUED
    assert transitions_of(node.database, job_id) == [JobState.QUEUED, JobState.FAILED, JobState.QUEUED]
    assert damaged.kinds() == []


def test_a_running_job_whose_turn_is_gone_is_asked_for_again(damaged: Damaged) -> None:
    node = damaged.node
    node.send(slices(13)[12:])
    job_id = node.decide("pacs")
    infer(job_id, node.worker)
    node.queue.forget([job_id])
    assert node.jobs.job(job_id).state is JobState.RUNNING
    assert damaged.repair() == ["asked for again"]
    assert node.jobs.job(job_id).state is JobState.QUEUED


def test_a_delivery_whose_turn_is_gone_is_asked_for_again(damaged: Damaged) -> None:
    node = damaged.node
    node.send(slices(13)[12:])
    node.analyse("pacs")
    (waiting,) = node.deliveries.by_state([DeliveryState.WAITING])
    node.queue.forget([f"{waiting.delivery_id}:1"])
    assert damaged.kinds() == [FaultKind.STUCK_DELIVERY]
    assert damaged.repair() == ["asked for again"]
    assert node.deliveries.delivery(waiting.delivery_id).state is DeliveryState.WAITING
    assert damaged.kinds() == []


def test_a_study_that_its_jobs_left_behind_is_settled(damaged: Damaged) -> None:
    with damaged.node.database.write() as connection:
        connection.execute(update(tables.studies).values(state=StudyState.ANALYSING.value))
    assert damaged.kinds() == [FaultKind.UNSETTLED]
    assert damaged.repair() == ["settled"]
    assert damaged.node.index.study(STUDY).state is StudyState.ANSWERED


def test_what_a_destination_took_and_does_not_have_is_sent_again(damaged: Damaged) -> None:
    node = damaged.node
    (delivery,) = node.deliveries.of_study(STUDY)
    node.peers["pacs"] = make_peer(port=104)
    there = {item.sop_instance_uid for item in delivery.items}

    def ask(peer: Peer, wanted: Dataset) -> Sequence[Dataset]:
        assert (wanted.QueryRetrieveLevel, wanted.StudyInstanceUID) == ("IMAGE", STUDY)
        answers = []
        for uid in there:
            answer = Dataset()
            answer.SOPInstanceUID = uid
            answers.append(answer)
        return answers

    assert missing_elsewhere(node.worker, ask) == []
    there.pop()
    (fault,) = missing_elsewhere(node.worker, ask)
    assert (fault.kind, fault.why) == (FaultKind.NOT_AT_DESTINATION, "pacs does not have 1 of 2 instances.")
    assert damaged.repairs.repair(fault) == "sent again"
    assert node.deliveries.delivery(delivery.delivery_id).state is DeliveryState.WAITING


def test_a_look_changes_nothing(damaged: Damaged, sqlite_url: str) -> None:
    damaged.path().unlink()
    damaged.node.blobs.put("findings/ab/abc-1.bin", b"nobody's")
    with damaged.node.database.read() as connection:
        before = list(connection.connection.iterdump())  # type: ignore[attr-defined]
    assert len(damaged.found(digests=True)) == 2
    with damaged.node.database.read() as connection:
        assert list(connection.connection.iterdump()) == before  # type: ignore[attr-defined]
    assert damaged.node.blobs.exists("findings/ab/abc-1.bin")


def test_the_command_finds_repairs_and_says_so_by_its_status(damaged: Damaged, tmp_path: Path) -> None:
    damaged.node.blobs.put("findings/ab/abc-1.bin", b"nobody's")
    old = damaged.root / "findings/ab/abc-1.bin"
    environment = {**os.environ, "DICOM_NODE_DATA_DIR": str(tmp_path), "DICOM_NODE_AUTH__ADMIN_KEY": "x" * 40}
    statuses = []
    for words in ([], ["--repair"], []):
        command = [sys.executable, "-m", "dicom_node.cli", "reconcile", *words]
        ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
        statuses.append((ended.returncode, ended.stdout.splitlines()[-1:], ended.stderr[-300:]))
    # Placed a moment ago: its row may still come, so that it is no fault yet.
    assert [status for status, _, _ in statuses] == [0, 0, 0], statuses
    assert [said for _, said, _ in statuses] == [["0 faults found, 0 repaired, 0 left."]] * 3
    assert old.exists()
    damaged.path().unlink()
    ended = subprocess.run(
        [sys.executable, "-m", "dicom_node.cli", "reconcile"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 1
    assert "row without a file" in ended.stdout
