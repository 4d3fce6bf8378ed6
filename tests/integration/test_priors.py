"""Earlier studies fetched from real peers: Orthanc over DIMSE and DICOMweb, this node's own DICOMweb, failing ones."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from pydicom import Dataset
from pydicom.sequence import Sequence as Items

from configs.peers import Peer
from configs.routes import Priority
from configs.settings import Settings
from dicom_node.worker.prior_sources import source_of
from dicom_node.worker.priors import PriorParts, fetch_priors
from dicom_node.worker.worklist import WorklistLookup, WorklistParts
from storage.blobs import LocalBlobs
from storage.database import Database
from storage.errors import NotKept
from storage.index import Index
from storage.intake import Intake
from storage.jobs import prepare_queue
from storage.prior_book import PriorBook, PriorFetch, PriorState, ask_for_priors
from storage.records import Origin, OriginKind, WantedPriors
from storage.urgency import Priorities
from tests.builders.ct import encode, make_ct_instance, uid
from tests.builders.dimse import a_peer, listening
from tests.builders.orthanc import DICOMWEB, MISSING, PROGRAM, WORKLISTS, Orthanc, orthanc, two_ports
from tests.builders.serving import served
from tests.builders.studies import make_peer
from tests.builders.web import PaperWeb

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
WANTED = '{"from": ["pacs"], "modalities": ["CT"], "studies": 2}'
CT1 = Origin(OriginKind.DIMSE, peer="ct1", calling_ae_title="CT1", called_ae_title="DICOMNODE", host="127.0.0.1")

#: What the archive has: two earlier CTs of the patient, an MR, one of somebody else with a longer ID, and the study.
PRIORS = [
    *(make_ct_instance(number, study=2, StudyDate="20250601") for number in (1, 2, 3)),
    *(make_ct_instance(number, study=3, StudyDate="20250101") for number in (1, 2)),
    make_ct_instance(1, study=4, StudyDate="20250701", Modality="MR"),
    make_ct_instance(1, study=5, StudyDate="20250801", PatientID="TEST-10"),
    make_ct_instance(1, study=1),
]


@dataclass
class Here:
    """The node that fetches."""

    database: Database
    blobs: LocalBlobs
    intake: Intake
    peers: dict[str, Peer] = field(default_factory=dict)

    def receive(self, dataset: Dataset) -> None:
        self.intake.receive(BytesIO(encode(dataset)), CT1)

    def instances_of(self, study: int) -> int:
        return len(Index(self.database).instances_of(uid(study)))

    def is_here(self, sop_instance_uid: str) -> bool:
        try:
            Index(self.database).instance(sop_instance_uid)
        except NotKept:
            return False
        return True

    def ask(self) -> PriorFetch:
        """Ask for the priors of study 1, and fetch them; give what the request came to."""
        book = PriorBook(self.database)
        with self.database.write() as connection:
            ask_for_priors(connection, uid(1), WantedPriors("chest-ct", WANTED), NOW)
        parts = PriorParts(
            book=book,
            index=Index(self.database),
            blobs=self.blobs,
            peers=self.peers,
            source=lambda name, peer: source_of(
                name, peer, calling_ae_title="DICOMNODE", intake=self.intake, is_here=self.is_here
            ),
            now=lambda: NOW,
        )
        (fetch,) = book.of_study(uid(1))
        fetch_priors(fetch, parts)
        return book.of_study(uid(1))[0]


@pytest.fixture
def here(sqlite_database: Database, blobs: LocalBlobs) -> Iterator[Here]:
    """A node that keeps study 1 and one of three images of the prior of June."""
    intake = Intake(sqlite_database, blobs, reserve_bytes=0)
    made = Here(sqlite_database, blobs, intake)
    made.receive(make_ct_instance(1, study=1, StudyDate="20260102"))
    yield made
    intake.close()


@contextmanager
def pacs_of(here: Here, folder: Path, *, by: str) -> Iterator[Orthanc]:
    """Start Orthanc with the archive's studies, and a receiver that it may send to."""
    if PROGRAM is None:
        pytest.skip(MISSING)
    with ExitStack() as stack:
        peers = {"pacs": a_peer(ae_title="ORTHANC")}
        receiver = stack.enter_context(listening(peers=peers, door=here.intake))
        known = {"NODE": ["DICOMNODE", "127.0.0.1", receiver.port]}
        started = stack.enter_context(orthanc(folder, two_ports(), known, dicomweb=by == "dicomweb"))
        for each in PRIORS:
            started.post_file(encode(each))
        fetch: dict[str, Any] = {"by": by}
        if by == "dicomweb":
            fetch["url"] = started.dicomweb_url
        here.peers["pacs"] = make_peer(
            ae_title="ORTHANC", host="127.0.0.1", port=started.dicom_port, ask=["priors"], fetch=fetch
        )
        yield started


