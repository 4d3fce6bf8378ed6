"""The one door on both databases."""

from __future__ import annotations

import errno
import hashlib
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)
from sqlalchemy import Transaction, func, insert, select, update
from sqlalchemy.exc import OperationalError

from storage import intake as intake_module
from storage import ledger
from storage.blobs import BlobUnwritable, LocalBlobs
from storage.continuations import Continuations
from storage.database import Database
from storage.errors import CommitUnknown, DiskFull, IndexUnavailable, SopClassMismatch, UnreadableInstance
from storage.intake import Intake
from storage.records import InstanceRole, Kept, Origin, OriginKind, Outcome, StudyState
from storage.tables import findings, instances, results, series, studies, transitions, variants
from tests.builders.ct import encode, make_ct_instance, make_ct_series, uid
from tests.conftest import SENDER

Receive = Callable[..., Kept]


def one(database: Database, table: Any) -> Any:
    with database.read() as connection:
        return connection.execute(select(table)).one()


def count(database: Database, table: Any) -> int:
    with database.read() as connection:
        return connection.execute(select(func.count()).select_from(table)).scalar_one()


def kept_files(blobs: LocalBlobs) -> list[Path]:
    return [path for path in (blobs._root / "instances").rglob("*") if path.is_file()]


def test_a_kept_instance_has_a_file_a_row_and_a_study(database: Database, blobs: LocalBlobs, receive: Receive) -> None:
    kept = receive(make_ct_instance())
    assert (kept.outcome, kept.role) == (Outcome.KEPT, InstanceRole.INPUT)
    row = one(database, instances)
    assert (row.path, row.sha256, row.size) == (kept.path, kept.sha256, blobs.size(kept.path))
    study = one(database, studies)
    assert (study.state, study.number_of_instances, study.number_of_inputs) == ("gathering", 1, 1)
    assert (study.patient_id, study.patient_name_folded, study.modalities) == ("TEST-1", "test^quiet", "CT")
    assert one(database, series).series_number == 1


@pytest.mark.parametrize(
    "syntax",
    [ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian],
)
def test_the_data_set_is_kept_bit_for_bit(database: Database, blobs: LocalBlobs, intake: Intake, syntax: str) -> None:
    part10 = encode(make_ct_instance(), syntax)
    kept = intake.receive(BytesIO(part10), SENDER)
    with blobs.open(kept.path) as file:
        stored = file.read()
    length = int.from_bytes(part10[140:144], "little")
    assert stored.endswith(part10[144 + length :])
    assert kept.sha256 == hashlib.sha256(part10[144 + length :]).hexdigest()
    read = dcmread(BytesIO(stored))
    assert read.file_meta.TransferSyntaxUID == syntax
    assert read.file_meta.SourceApplicationEntityTitle == "CT1"
    assert read.pixel_array[0, 0] == dcmread(BytesIO(part10)).pixel_array[0, 0]


def test_second_copy_of_an_instance_is_success_and_keeps_the_first_file(
    database: Database, blobs: LocalBlobs, receive: Receive
) -> None:
    first = receive(make_ct_instance())
    again = receive(make_ct_instance())
    assert again.outcome is Outcome.ALREADY_KEPT
    assert again.path == first.path
    assert len(kept_files(blobs)) == 1
    assert one(database, studies).input_version == 1


def test_other_bytes_under_a_kept_uid_are_set_aside_and_the_first_stays(
    database: Database, blobs: LocalBlobs, receive: Receive
) -> None:
    first = receive(make_ct_instance())
    other = receive(make_ct_instance(PatientID="TEST-2"))
    assert other.outcome is Outcome.SET_ASIDE
    assert one(database, instances).path == first.path
    assert one(database, variants).path == other.path
    assert blobs.exists(first.path)
    assert blobs.exists(other.path)
    assert receive(make_ct_instance(PatientID="TEST-2")).path == other.path
    assert len(kept_files(blobs)) == 2


