"""Storage commitment over DIMSE: asked for, and reported on the same or on another association."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime, timedelta

import pytest
from pydicom import Dataset
from pydicom.uid import generate_uid
from pynetdicom.association import Association
from pynetdicom.events import Event

from configs.peers import Peer
from configs.settings import DeliverySettings
from dicom_node.scp.commitment import MOST_REFERENCES, N_ACTION_STATUSES, CommitmentService
from dicom_node.scu.association import Timeouts
from dicom_node.worker.commitments import CommitmentReports, ReportParts
from storage.blobs import LocalBlobs
from storage.commitments import Commitments, Reference
from storage.confirmations import Confirmations
from storage.database import Database
from storage.errors import DiskFull, IndexUnavailable
from storage.peer_records import CommitmentState
from storage.records import Kept, Origin, OriginKind
from tests.builders.commitment import Asker, a_request, ask
from tests.builders.ct import make_ct_instance
from tests.builders.dimse import IMPLICIT, Listening, a_peer, await_that, listening

CT, MR = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.4"


@pytest.fixture
def database(sqlite_database: Database) -> Database:
    """One engine is enough for what goes over the wire."""
    return sqlite_database


@pytest.fixture
def book(database: Database, blobs: LocalBlobs) -> Commitments:
    return Commitments(database, blobs)


@pytest.fixture
def kept(receive: Callable[..., Kept]) -> str:
    return receive(make_ct_instance(1)).sop_instance_uid


def states(book: Commitments, database: Database) -> list[tuple[str, str, int]]:
    with database.read() as connection:
        rows = connection.exec_driver_sql("SELECT state, reason, attempts FROM commitments ORDER BY requested_at")
        return [(row.state, row.reason, row.attempts) for row in rows]


def serving(book: Commitments, peers: dict[str, Peer] | None = None) -> AbstractContextManager[Listening]:
    """Have a receiver that serves storage commitment."""
    anyone = {"loopback": a_peer(accept=["echo", "commit"])}
    service = CommitmentService(book, Confirmations(book._database))
    return listening(peers=anyone if peers is None else peers, services=[service])


@contextmanager
def courier(book: Commitments, peers: dict[str, Peer], *, attempts: int = 50) -> Iterator[None]:
    """Let the courier report, with a short back-off."""
    parts = ReportParts(
        commitments=book,
        peers=peers,
        delivery=DeliverySettings(first_retry_s=0.2, retry_at_most_s=0.4, attempts=attempts),
        timeouts=Timeouts(connect_s=2, associate_s=2, answer_s=2),
        now=lambda: datetime.now(UTC),
    )
    stop = threading.Event()
    thread = threading.Thread(target=CommitmentReports(parts).run, args=(stop,), kwargs={"every_s": 0.05})
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def test_the_report_comes_on_the_same_association_where_it_stays_open(
    book: Commitments, database: Database, kept: str
) -> None:
    asker = Asker()
    with serving(book) as here, asker.asking(here.port) as association:
        information = a_request((CT, kept), (MR, kept), (CT, "1.9"))
        assert ask(association, information) == 0x0000
        await_that(lambda: asker.reports)
        (report,) = asker.reports
        assert (report.event_type, report.committed, report.failed) == (2, [kept], {kept: 0x0119, "1.9": 0x0112})
        assert report.information.TransactionUID == information.TransactionUID
        assert not report.own_association
        await_that(lambda: states(book, database)[0][0] == "taken")
        assert association.send_c_echo().Status == 0x0000
    assert book.due(datetime.now(UTC) + timedelta(days=1)) == []


def test_all_committed_is_event_type_1(book: Commitments, kept: str) -> None:
    asker = Asker()
    with serving(book) as here, asker.asking(here.port) as association:
        ask(association, a_request((CT, kept)))
        await_that(lambda: asker.reports)
    assert (asker.reports[0].event_type, asker.reports[0].failed) == (1, {})


def test_a_request_is_durable_before_it_is_answered(book: Commitments, database: Database, kept: str) -> None:
    with serving(book) as here, Asker().asking(here.port) as association:
        assert ask(association, a_request((CT, kept))) == 0x0000
        assert states(book, database) == [("waiting", "", 0)]
        assert book.exempt([kept]) == {kept}


def test_who_hangs_up_at_once_is_told_on_an_association_of_ours(
    book: Commitments, database: Database, kept: str
) -> None:
    asker = Asker()
    with asker.listening() as port:
        peers = {"ct1": a_peer(ae_title="CT1", host="127.0.0.1", port=port, accept=["commit", "echo"])}
        with serving(book, peers) as here:
            with asker.asking(here.port) as association:
                assert ask(association, a_request((CT, kept))) == 0x0000
            with courier(book, peers):
                await_that(lambda: states(book, database)[0][0] == "taken")
    (report,) = asker.reports
    assert report.own_association
    assert report.committed == [kept]
    assert (report.calling_ae_title, report.called_ae_title) == ("DICOMNODE", "CT1")
    assert report.transfer_syntax == IMPLICIT
    assert report.roles == [(False, True)]


def test_a_report_refused_on_the_same_association_goes_out_on_ours(
    book: Commitments, database: Database, kept: str
) -> None:
    grumpy, asker = Asker(answer_with=0x0110), Asker()
    with asker.listening() as port:
        peers = {"ct1": a_peer(ae_title="CT1", host="127.0.0.1", port=port, accept=["commit", "echo"])}
        with (
            serving(book, peers) as here,
            courier(book, peers),
            grumpy.asking(here.port) as association,
        ):
            ask(association, a_request((CT, kept)))
            await_that(lambda: states(book, database)[0][0] == "taken")
    assert (len(grumpy.reports), len(asker.reports)) == (1, 1)
    assert states(book, database) == [("taken", "the report was taken", 2)]


# pynetdicom leaves the socket of a refused connection to the garbage collector.
@pytest.mark.filterwarnings("ignore:Exception ignored in. <socket:pytest.PytestUnraisableExceptionWarning")
def test_a_peer_that_is_away_is_told_when_it_returns(book: Commitments, database: Database, kept: str) -> None:
    asker = Asker()
    with asker.listening() as port:
        pass  # a port that was free a moment ago
    peers = {"ct1": a_peer(ae_title="CT1", host="127.0.0.1", port=port)}
    origin = Origin(OriginKind.DIMSE, "ct1", "CT1", "DICOMNODE", "127.0.0.1")
    record_request(book, origin, kept)
    with courier(book, peers):
        await_that(lambda: states(book, database)[0][2] >= 2)
        assert "cannot be reached" in states(book, database)[0][1]
        with asker.listening(port=port):
            await_that(lambda: states(book, database)[0][0] == "taken")
    assert asker.reports[0].committed == [kept]


def test_a_peer_that_always_refuses_is_given_up_after_its_attempts(
    book: Commitments, database: Database, kept: str
) -> None:
    asker = Asker(answer_with=0x0112)
    with asker.listening() as port:
        peers = {"ct1": a_peer(ae_title="CT1", host="127.0.0.1", port=port)}
        record_request(book, Origin(OriginKind.DIMSE, "ct1", "CT1", "DICOMNODE", "127.0.0.1"), kept)
        with courier(book, peers, attempts=3):
            await_that(lambda: states(book, database)[0][0] == "given up")
    assert states(book, database) == [("given up", "The report was answered with 0x0112.", 3)]
    assert len(asker.reports) == 3
    assert book.exempt([kept]) == {kept}


def test_a_peer_that_hangs_holds_up_no_other(book: Commitments, database: Database, kept: str) -> None:
    class Slow(Asker):
        def handle(self, event: Event) -> tuple[int, None]:  # noqa: ARG002 (the asker's signature)
            time.sleep(3)
            return 0x0000, None

    asker, slow = Asker(), Slow()
    with slow.listening(title="SLOW") as slow_port, asker.listening() as port:
        peers = {
            "ct1": a_peer(ae_title="CT1", host="127.0.0.1", port=port),
            "slow": a_peer(ae_title="SLOW", host="127.0.0.1", port=slow_port),
        }
        record_request(book, Origin(OriginKind.DIMSE, "slow", "SLOW", "DICOMNODE", "127.0.0.1"), kept)
        record_request(book, Origin(OriginKind.DIMSE, "ct1", "CT1", "DICOMNODE", "127.0.0.1"), kept)
        with courier(book, peers):
            await_that(lambda: asker.reports, within_s=1.5)


def test_a_peer_without_host_and_port_is_told_on_its_own_association_alone(
    book: Commitments, database: Database, kept: str
) -> None:
    peers = {"loopback": a_peer(accept=["commit"])}
    with serving(book, peers) as here, courier(book, peers):
        with Asker().asking(here.port) as association:
            ask(association, a_request((CT, kept)))
        await_that(lambda: states(book, database)[0][1].startswith("No report"))
        assert states(book, database)[0][1] == (
            "No report to CT1: peer loopback has no host and port in peers.yaml, "
            "so that it can be told on the association of its request alone."
        )
        asker = Asker()  # asks again, and stays this time
        transaction = book.waiting()[0].transaction_uid
        with asker.asking(here.port) as association:
            ask(association, a_request((CT, kept), transaction_uid=transaction))
            await_that(lambda: asker.reports)
    assert asker.reports[0].committed == [kept]


def test_no_report_once_the_peer_is_off_the_list(book: Commitments, database: Database, kept: str) -> None:
    record_request(book, Origin(OriginKind.DIMSE, "gone", "GONE", "DICOMNODE", "127.0.0.1"), kept)
    with courier(book, {}):
        await_that(lambda: states(book, database)[0][1])
    assert states(book, database)[0][1] == "No report: peer gone is no longer listed in peers.yaml."


def test_messages_that_cross_the_report_are_served(book: Commitments, kept: str) -> None:
    asker = Asker()
    with serving(book) as here, asker.asking(here.port) as association:
        ask(association, a_request((CT, kept)))
        statuses = []
        until = time.monotonic() + 4
        while not asker.reports and time.monotonic() < until:
            statuses.append(association.send_c_echo().Status)
    assert len(asker.reports) == 1
    assert set(statuses) == {0x0000}


def unreadable() -> Dataset:
    broken = Dataset()
    broken.TransactionUID = "not a uid"
    return broken


def empty() -> Dataset:
    information = a_request()
    del information.ReferencedSOPSequence
    return information


REFUSALS: list[tuple[str, int, Callable[[Association], int]]] = [
    ("another instance", 0x0112, lambda to: ask(to, a_request((CT, "1.9")), instance="1.2.3")),
    ("another action", 0x0123, lambda to: ask(to, a_request((CT, "1.9")), action=2)),
    ("no transaction", 0x0115, lambda to: ask(to, unreadable())),
    ("no references", 0x0115, lambda to: ask(to, empty())),
    ("a reference without a class", 0x0115, lambda to: ask(to, a_request(("", "1.9")))),
    ("no information at all", 0x0115, lambda to: ask(to, None)),
]


@pytest.mark.parametrize(("status", "send"), [pytest.param(*rest, id=name) for name, *rest in REFUSALS])
def test_what_is_no_request_is_refused_by_its_status(
    status: int, send: Callable[[Association], int], book: Commitments, database: Database
) -> None:
    with serving(book) as here, Asker().asking(here.port) as association:
        assert send(association) == status
        assert association.send_c_echo().Status == 0x0000
    assert states(book, database) == []


def test_another_sop_class_on_the_context_is_refused(book: Commitments) -> None:
    with serving(book) as here, Asker().asking(here.port) as association:
        status, _ = association.send_n_action(
            a_request((CT, "1.9")), 1, "1.2.840.10008.5.1.4.34.6.1", "1.2.3", meta_uid="1.2.840.10008.1.20.1"
        )
        assert status.Status == 0x0118


def test_too_many_references_are_refused(book: Commitments, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dicom_node.scp.commitment.MOST_REFERENCES", 2)
    assert MOST_REFERENCES >= 10_000
    with serving(book) as here, Asker().asking(here.port) as association:
        assert ask(association, a_request(*((CT, f"1.9.{number}") for number in range(3)))) == 0x0213


@pytest.mark.parametrize(
    ("failure", "status"),
    [(IndexUnavailable("no"), 0x0213), (DiskFull("no"), 0x0213), (ZeroDivisionError("ours"), 0x0110)],
)
def test_where_nothing_can_be_recorded_the_peer_is_told_so(failure: Exception, status: int, book: Commitments) -> None:
    class Failing(Commitments):
        def request(self, *_: object, **__: object) -> object:  # type: ignore[override]
            raise failure

    failing = Failing(book._database, book._blobs)
    with serving(failing) as here, Asker().asking(here.port) as association:
        assert ask(association, a_request((CT, "1.9"))) == status


def test_a_destination_may_report_and_not_ask(book: Commitments) -> None:
    peer = a_peer(accept=["echo", "store"], host="127.0.0.1", port=104, deliver={"by": "dimse"})
    with serving(book, {"pacs": peer}) as here, Asker().asking(here.port) as association:
        assert ask(association, a_request((CT, "1.9"))) == 0x0124


def test_every_status_of_the_table_is_provoked_here() -> None:
    provoked = {status for _, status, _ in REFUSALS} | {0x0000, 0x0110, 0x0118, 0x0124, 0x0213}
    assert provoked == set(N_ACTION_STATUSES)


def test_a_peer_that_may_not_ask_gets_no_context(book: Commitments) -> None:
    peers = {"ct1": a_peer(accept=["echo"])}
    with (
        serving(book, peers) as here,
        Asker().asking(here.port) as association,
    ):
        assert [str(context.abstract_syntax) for context in association.accepted_contexts] == ["1.2.840.10008.1.1"]


def record_request(book: Commitments, origin: Origin, sop_instance_uid: str) -> None:
    now = datetime.now(UTC)
    book.request(origin, generate_uid(), [Reference(CT, sop_instance_uid)], at=now, report_at=now)
    assert book.waiting()[0].state is CommitmentState.WAITING