@pytest.mark.parametrize("by", ["move", "get", "dicomweb"])
def test_orthanc_gives_the_earlier_studies_of_the_patient_and_no_others(here: Here, tmp_path: Path, by: str) -> None:
    if by == "dicomweb" and not DICOMWEB.exists():
        pytest.skip("the DICOMweb plugin of Orthanc is not installed")
    with pacs_of(here, tmp_path / "orthanc", by=by):
        fetch = here.ask()
        assert (fetch.state, fetch.reason) == (PriorState.DONE, "2 earlier studies, 2 series fetched.")
        assert [here.instances_of(study) for study in (1, 2, 3, 4, 5)] == [1, 3, 2, 0, 0]
        for study in (2, 3):
            prior = PriorBook(here.database).fetched(uid(study))
            assert prior is not None
            assert (prior.for_study, prior.peer) == (uid(1), "pacs")
        # Asked again, nothing comes again.
        again = here.ask()
    assert again.reason == "0 earlier studies, 0 series fetched. 2 studies are here already."
    assert [here.instances_of(study) for study in (2, 3)] == [3, 2]


def test_a_study_that_somebody_sent_is_no_fetched_one(here: Here, tmp_path: Path) -> None:
    here.receive(make_ct_instance(1, study=3, StudyDate="20250101"))
    for number in (1, 2, 3):
        here.receive(make_ct_instance(number, study=2, StudyDate="20250601"))
    with pacs_of(here, tmp_path / "orthanc", by="get"):
        here.ask()
    assert PriorBook(here.database).fetched(uid(2)) is None
    assert PriorBook(here.database).fetched(uid(3)) is None


def test_another_node_of_this_kind_gives_them_over_dicomweb(here: Here, tmp_path: Path, sqlite_template: Path) -> None:
    path = tmp_path / "other.db"
    path.write_bytes(sqlite_template.read_bytes())
    database = Database(f"sqlite:///{path}")
    prepare_queue(database.url)
    other = PaperWeb(database, LocalBlobs(tmp_path / "other"), Settings.model_validate({"disk": {"reserve_mb": 0}}))
    for each in PRIORS:
        other.receive(each)
    try:
        with served(other.app) as address:
            here.peers["pacs"] = make_peer(ask=["priors"], fetch={"by": "dicomweb", "url": f"{address}/dicom-web"})
            fetch = here.ask()
    finally:
        other.close()
        database.close()
    assert (fetch.state, fetch.reason) == (PriorState.DONE, "2 earlier studies, 2 series fetched.")
    assert [here.instances_of(study) for study in (1, 2, 3, 4, 5)] == [1, 3, 2, 0, 0]


Answer = tuple[int, str, bytes]