def test_sixteen_senders_of_one_series_lead_to_one(database: Database, blobs: LocalBlobs, intake: Intake) -> None:
    files = [encode(instance) for instance in make_ct_series(8)]
    with ThreadPoolExecutor(16) as senders:
        sent = [senders.submit(intake.receive, BytesIO(file), SENDER) for _ in range(4) for file in files]
        outcomes = [each.result().outcome for each in sent]
    assert outcomes.count(Outcome.KEPT) == 8
    assert outcomes.count(Outcome.ALREADY_KEPT) == 24
    study = one(database, studies)
    assert (study.number_of_instances, study.number_of_series, study.input_version) == (8, 1, 8)
    assert len(kept_files(blobs)) == 8


def test_the_same_instance_in_another_syntax_is_set_aside_and_each_form_is_kept_once(
    database: Database, blobs: LocalBlobs, intake: Intake
) -> None:
    forms = [encode(make_ct_instance(), syntax) for syntax in (ExplicitVRLittleEndian, ImplicitVRLittleEndian)]
    outcomes = [intake.receive(BytesIO(form), SENDER).outcome for form in (*forms, *forms, *forms)]
    assert outcomes[:2] == [Outcome.KEPT, Outcome.SET_ASIDE]
    assert outcomes[2::2] == [Outcome.ALREADY_KEPT] * 2
    assert outcomes[3::2] == [Outcome.SET_ASIDE] * 2
    assert one(database, instances).transfer_syntax_uid == ExplicitVRLittleEndian
    assert one(database, variants).transfer_syntax_uid == ImplicitVRLittleEndian
    assert len(kept_files(blobs)) == 2


def test_different_bytes_under_one_uid_at_once_are_each_kept_once(
    database: Database, blobs: LocalBlobs, intake: Intake
) -> None:
    files = [encode(make_ct_instance(PatientID=f"TEST-{number}")) for number in range(8)]
    with ThreadPoolExecutor(16) as senders:
        kept = [each.result() for each in [senders.submit(intake.receive, BytesIO(f), SENDER) for f in files * 4]]
    outcomes = [each.outcome for each in kept]
    assert (outcomes.count(Outcome.KEPT), outcomes.count(Outcome.ALREADY_KEPT)) == (1, 3)
    assert outcomes.count(Outcome.SET_ASIDE) == 28
    assert (count(database, instances), count(database, variants)) == (1, 7)
    assert len(kept_files(blobs)) == 8
    assert one(database, studies).number_of_instances == 1
    for each in kept:
        assert blobs.exists(each.path)


def test_two_processes_worth_of_intakes_agree_on_one_row(database_url: str, blobs: LocalBlobs) -> None:
    databases = [Database(database_url) for _ in range(3)]
    doors = [Intake(database, blobs, reserve_bytes=0) for database in databases]
    files = [encode(instance) for instance in make_ct_series(6)]
    with ThreadPoolExecutor(6) as senders:
        sent = [senders.submit(door.receive, BytesIO(file), SENDER) for file in files for door in doors]
        outcomes = [each.result().outcome for each in sent]
    assert outcomes.count(Outcome.KEPT) == 6
    assert one(databases[0], studies).number_of_inputs == 6
    for door, database in zip(doors, databases, strict=True):
        door.close()
        database.close()


@pytest.mark.parametrize(
    ("overrides", "error"),
    [
        ({"StudyInstanceUID": ""}, UnreadableInstance),
        ({"SeriesInstanceUID": None}, UnreadableInstance),
        ({"StudyInstanceUID": "1.2.840/../../../etc/passwd"}, UnreadableInstance),
        ({"StudyInstanceUID": "1." + "2" * 63}, UnreadableInstance),
    ],
)
@pytest.mark.filterwarnings("ignore:Invalid value for VR UI", "ignore:The value length")
def test_missing_and_hostile_uids_are_refused_and_leave_nothing(
    database: Database, blobs: LocalBlobs, receive: Receive, overrides: dict[str, Any], error: type[Exception]
) -> None:
    with pytest.raises(error):
        receive(make_ct_instance(**overrides))
    assert count(database, instances) == 0
    assert kept_files(blobs) == []


