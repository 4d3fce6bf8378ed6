"""C-FIND over a real index, asked by independent peers."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path

import pytest
from pydicom import Dataset, dcmread
from pynetdicom.dimse_primitives import C_FIND

from dicom_node.scp import find as find_module
from storage.audit import Audit, AuditAction
from storage.blobs import LocalBlobs
from storage.database import Database
from storage.errors import IndexUnavailable
from storage.index import Index
from storage.matching import Level, Query
from storage.records import Kept, StudyFilter
from storage.search import SearchAnswer
from tests.builders.ct import make_ct_instance, uid
from tests.builders.dimse import IMPLICIT, Listening
from tests.builders.queries import PATIENT_ROOT_FIND, STUDY_ROOT_FIND, answering_queries, asking, find, identifier

Receive = Callable[..., Kept]
FINDSCU = "/usr/bin/findscu"


@pytest.fixture
def here(database: Database, blobs: LocalBlobs, receive: Receive) -> Iterator[Listening]:
    """A receiver over three studies of two patients; study 2 has two series."""
    receive(make_ct_instance(study=1, PatientName="Müller^Jörg", PatientID="A", StudyDate="20260101"))
    receive(make_ct_instance(study=2, PatientName="Müller^Jörg", PatientID="A", StudyDate="20260102"))
    receive(make_ct_instance(2, study=2, series=2, PatientName="Müller^Jörg", PatientID="A", Modality="SC"))
    receive(
        make_ct_instance(
            study=3, PatientName="Yamada^Tarou=山田^太郎", PatientID="B", StudyDate="20260103", StudyTime="090000"
        )
    )
    with answering_queries(database, blobs) as listening:
        yield listening


def test_studies_are_found_with_what_was_asked_for(here: Listening) -> None:
    found, statuses = find(
        here,
        identifier("STUDY", PatientID="A", StudyInstanceUID="", ModalitiesInStudy="", NumberOfStudyRelatedSeries=""),
    )
    assert statuses == [0xFF00, 0xFF00, 0x0000]
    assert [answer.StudyInstanceUID for answer in found] == [uid(2), uid(1)]
    assert found[0].ModalitiesInStudy == ["CT", "SC"]
    assert found[0].NumberOfStudyRelatedSeries == 2
    assert found[0].QueryRetrieveLevel == "STUDY"
    assert found[0].RetrieveAETitle == "DICOMNODE"
    assert "StudyDate" not in found[0]


def test_patients_are_found_once_each(here: Listening) -> None:
    asked = identifier("PATIENT", PatientID="*", PatientName="", NumberOfPatientRelatedStudies="")
    found, statuses = find(here, asked, sop_class=PATIENT_ROOT_FIND)
    assert statuses == [0xFF00, 0xFF00, 0x0000]
    assert [(answer.PatientID, answer.NumberOfPatientRelatedStudies) for answer in found] == [("A", 2), ("B", 1)]


def test_series_and_images_are_found_below_their_unique_keys(here: Listening) -> None:
    series, _ = find(here, identifier("SERIES", StudyInstanceUID=uid(2), SeriesInstanceUID="", Modality=""))
    assert [(answer.SeriesInstanceUID, answer.Modality) for answer in series] == [(uid(2, 1), "CT"), (uid(2, 2), "SC")]
    images, _ = find(
        here,
        identifier("IMAGE", StudyInstanceUID=uid(2), SeriesInstanceUID=uid(2, 2), SOPInstanceUID="", InstanceNumber=""),
    )
    assert [(answer.SOPInstanceUID, answer.InstanceNumber) for answer in images] == [(uid(2, 2, 2), 2)]
    of_patient, _ = find(
        here, identifier("STUDY", PatientID="B", StudyInstanceUID=""), sop_class=PATIENT_ROOT_FIND, syntax=IMPLICIT
    )
    assert [answer.StudyInstanceUID for answer in of_patient] == [uid(3)]


def test_an_identifier_is_read_in_its_character_set_and_answered_in_it(here: Listening) -> None:
    asked = identifier("STUDY", SpecificCharacterSet="ISO_IR 100", PatientName="MÜLLER*", StudyInstanceUID="")
    found, _ = find(here, asked)
    assert [answer.StudyInstanceUID for answer in found] == [uid(2), uid(1)]
    assert found[0].SpecificCharacterSet == "ISO_IR 100"
    assert str(found[0].PatientName) == "Müller^Jörg"


def test_an_answer_goes_in_a_set_that_holds_it_where_the_requested_one_does_not(here: Listening) -> None:
    asked = identifier("STUDY", SpecificCharacterSet="ISO_IR 100", PatientID="B", PatientName="")
    found, _ = find(here, asked)
    assert found[0].SpecificCharacterSet == "ISO_IR 192"
    assert found[0].PatientName.ideographic == "山田^太郎"
    japanese = identifier("STUDY", PatientID="B", PatientName="")
    japanese.SpecificCharacterSet = ["", "ISO 2022 IR 87"]
    found, _ = find(here, japanese)
    assert list(found[0].SpecificCharacterSet) == ["", "ISO 2022 IR 87"]
    assert found[0].PatientName.ideographic == "山田^太郎"


def test_an_unsupported_key_is_not_returned_and_said_by_the_pending_status(here: Listening) -> None:
    found, statuses = find(here, identifier("STUDY", PatientID="B", StudyInstanceUID="", PatientComments="x"))
    assert statuses == [0xFF01, 0x0000]
    assert "PatientComments" not in found[0]


def test_a_supported_key_without_a_value_is_returned_empty(here: Listening) -> None:
    found, statuses = find(here, identifier("STUDY", PatientID="B", ReferringPhysicianName=""))
    assert statuses == [0xFF00, 0x0000]
    assert found[0]["ReferringPhysicianName"].is_empty


@pytest.mark.parametrize(
    ("asked", "sop_class", "status"),
    [
        (identifier("STUDY", StudyInstanceUID=""), PATIENT_ROOT_FIND, 0xA900),
        (identifier("SERIES", SeriesInstanceUID=""), STUDY_ROOT_FIND, 0xA900),
        (identifier("SERIES", StudyInstanceUID=f"{uid(1)}\\{uid(2)}"), STUDY_ROOT_FIND, 0xA900),
        (identifier("IMAGE", StudyInstanceUID=uid(1), SeriesInstanceUID="*"), STUDY_ROOT_FIND, 0xA900),
        (identifier("PATIENT", PatientID="A"), STUDY_ROOT_FIND, 0xA900),
        (identifier("FRAME", PatientID="A"), STUDY_ROOT_FIND, 0xA900),
        (Dataset(), STUDY_ROOT_FIND, 0xA900),
        (identifier("STUDY", StudyDate="yesterday"), STUDY_ROOT_FIND, 0xC000),
        (identifier("STUDY", StudyInstanceUID="no uid"), STUDY_ROOT_FIND, 0xC000),
        (identifier("STUDY", RequestAttributesSequence=[Dataset(), Dataset()]), STUDY_ROOT_FIND, 0xA900),
    ],
)
@pytest.mark.filterwarnings("ignore:.*alue.*:UserWarning")
def test_an_identifier_that_does_not_fit_is_refused(
    here: Listening, asked: Dataset, sop_class: str, status: int
) -> None:
    if not len(asked):
        asked.PatientID = "A"  # no level at all
    found, statuses = find(here, asked, sop_class=sop_class)
    assert (found, statuses) == ([], [status])


def test_a_refusal_says_which_attribute_is_at_fault(here: Listening) -> None:
    with asking(here.port, STUDY_ROOT_FIND) as association:
        (status, _), *_ = association.send_c_find(identifier("SERIES", SeriesInstanceUID=""), STUDY_ROOT_FIND)
    assert status.Status == 0xA900
    assert status.OffendingElement == 0x0020000D
    assert "StudyInstanceUID" in status.ErrorComment


def test_a_request_for_another_class_than_its_context_is_refused(here: Listening) -> None:
    with asking(here.port, STUDY_ROOT_FIND) as association:
        request = C_FIND()
        request.MessageID, request.Priority = 1, 2
        request.AffectedSOPClassUID = PATIENT_ROOT_FIND
        request.Identifier = BytesIO(b"\x08\x00\x52\x00CS\x06\x00STUDY ")
        association._reactor_checkpoint.clear()
        association.dimse.send_msg(request, association.accepted_contexts[0].context_id)
        _, answer = association.dimse.get_msg(block=True)
        association._reactor_checkpoint.set()
    assert answer.Status == 0x0122


def test_bytes_that_are_no_identifier_are_refused(here: Listening) -> None:
    with asking(here.port, STUDY_ROOT_FIND) as association:
        request = C_FIND()
        request.MessageID, request.Priority = 1, 2
        request.AffectedSOPClassUID = STUDY_ROOT_FIND
        request.Identifier = BytesIO(b"\x08\x00\x52\x00CS\xff\x00STUDY ")
        association._reactor_checkpoint.clear()
        association.dimse.send_msg(request, association.accepted_contexts[0].context_id)
        _, answer = association.dimse.get_msg(block=True)
        association._reactor_checkpoint.set()
    assert answer.Status == 0xC000


def test_relational_queries_and_combined_times_hold_where_they_were_negotiated(here: Listening) -> None:
    asked = identifier("SERIES", PatientID="A", SeriesInstanceUID="")
    found, _ = find(here, asked, extended=b"\x01")
    assert len(found) == 3
    window = identifier("STUDY", StudyDate="20260101-20260103", StudyTime="100000-090000", StudyInstanceUID="")
    combined, _ = find(here, window, extended=b"\x00\x01")
    assert [answer.StudyInstanceUID for answer in combined] == [uid(3), uid(2), uid(1)]
    apart, _ = find(here, window)
    assert apart == []


def test_fuzzy_matching_holds_where_it_was_negotiated(here: Listening) -> None:
    asked = identifier("STUDY", PatientName="tar yam", StudyInstanceUID="")
    assert find(here, asked)[0] == []
    assert len(find(here, asked, extended=b"\x00\x00\x01")[0]) == 1


def test_a_sequence_key_matches_inside_items(here: Listening, receive: Receive) -> None:
    item = Dataset()
    item.ScheduledProcedureStepID = "SPS7"
    receive(make_ct_instance(1, study=4, RequestAttributesSequence=[item]))
    wanted = Dataset()
    wanted.ScheduledProcedureStepID = "SPS*"
    asked = identifier("SERIES", StudyInstanceUID=uid(4), SeriesInstanceUID="", RequestAttributesSequence=[wanted])
    found, _ = find(here, asked)
    assert found[0].RequestAttributesSequence[0].ScheduledProcedureStepID == "SPS7"
    wanted.ScheduledProcedureStepID = "X*"
    assert find(here, asked)[0] == []


def test_a_cancel_ends_the_answers(here: Listening, monkeypatch: pytest.MonkeyPatch) -> None:
    search, asked_again, go_on = Index.search, threading.Event(), threading.Event()

    def slowly(index: Index, level: Level, query: Query, visible: StudyFilter) -> SearchAnswer:
        if query.offset:
            asked_again.set()
            go_on.wait(10)
        return search(index, level, query, visible)

    monkeypatch.setattr(Index, "search", slowly)
    monkeypatch.setattr(find_module, "_FIRST_PAGE", 1)
    with asking(here.port, STUDY_ROOT_FIND) as association:
        answers = association.send_c_find(identifier("STUDY", StudyInstanceUID=""), STUDY_ROOT_FIND, msg_id=7)
        statuses = [next(answers)[0].Status]
        assert asked_again.wait(10)
        association.send_c_cancel(7, query_model=STUDY_ROOT_FIND)
        time.sleep(1)
        go_on.set()
        statuses += [status.Status for status, _ in answers]
    assert statuses == [0xFF00, 0xFE00]


def test_a_query_with_too_many_matches_says_so(here: Listening, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(find_module, "MOST_MATCHES", 2)
    assert find(here, identifier("STUDY", StudyInstanceUID=""))[1] == [0xFF00, 0xFF00, 0xA700]


def test_many_pages_give_each_match_once(here: Listening, receive: Receive) -> None:
    for number in range(10, 40):
        receive(make_ct_instance(study=number))
    found, statuses = find(here, identifier("STUDY", StudyInstanceUID=""))
    assert len({answer.StudyInstanceUID for answer in found}) == len(found) == 33
    assert statuses[-1] == 0x0000


def test_an_error_of_ours_is_a_processing_failure(here: Listening, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(Index, "search", fail)
    assert find(here, identifier("STUDY", StudyInstanceUID=""))[1] == [0x0110]


def test_a_database_that_does_not_answer_is_out_of_resources(
    here: Listening, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise IndexUnavailable

    monkeypatch.setattr(Index, "search", fail)
    assert find(here, identifier("STUDY", StudyInstanceUID=""))[1] == [0xA700]


def test_a_query_is_audited_without_its_values(here: Listening, database: Database) -> None:
    find(here, identifier("STUDY", PatientID="A", StudyInstanceUID=uid(1)))
    (event,) = Audit(database).events()
    assert (event.action, event.actor, event.study_instance_uid) == (AuditAction.ACCESS, "loopback (VIEWER)", uid(1))
    assert event.detail == "C-FIND STUDY: 1 matches, 0x0000; keys: PatientID StudyInstanceUID"


@pytest.mark.skipif(not Path(FINDSCU).exists(), reason="DCMTK is not installed")
def test_dcmtk_finds_what_is_kept(here: Listening, tmp_path: Path) -> None:
    command = [FINDSCU, "-S", "-X", "-od", str(tmp_path), "-aec", "DICOMNODE", "127.0.0.1", str(here.port)]
    keys = ["QueryRetrieveLevel=STUDY", "PatientID=B", "PatientName", "StudyInstanceUID", "StudyDate"]
    done = subprocess.run(
        [*command, *(word for key in keys for word in ("-k", key))], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    (answer,) = [dcmread(path, force=True) for path in sorted(tmp_path.glob("rsp*"))]
    assert (answer.StudyInstanceUID, answer.StudyDate) == (uid(3), "20260103")
    assert answer.PatientName.ideographic == "山田^太郎"