@contextmanager
def answering(answers: Mapping[str, Answer]) -> Iterator[str]:
    """Serve these answers by the end of the path; anything else is 404."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            status, kind, content = next(
                (said for end, said in answers.items() if path.endswith(end)), (404, "text/plain", b"")
            )
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join(10)
        server.server_close()


JSON = "application/dicom+json"
STUDIES = (
    b'[{"0020000D":{"vr":"UI","Value":["1.2.3"]},"00100020":{"vr":"LO","Value":["TEST-1"]},'
    b'"00080020":{"vr":"DA","Value":["20250101"]},"00080061":{"vr":"CS","Value":["CT"]}}]'
)
SERIES = b'[{"0020000E":{"vr":"UI","Value":["1.2.3.1"]},"00080060":{"vr":"CS","Value":["CT"]}}]'
INSTANCES = b'[{"00080018":{"vr":"UI","Value":["1.2.3.1.1"]}}]'
FOUND = {"/studies": (200, JSON, STUDIES), "/series": (200, JSON, SERIES), "/instances": (200, JSON, INSTANCES)}


@pytest.mark.parametrize(
    ("answers", "why"),
    [
        ({}, "answered 404"),
        ({"/studies": (302, "text/plain", b"")}, "answered 302"),
        ({"/studies": (200, JSON, b"<html>")}, "what is no JSON"),
        ({"/studies": (200, JSON, b'{"a": 1}')}, "what is no DICOM JSON"),
        ({**FOUND, "/1.2.3.1.1": (500, "text/plain", b"")}, "answered 500"),
        ({**FOUND, "/1.2.3.1.1": (200, "application/dicom", b"no DICOM")}, "is no DICOM"),
        ({**FOUND, "/1.2.3.1.1": (200, "multipart/related; boundary=x", b"--x--")}, "0 instances in place of one"),
        ({**FOUND, "/1.2.3.1.1": (200, "multipart/related; boundary=x", b"--x\r\n\r\nhalf")}, "what is no instance"),
    ],
    ids=["nothing", "redirect", "no json", "no list", "error", "no dicom", "empty", "half"],
)
def test_a_service_that_fails_is_asked_again_later(here: Here, answers: dict[str, Answer], why: str) -> None:
    with answering(answers) as url:
        here.peers["pacs"] = make_peer(ask=["priors"], fetch={"by": "dicomweb", "url": url})
        fetch = here.ask()
    assert fetch.state is PriorState.WAITING
    assert fetch.attempts == 1
    assert fetch.next_attempt_at > NOW
    assert why in fetch.reason
    assert here.instances_of(1) == 1


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # pynetdicom's unconnected socket
def test_a_peer_that_is_away_or_not_listed_is_asked_again_later(here: Here) -> None:
    here.peers["pacs"] = make_peer(host="127.0.0.1", port=1, ask=["priors"])
    assert "cannot be reached" in here.ask().reason
    del here.peers["pacs"]
    fetch = here.ask()
    assert "pacs is no peer that may be asked for priors." in fetch.reason
    assert (fetch.state, fetch.attempts) == (PriorState.WAITING, 2)


def test_without_a_patient_id_nobody_is_asked(here: Here) -> None:
    with here.database.write() as connection:
        connection.exec_driver_sql("UPDATE studies SET patient_id = ' '")
    fetch = here.ask()
    assert (fetch.state, fetch.reason) == (PriorState.FAILED, "The study has no Patient ID to ask for.")


def order(accession: str, priority: str) -> bytes:
    """Make one order as a worklist file."""
    step = Dataset()
    step.Modality, step.ScheduledProcedureStepStartDate, step.ScheduledStationAETitle = "CT", "20260102", "CT1"
    made = Dataset()
    made.SOPClassUID, made.SOPInstanceUID = "1.2.840.10008.5.1.4.31", uid(99)
    made.PatientName, made.PatientID, made.AccessionNumber = "Test^Quiet", "TEST-1", accession
    made.StudyInstanceUID, made.RequestedProcedurePriority = uid(1), priority
    made.ScheduledProcedureStepSequence = Items([step])
    return encode(made)


@pytest.mark.parametrize(("word", "priority"), [("STAT", Priority.STAT), ("LOW", Priority.LOW)])
def test_a_worklist_says_how_urgent_an_order_is(here: Here, tmp_path: Path, word: str, priority: Priority) -> None:
    if PROGRAM is None or not WORKLISTS.exists():
        pytest.skip(MISSING)
    orders = tmp_path / "orders"
    orders.mkdir()
    (orders / "a.wl").write_bytes(order("ACC1", word))
    (orders / "b.wl").write_bytes(order("ACC10", "STAT"))
    with orthanc(tmp_path / "orthanc", two_ports(), {"NODE": ["DICOMNODE", "127.0.0.1", 1]}, worklist=orders) as ris:
        here.peers["ris"] = make_peer(ae_title="ORTHANC", host="127.0.0.1", port=ris.dicom_port, ask=["worklist"])
        priorities = Priorities(here.database)
        parts = WorklistParts(Index(here.database), here.peers, priorities, "DICOMNODE", lambda: NOW)
        WorklistLookup(parts).look(threading.Event())
    assert priorities.of(uid(1)) == {"worklist:ris": priority}


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # pynetdicom's unconnected socket
def test_a_worklist_that_is_away_is_asked_three_times(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []

    def find(peer: Peer, **_: object) -> list[Dataset]:
        asked.append(peer)
        raise NotKept

    monkeypatch.setattr("dicom_node.worker.worklist.find", find)
    here.peers["ris"] = make_peer(port=104, ask=["worklist"])
    lookup = WorklistLookup(
        WorklistParts(Index(here.database), here.peers, Priorities(here.database), "DICOMNODE", lambda: NOW)
    )
    for _ in range(6):
        lookup.look(threading.Event())
    assert len(asked) == 3