def test_what_was_announced_otherwise_is_refused(intake: Intake) -> None:
    part10 = encode(make_ct_instance())
    body = part10[144 + int.from_bytes(part10[140:144], "little") :]
    with intake.open(SENDER, "1.2.840.10008.5.1.4.1.1.4", uid(1, 1, 1), ExplicitVRLittleEndian) as incoming:
        incoming.write(body)
        with pytest.raises(SopClassMismatch):
            incoming.keep()


@pytest.mark.parametrize("cut", [1, 100, 511, 600])
def test_a_transfer_cut_short_is_refused(database: Database, intake: Intake, cut: int) -> None:
    with pytest.raises(UnreadableInstance):
        intake.receive(BytesIO(encode(make_ct_instance())[:-cut]), SENDER)
    assert count(database, instances) == 0


def test_what_is_no_dicom_file_is_refused(intake: Intake) -> None:
    for bytes_ in (b"", b"hello", os.urandom(4096), bytes(128) + b"DICM", bytes(128) + b"DICM" + os.urandom(64)):
        with pytest.raises(UnreadableInstance):
            intake.receive(BytesIO(bytes_), SENDER)


def test_leaving_without_keeping_leaves_nothing(database: Database, blobs: LocalBlobs, intake: Intake) -> None:
    with intake.open(SENDER, "1.2", "1.3", ExplicitVRLittleEndian) as incoming:
        incoming.write(b"part of it")
    assert count(database, instances) == 0
    assert [path for path in blobs._root.rglob("*") if path.is_file() and path.name != ".lock"] == []


