"""C-MOVE and C-GET of what is kept, to independent peers."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import Dataset, dcmread
from pydicom.uid import ExplicitVRBigEndian, ImplicitVRLittleEndian, RLELossless
from pynetdicom import build_context, build_role, evt
from pynetdicom.dimse_primitives import C_MOVE
from pynetdicom.events import Event

from configs.peers import Peer
from dicom_node.network import application_entity
from dicom_node.scp import retrieve
from dicom_node.scu.transcoding import PixelTranscoder
from inference.pixel_process import PixelProcess
from storage.audit import Audit, AuditAction, AuditOutcome
from storage.blobs import LocalBlobs
from storage.database import Database
from storage.errors import IndexUnavailable
from storage.index import Index
from storage.intake import Intake
from storage.records import Kept
from tests.builders.ct import encode, make_ct_instance, uid
from tests.builders.destination import Destination
from tests.builders.dimse import CT_IMAGE_STORAGE, EXPLICIT, IMPLICIT, Listening
from tests.builders.queries import answering_queries, asking, identifier
from tests.conftest import SENDER

Receive = Callable[..., Kept]
STUDY_ROOT_MOVE, STUDY_ROOT_GET = "1.2.840.10008.5.1.4.1.2.2.2", "1.2.840.10008.5.1.4.1.2.2.3"
PATIENT_ROOT_MOVE = "1.2.840.10008.5.1.4.1.2.1.2"
MOVESCU, GETSCU = "/usr/bin/movescu", "/usr/bin/getscu"


@pytest.fixture
def destination() -> Iterator[Destination]:
    made = Destination()
    yield made
    made.close()


@pytest.fixture
def database_url(sqlite_url: str) -> str:
    """One engine suffices: what differs between them is tested with the queries."""
    return sqlite_url


def five(receive: Receive) -> None:
    for number in range(1, 6):
        receive(make_ct_instance(number, study=1))


def move(here: Listening, asked: Dataset, *, to: str = "DEST", model: str = STUDY_ROOT_MOVE) -> list[Dataset]:
    """Ask for a move; every response, its identifier under `failed`."""
    with asking(here.port, model) as association:
        answers = []
        for status, found in association.send_c_move(asked, to, model):
            named = found.get("FailedSOPInstanceUIDList") if found is not None else None
            status.failed = [named] if isinstance(named, str) else list(named or [])
            answers.append(status)
        return answers


def in_syntax(dataset: Dataset, syntax: str) -> bytes:
    """Give the file of a 16-bit image; pydicom leaves turning the pixels to the caller."""
    if syntax == ExplicitVRBigEndian:
        dataset.PixelData = np.frombuffer(dataset.PixelData, "<u2").astype(">u2").tobytes()
    return encode(dataset, syntax)


def study(**more: Any) -> Dataset:
    return identifier("STUDY", StudyInstanceUID=uid(1), **more)


def test_a_study_is_moved_bit_for_bit_with_its_originator(
    database: Database, blobs: LocalBlobs, receive: Receive, destination: Destination
) -> None:
    five(receive)
    with answering_queries(database, blobs, peers={"dest": destination.peer}) as here:
        answers = move(here, study())
    assert answers[0].Status == 0xFF00
    assert answers[0].NumberOfRemainingSuboperations == 5
    final = answers[-1]
    assert (final.Status, final.NumberOfCompletedSuboperations, final.NumberOfFailedSuboperations) == (0x0000, 5, 0)
    assert "NumberOfRemainingSuboperations" not in final
    assert [name for name, _, _ in destination.arrived] == [uid(1, 1, number) for number in range(1, 6)]
    assert destination.arrived[0][2].PixelData == make_ct_instance(1).PixelData
    assert destination.requests[0].MoveOriginatorApplicationEntityTitle == "VIEWER"
    assert destination.requests[0].MoveOriginatorMessageID == 1
    (event,) = Audit(database).events()
    assert (event.action, event.outcome, event.study_instance_uid) == (AuditAction.EXPORT, AuditOutcome.DONE, uid(1))
    assert event.detail == "C-MOVE to dest: 5 of 5 instances taken, 0 failed, 0x0000"


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        (identifier("SERIES", StudyInstanceUID=uid(1), SeriesInstanceUID=uid(1, 2)), [uid(1, 2, 1)]),
        (
            identifier(
                "IMAGE",
                StudyInstanceUID=uid(1),
                SeriesInstanceUID=uid(1, 1),
                SOPInstanceUID=[uid(1, 1, 2), uid(1, 1, 4)],
            ),
            [uid(1, 1, 2), uid(1, 1, 4)],
        ),
        (identifier("STUDY", StudyInstanceUID=[uid(1), uid(9)], PatientID="NOBODY"), None),
    ],
)
def test_each_level_moves_what_it_names(
    database: Database,
    blobs: LocalBlobs,
    receive: Receive,
    destination: Destination,
    asked: Dataset,
    expected: list[str] | None,
) -> None:
    five(receive)
    receive(make_ct_instance(1, study=1, series=2))
    with answering_queries(database, blobs, peers={"dest": destination.peer}) as here:
        final = move(here, asked)[-1]
    assert final.Status == 0x0000
    if expected is not None:
        assert [name for name, _, _ in destination.arrived] == expected


def test_a_patient_is_moved_whole(
    database: Database, blobs: LocalBlobs, receive: Receive, destination: Destination
) -> None:
    receive(make_ct_instance(study=1, PatientID="A"))
    receive(make_ct_instance(study=2, PatientID="A"))
    receive(make_ct_instance(study=3, PatientID="B"))
    with answering_queries(database, blobs, peers={"dest": destination.peer}) as here:
        final = move(here, identifier("PATIENT", PatientID="A"), model=PATIENT_ROOT_MOVE)[-1]
    assert (final.Status, final.NumberOfCompletedSuboperations) == (0x0000, 2)


@pytest.mark.parametrize(
    ("asked", "to", "status"),
    [
        (study(), "NOBODY", 0xA801),
        (identifier("STUDY", StudyInstanceUID=""), "DEST", 0xA900),
        (identifier("SERIES", SeriesInstanceUID=uid(1, 1)), "DEST", 0xA900),
        (identifier("PATIENT", PatientID="*"), "DEST", 0xA900),
        (identifier("STUDY", StudyInstanceUID="no uid"), "DEST", 0xC000),
        (identifier("STUDY", StudyInstanceUID=uid(7)), "DEST", 0x0000),
    ],
)
@pytest.mark.filterwarnings("ignore:.*alue.*:UserWarning")
def test_what_cannot_be_moved_is_said(
    database: Database,
    blobs: LocalBlobs,
    receive: Receive,
    destination: Destination,
    asked: Dataset,
    to: str,
    status: int,
) -> None:
    five(receive)
    with answering_queries(database, blobs, peers={"dest": destination.peer}) as here:
        assert [answer.Status for answer in move(here, asked, to=to)] == [status]
    assert destination.arrived == []


def test_failures_and_warnings_are_counted_and_the_failed_are_listed(
    database: Database, blobs: LocalBlobs, receive: Receive
) -> None:
    five(receive)
    sparse = Destination(answer=lambda number: {2: 0xA900, 3: 0xB000}.get(number, 0))
    with answering_queries(database, blobs, peers={"dest": sparse.peer}) as here:
        final = move(here, study())[-1]
    sparse.close()
    assert final.Status == 0xB000
    counts = (
        final.NumberOfCompletedSuboperations,
        final.NumberOfFailedSuboperations,
        final.NumberOfWarningSuboperations,
    )
    assert counts == (3, 1, 1)
    assert final.failed == [uid(1, 1, 2)]


def test_a_move_of_which_nothing_succeeds_is_refused_with_the_whole_list(
    database: Database, blobs: LocalBlobs, receive: Receive
) -> None:
    five(receive)
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        gone = Peer(ae_title="DEST", host="127.0.0.1", port=nobody.getsockname()[1])
        with answering_queries(database, blobs, peers={"dest": gone}) as here:
            final = move(here, study())[-1]
    assert (final.Status, final.NumberOfFailedSuboperations) == (0xA702, 5)
    assert len(final.failed) == 5
    assert Audit(database).events()[0].outcome is AuditOutcome.FAILED


def test_a_missing_file_fails_alone(
    database: Database, blobs: LocalBlobs, receive: Receive, destination: Destination
) -> None:
    kept = [receive(make_ct_instance(number, study=1)) for number in (1, 2, 3)]
    blobs.delete(kept[1].path)
    with answering_queries(database, blobs, peers={"dest": destination.peer}) as here:
        final = move(here, study())[-1]
    assert (final.Status, final.NumberOfCompletedSuboperations, final.failed) == (0xB000, 2, [uid(1, 1, 2)])


@pytest.mark.parametrize(
    ("kept_in", "taken"), [(EXPLICIT, IMPLICIT), (ImplicitVRLittleEndian, EXPLICIT), (ExplicitVRBigEndian, IMPLICIT)]
)
def test_an_instance_is_encoded_anew_where_the_destination_does_not_take_its_syntax(
    database: Database, blobs: LocalBlobs, intake: Intake, kept_in: str, taken: str
) -> None:
    intake.receive(BytesIO(in_syntax(make_ct_instance(1, study=1), kept_in)), SENDER)
    narrow = Destination(syntaxes=(taken,))
    with answering_queries(database, blobs, peers={"dest": narrow.peer}) as here:
        final = move(here, study())[-1]
    narrow.close()
    assert final.Status == 0x0000
    ((_, syntax, dataset),) = narrow.arrived
    assert syntax == taken
    expected = make_ct_instance(1, study=1)
    assert dataset.PixelData == expected.PixelData
    del dataset.PixelData, expected.PixelData
    assert dataset == expected


def test_a_compressed_instance_is_decompressed_where_the_destination_takes_no_other(
    database: Database, blobs: LocalBlobs, intake: Intake
) -> None:
    compressed = make_ct_instance(1, study=1)
    encode(compressed)
    compressed.compress(RLELossless, generate_instance_uid=False)
    intake.receive(BytesIO(encode(compressed, RLELossless)), SENDER)
    narrow = Destination(syntaxes=(IMPLICIT,))
    with (
        PixelProcess(children=1) as pixels,
        answering_queries(database, blobs, peers={"dest": narrow.peer}, transcoder=PixelTranscoder(pixels)) as here,
    ):
        final = move(here, study())[-1]
    narrow.close()
    assert final.Status == 0x0000
    ((_, syntax, dataset),) = narrow.arrived
    assert (syntax, dataset.PixelData) == (IMPLICIT, make_ct_instance(1).PixelData)


@pytest.mark.parametrize(
    ("failure", "status"), [(IndexUnavailable, 0xA701), (ZeroDivisionError, 0x0110)], ids=["no index", "our fault"]
)
def test_a_retrieval_that_cannot_be_looked_up_is_refused(
    database: Database,
    blobs: LocalBlobs,
    destination: Destination,
    monkeypatch: pytest.MonkeyPatch,
    failure: type[Exception],
    status: int,
) -> None:
    def fail(*_: object) -> None:
        raise failure

    monkeypatch.setattr(Index, "instances_matching", fail)
    with answering_queries(database, blobs, peers={"dest": destination.peer}) as here:
        assert [answer.Status for answer in move(here, study())] == [status]


def test_more_instances_than_can_be_counted_are_refused(
    database: Database, blobs: LocalBlobs, receive: Receive, destination: Destination, monkeypatch: pytest.MonkeyPatch
) -> None:
    five(receive)
    monkeypatch.setattr(retrieve, "MOST_SUB_OPERATIONS", 4)
    with answering_queries(database, blobs, peers={"dest": destination.peer}) as here:
        assert [answer.Status for answer in move(here, study())] == [0xA701]
    assert destination.arrived == []


def test_a_move_under_another_class_than_its_context_is_refused(
    database: Database, blobs: LocalBlobs, destination: Destination
) -> None:
    with (
        answering_queries(database, blobs, peers={"dest": destination.peer}) as here,
        asking(here.port, STUDY_ROOT_MOVE) as association,
    ):
        request = C_MOVE()
        request.MessageID, request.Priority, request.MoveDestination = 1, 2, "DEST"
        request.AffectedSOPClassUID = PATIENT_ROOT_MOVE
        request.Identifier = BytesIO(b"\x08\x00\x52\x00CS\x06\x00STUDY ")
        association._reactor_checkpoint.clear()
        association.dimse.send_msg(request, association.accepted_contexts[0].context_id)
        _, answer = association.dimse.get_msg(block=True)
        association._reactor_checkpoint.set()
    assert answer.Status == 0x0122


def test_a_move_is_cancelled_between_instances(database: Database, blobs: LocalBlobs, receive: Receive) -> None:
    five(receive)
    reached, go_on = threading.Event(), threading.Event()

    def answer(_: int) -> int:
        reached.set()
        go_on.wait(10)
        return 0

    slow = Destination(answer=answer)
    with (
        answering_queries(database, blobs, peers={"dest": slow.peer}) as here,
        asking(here.port, STUDY_ROOT_MOVE) as association,
    ):
        answers = association.send_c_move(study(), "DEST", STUDY_ROOT_MOVE, msg_id=5)
        statuses = [next(answers)[0]]
        assert reached.wait(10)
        association.send_c_cancel(5, query_model=STUDY_ROOT_MOVE)
        time.sleep(2.5)  # two looks of the receiver
        go_on.set()
        statuses += [status for status, _ in answers]
    slow.close()
    final = statuses[-1]
    assert final.Status == 0xFE00
    assert (final.NumberOfCompletedSuboperations, final.NumberOfRemainingSuboperations) == (1, 4)
    assert len(slow.arrived) == 1


def test_pending_responses_come_while_one_instance_takes_long(
    database: Database, blobs: LocalBlobs, receive: Receive
) -> None:
    receive(make_ct_instance(1, study=1))
    slow = Destination(answer=lambda _: time.sleep(2.6) or 0)
    with answering_queries(database, blobs, peers={"dest": slow.peer}) as here:
        answers = move(here, study())
    slow.close()
    assert [answer.Status for answer in answers] == [0xFF00, 0xFF00, 0xFF00, 0x0000]


@contextlib.contextmanager
def getting(
    port: int, arrived: list[tuple[str, str, Dataset]], *, syntaxes: tuple[str, ...] = (EXPLICIT,), answer: int = 0
) -> Iterator[Any]:
    """Have an association for C-GET, by pynetdicom alone."""

    def on_store(event: Event) -> int:
        dataset = event.dataset
        dataset.decode()
        arrived.append((str(event.request.AffectedSOPInstanceUID), str(event.context.transfer_syntax), dataset))
        return answer

    entity = application_entity("VIEWER")
    entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = 20
    wishes = [build_context(STUDY_ROOT_GET, [EXPLICIT]), build_context(CT_IMAGE_STORAGE, list(syntaxes))]
    association = entity.associate(
        "127.0.0.1",
        port,
        contexts=wishes,
        ae_title="DICOMNODE",
        ext_neg=[build_role(CT_IMAGE_STORAGE, scp_role=True)],
        evt_handlers=[(evt.EVT_C_STORE, on_store)],
    )
    assert association.is_established
    try:
        yield association
    finally:
        if association.is_established:
            association.release()


def test_a_study_comes_over_the_requestor_s_own_association(
    database: Database, blobs: LocalBlobs, receive: Receive
) -> None:
    five(receive)
    arrived: list[tuple[str, str, Dataset]] = []
    with answering_queries(database, blobs) as here, getting(here.port, arrived) as association:
        answers = [status for status, _ in association.send_c_get(study(), STUDY_ROOT_GET)]
    assert answers[-1].Status == 0x0000
    assert answers[-1].NumberOfCompletedSuboperations == 5
    assert [name for name, _, _ in arrived] == [uid(1, 1, number) for number in range(1, 6)]
    assert arrived[0][2].PixelData == make_ct_instance(1).PixelData
    assert Audit(database).events()[0].detail == "C-GET: 5 of 5 instances taken, 0 failed, 0x0000"


def test_an_instance_without_a_context_fails_in_a_get(database: Database, blobs: LocalBlobs, receive: Receive) -> None:
    receive(make_ct_instance(1, study=1))
    receive(make_ct_instance(2, study=1, series=2, SOPClassUID="1.2.840.10008.5.1.4.1.1.4", Modality="MR"))
    arrived: list[tuple[str, str, Dataset]] = []
    with answering_queries(database, blobs) as here, getting(here.port, arrived, syntaxes=(IMPLICIT,)) as association:
        answers = list(association.send_c_get(study(), STUDY_ROOT_GET))
    status, found = answers[-1]
    assert (status.Status, status.NumberOfCompletedSuboperations, status.NumberOfFailedSuboperations) == (0xB000, 1, 1)
    assert found.FailedSOPInstanceUIDList == uid(1, 2, 2)
    assert [syntax for _, syntax, _ in arrived] == [IMPLICIT]


def test_a_get_that_the_requestor_refuses_is_refused(database: Database, blobs: LocalBlobs, receive: Receive) -> None:
    five(receive)
    with answering_queries(database, blobs) as here, getting(here.port, [], answer=0xA700) as association:
        status, found = list(association.send_c_get(study(), STUDY_ROOT_GET))[-1]
    assert (status.Status, status.NumberOfFailedSuboperations) == (0xA702, 5)
    assert len(found.FailedSOPInstanceUIDList) == 5


def test_an_association_that_is_gone_ends_a_get(database: Database, blobs: LocalBlobs, receive: Receive) -> None:
    five(receive)
    with answering_queries(database, blobs) as here:
        arrived: list[tuple[str, str, Dataset]] = []
        with getting(here.port, arrived) as association:
            answers = association.send_c_get(study(), STUDY_ROOT_GET)
            next(answers)
            association.abort()
        deadline = time.monotonic() + 10
        while not Audit(database).events():
            assert time.monotonic() < deadline
            time.sleep(0.05)


@pytest.mark.skipif(not Path(MOVESCU).exists(), reason="DCMTK is not installed")
def test_dcmtk_moves_and_gets(
    database: Database, blobs: LocalBlobs, receive: Receive, destination: Destination, tmp_path: Path
) -> None:
    five(receive)
    got_here = tmp_path / "got"
    got_here.mkdir()
    keys = ["-k", "QueryRetrieveLevel=STUDY", "-k", f"StudyInstanceUID={uid(1)}"]
    with answering_queries(database, blobs, peers={"dest": destination.peer}) as here:
        to = ["-aec", "DICOMNODE", "127.0.0.1", str(here.port)]
        moved = subprocess.run([MOVESCU, "-S", "-aem", "DEST", *keys, *to], capture_output=True, text=True, check=False)
        got = subprocess.run(
            [GETSCU, "-S", "-od", str(got_here), *keys, *to], capture_output=True, text=True, check=False
        )
    assert moved.returncode == 0, moved.stderr
    assert len(destination.arrived) == 5
    assert got.returncode == 0, got.stderr
    assert sorted(str(dcmread(path).SOPInstanceUID) for path in got_here.iterdir()) == [
        uid(1, 1, number) for number in range(1, 6)
    ]