@pytest.mark.parametrize(
    ("step", "number", "error"),
    [
        ("write", errno.ENOSPC, DiskFull),
        ("write", errno.EIO, BlobUnwritable),
        ("sync", errno.EIO, BlobUnwritable),
        ("place", errno.EIO, BlobUnwritable),
    ],
)
def test_a_failing_disk_is_never_success(
    database: Database,
    blobs: LocalBlobs,
    receive: Receive,
    monkeypatch: pytest.MonkeyPatch,
    step: str,
    number: int,
    error: type[Exception],
) -> None:
    def fail(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    call = {"write": "os.writev", "sync": "os.fdatasync", "place": "os.rename"}[step]
    with monkeypatch.context() as patched:
        patched.setattr(call, fail)
        with pytest.raises(error):
            receive(make_ct_instance())
    assert count(database, instances) == 0
    assert kept_files(blobs) == []
    assert receive(make_ct_instance()).outcome is Outcome.KEPT


def test_a_directory_that_does_not_sync_is_never_success(
    database: Database, blobs: LocalBlobs, receive: Receive, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise BlobUnwritable("no")

    with monkeypatch.context() as patched:
        patched.setattr(blobs, "sync_directories", fail)
        with pytest.raises(BlobUnwritable):
            receive(make_ct_instance())
    assert count(database, instances) == 0
    assert kept_files(blobs) == []


def test_a_commit_that_fails_is_never_success(
    database: Database, blobs: LocalBlobs, receive: Receive, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> list[Kept]:
        raise OperationalError("INSERT", {}, Exception("gone"))

    with monkeypatch.context() as patched:
        patched.setattr(intake_module, "record_arrivals", fail)
        with pytest.raises(IndexUnavailable):
            receive(make_ct_instance())
    assert count(database, instances) == 0
    assert kept_files(blobs) == []


def test_one_bad_instance_of_a_group_harms_only_itself(
    database: Database, intake: Intake, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = intake_module.record_arrivals

    def picky(connection: Any, arrivals: Any) -> list[Kept]:
        if any(arrival.sop_instance_uid == uid(1, 1, 3) for arrival in arrivals):
            raise ValueError("a bug of ours")
        return real(connection, arrivals)

    monkeypatch.setattr(intake_module, "record_arrivals", picky)
    monkeypatch.setattr(Continuations, "record", lambda *_: None)
    with ThreadPoolExecutor(8) as senders:
        files = [BytesIO(encode(instance)) for instance in make_ct_series(8)]
        sent = [senders.submit(intake.receive, file, SENDER) for file in files]
        failed = [each for each in sent if each.exception()]
    assert len(failed) == 1
    assert count(database, instances) == 7


def test_a_commit_whose_answer_was_lost_leaves_the_file_that_its_row_may_name(
    database: Database, blobs: LocalBlobs, receive: Receive, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Transaction.commit

    def lose_the_answer(transaction: Transaction) -> None:
        real(transaction)
        raise OperationalError("COMMIT", {}, Exception("gone"))

    with monkeypatch.context() as patched:
        patched.setattr(Transaction, "commit", lose_the_answer)
        with pytest.raises(CommitUnknown):
            receive(make_ct_instance())
    assert blobs.exists(one(database, instances).path)
    again = receive(make_ct_instance())
    assert again.outcome is Outcome.ALREADY_KEPT
    assert len(kept_files(blobs)) == 1


def test_a_database_that_is_gone_is_asked_once_for_a_whole_group(
    intake: Intake, blobs: LocalBlobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def fail(_: object, arrivals: list[object]) -> list[Kept]:
        asked.append(len(arrivals))
        time.sleep(0.2)
        raise OperationalError("INSERT", {}, Exception("gone"))

    monkeypatch.setattr(intake_module, "record_arrivals", fail)
    with ThreadPoolExecutor(16) as senders:
        files = [BytesIO(encode(instance)) for instance in make_ct_series(16)]
        sent = [senders.submit(intake.receive, file, SENDER) for file in files]
        errors = [each.exception() for each in sent]
    assert all(isinstance(error, IndexUnavailable) for error in errors)
    assert sum(asked) == 16, "no member of a group was tried once more"
    assert kept_files(blobs) == []


def test_a_copy_that_comes_again_stands_for_a_file_that_is_gone(
    database: Database, blobs: LocalBlobs, receive: Receive
) -> None:
    first = receive(make_ct_instance())
    blobs.delete(first.path)
    again = receive(make_ct_instance())
    assert again.outcome is Outcome.ALREADY_KEPT
    assert one(database, instances).path == again.path
    assert blobs.exists(again.path)
    assert receive(make_ct_instance()).path == again.path


@pytest.mark.filterwarnings("ignore:Invalid value for VR", "ignore:The value length")
def test_values_that_a_database_cannot_hold_are_no_reason_to_refuse_an_instance(
    database: Database, receive: Receive
) -> None:
    odd = make_ct_instance(
        PatientID="A\0B", PatientName="Test^Qu\0iet", StudyDescription="x" * 5000, AccessionNumber="y" * 300
    )
    odd.SeriesNumber, odd.InstanceNumber = "999999999999", "-99999999999"
    odd.Modality = "CT" * 40
    assert receive(odd).outcome is Outcome.KEPT
    row = one(database, studies)
    assert (row.patient_id, row.patient_name) == ("AB", "Test^Quiet")
    assert one(database, series).series_number is None


@pytest.mark.parametrize(
    "name", ["../../x", "1.2.3/4", "", "1." + "2" * 63, "1.\N{FULLWIDTH SOLIDUS}2", "1.2\0.3", "CON"]
)
def test_a_name_that_is_no_uid_is_refused_at_the_door(intake: Intake, name: str) -> None:
    for names in ((name, "1.3", "1.4"), ("1.2", name, "1.4"), ("1.2", "1.3", name)):
        with pytest.raises(UnreadableInstance):
            intake.open(SENDER, *names)


def test_the_disk_reserve_is_not_touched(
    database: Database, blobs: LocalBlobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    door = Intake(database, blobs, reserve_bytes=1000)
    free = 999
    monkeypatch.setattr(blobs, "free_bytes", lambda: free)
    with pytest.raises(DiskFull, match="senders get 0xA700"):
        door.receive(BytesIO(encode(make_ct_instance())), SENDER)
    free = 1001
    assert door.receive(BytesIO(encode(make_ct_instance())), SENDER).outcome is Outcome.KEPT
    door.close()


def decide(database: Database, state: StudyState) -> None:
    with database.write() as connection:
        at = datetime.now(UTC)
        ledger.move(connection, uid(1), StudyState.ANALYSING, reason="decided", at=at)
        connection.execute(update(studies).values(decision_number=1))
        if state is not StudyState.ANALYSING:
            ledger.move(connection, uid(1), state, reason="decided", at=at)


def test_a_late_image_reopens_a_decided_study_and_a_document_does_not(database: Database, receive: Receive) -> None:
    receive(make_ct_instance(1))
    decide(database, StudyState.ANSWERED)
    report = make_ct_instance(7, SOPClassUID="1.2.840.10008.5.1.4.1.1.88.34", Modality="SR", PixelData=None)
    assert receive(report).role is InstanceRole.DOCUMENT
    assert one(database, studies).state == "answered"
    receive(make_ct_instance(2))
    assert one(database, studies).state == "gathering"
    with database.read() as connection:
        reasons = connection.execute(select(transitions.c.reason)).scalars().all()
    assert any(reason.startswith("late: 1 image") for reason in reasons)


def test_a_quarantined_study_stays_so_whatever_arrives(database: Database, receive: Receive) -> None:
    receive(make_ct_instance(1))
    decide(database, StudyState.QUARANTINED)
    receive(make_ct_instance(2))
    study = one(database, studies)
    assert (study.state, study.number_of_inputs) == ("quarantined", 2)


def test_a_study_of_documents_waits_for_its_first_image(database: Database, receive: Receive) -> None:
    report = {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.88.34", "Modality": "SR", "PixelData": None, "PatientSex": ""}
    receive(make_ct_instance(7, **report))
    assert one(database, studies).state == "documents only"
    receive(make_ct_instance(1))
    study = one(database, studies)
    assert (study.state, study.modalities, study.patient_sex) == ("gathering", "CT\\SR", "O")


def test_our_result_sent_back_is_success_and_no_input(database: Database, receive: Receive) -> None:
    receive(make_ct_instance(1))
    ours = {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.66.4", "Modality": "SEG"}
    with database.write() as connection:
        at = datetime.now(UTC)
        connection.execute(
            insert(findings).values(
                run_key="k", study_instance_uid=uid(1), engine="e", task="t", revision=1, analysed_at=at, path="p"
            )
        )
        connection.execute(
            insert(results).values(
                sop_instance_uid=uid(1, 9, 1),
                run_key="k",
                form="f",
                kind="seg",
                study_instance_uid=uid(1),
                series_instance_uid=uid(1, 9),
                sop_class_uid=ours["SOPClassUID"],
                state="named",
                state_since=at,
            )
        )
    made = receive(make_ct_instance(1, series=9, **ours), Origin(OriginKind.OURS))
    back = receive(make_ct_instance(1, series=9, **ours))
    changed = receive(make_ct_instance(1, series=9, **ours, SeriesDescription="coerced"))
    assert (made.role, back.outcome, changed.outcome) == (InstanceRole.RESULT, Outcome.ALREADY_KEPT, Outcome.SET_ASIDE)
    assert one(database, variants).state == "noted"
    assert one(database, studies).input_version == 1


def test_a_wrong_character_set_label_is_noted_once_for_each_peer_and_bytes_stay(
    intake: Intake, blobs: LocalBlobs, caplog: pytest.LogCaptureFixture
) -> None:
    mislabelled = make_ct_instance(1, SpecificCharacterSet="ISO_IR 192", PatientName="Test^M\u00fcde")
    file = encode(mislabelled).replace(b"ISO_IR 192", b"ISO_IR 100")
    kept = intake.receive(BytesIO(file), SENDER)
    intake.receive(BytesIO(file), SENDER)
    noted = [record for record in caplog.records if getattr(record, "action", "") == "character_set_noted"]
    assert [record.why for record in noted] == [  # type: ignore[attr-defined]
        "Specific Character Set says 'ISO_IR 100', the text is read as UTF-8."
    ]
    with blobs.open(kept.path) as stored:
        assert file[file.index(b"\x08\0\x05\0CS") :] in stored.read()
