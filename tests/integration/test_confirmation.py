"""Delivered is not confirmed: destinations are asked whether they keep what they took, and get again what they lost."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pydicom import Dataset
from pydicom.sequence import Sequence as DicomSequence
from pynetdicom import build_context, build_role, evt
from pynetdicom.events import Event

from configs.peers import Peer
from configs.settings import DeliverySettings, DimseSettings
from dicom_node.network import application_entity
from dicom_node.scp.commitment import CommitmentService
from dicom_node.scu import folder
from dicom_node.worker.confirm import MOST_MISSES, MOST_SENT_AGAIN, confirm
from dicom_node.worker.items import outgoing
from dicom_node.worker.parts import CourierParts
from storage.blobs import LocalBlobs
from storage.commitments import Commitments
from storage.confirmations import Confirmation, Confirmations
from storage.database import Database
from storage.deliveries import Deliveries
from storage.findings_store import FindingsStore
from storage.jobs import Queue, prepare_queue
from storage.peer_classes import PeerClasses
from storage.records import DeliveryState, ItemState
from storage.results import ResultBook
from tests.builders.commitment import PUSH_MODEL, PUSH_MODEL_INSTANCE
from tests.builders.dimse import EXPLICIT, IMPLICIT, listening
from tests.builders.paper_parts import make_input
from tests.builders.stage import Stage
from tests.builders.studies import make_peer
from tests.builders.work import at, put_findings, put_job, results_of, uid_of
from tests.integration.test_stow_destination import Fake, http

FIND = "1.2.840.10008.5.1.4.1.2.2.1"
FORM = "binary+comprehensive-3d"


@dataclass
class Archive:
    """A PACS by pynetdicom that commits and is searched as told."""

    holds: set[str] = field(default_factory=set)
    """SOP Instance UIDs that it finds, and commits to."""
    commits: str = ""
    """`same`: reports on the association of the request; `own`: on its own; `silent`: never; empty: no such service."""
    searchable: bool = True
    node_port: int = 0
    port: int = 0
    searches: int = 0
    requests: list[str] = field(default_factory=list)
    answers: list[int] = field(default_factory=list)
    """Statuses with which its reports were answered."""

    @contextlib.contextmanager
    def running(self) -> Iterator[Peer]:
        entity = application_entity("PACS")
        if self.commits:
            entity.add_supported_context(PUSH_MODEL, [EXPLICIT, IMPLICIT])
        if self.searchable:
            entity.add_supported_context(FIND, [EXPLICIT, IMPLICIT])
        entity.add_supported_context("1.2.840.10008.1.1")
        server = entity.start_server(
            ("127.0.0.1", 0),
            block=False,
            evt_handlers=[(evt.EVT_N_ACTION, self._on_action), (evt.EVT_C_FIND, self._on_find)],
        )
        self.port = server.server_address[1]
        try:
            yield make_peer(
                ae_title="PACS", host="127.0.0.1", port=self.port, deliver={"by": "dimse"}, **{"from": ["127.0.0.1"]}
            )
        finally:
            server.shutdown()

    def _on_find(self, event: Event) -> Iterator[tuple[int, Dataset | None]]:
        self.searches += 1
        uid = str(event.identifier.SOPInstanceUID)
        if uid in self.holds:
            yield 0xFF00, event.identifier
        yield 0x0000, None

    def _on_action(self, event: Event) -> tuple[int, None]:
        wanted = event.action_information
        self.requests.append(str(wanted.TransactionUID))
        if self.commits != "silent":
            threading.Timer(0.2, self._report, (event.assoc, wanted)).start()
        return 0x0000, None

    def _report(self, association: Any, wanted: Dataset) -> None:
        report, kept, failed = Dataset(), [], []
        report.TransactionUID = wanted.TransactionUID
        for item in wanted.ReferencedSOPSequence:
            if item.ReferencedSOPInstanceUID in self.holds:
                kept.append(item)
            else:
                item.FailureReason = 0x0112
                failed.append(item)
        if kept:
            report.ReferencedSOPSequence = DicomSequence(kept)
        if failed:
            report.FailedSOPSequence = DicomSequence(failed)
        kind = 2 if failed else 1
        if self.commits == "same":
            answer, _ = association.send_n_event_report(report, kind, PUSH_MODEL, PUSH_MODEL_INSTANCE)
            self.answers.append(int(answer.get("Status", -1)))
            return
        mine = application_entity("PACS").associate(
            "127.0.0.1",
            self.node_port,
            contexts=[build_context(PUSH_MODEL, [IMPLICIT])],
            ae_title="DICOMNODE",
            ext_neg=[build_role(PUSH_MODEL, scp_role=True)],
        )
        assert mine.is_established
        answer, _ = mine.send_n_event_report(report, kind, PUSH_MODEL, PUSH_MODEL_INSTANCE)
        self.answers.append(int(answer.get("Status", -1)))
        mine.release()


class Node:
    """One delivery that a destination accepted; the clock is turned by hand."""

    def __init__(self, database: Database, queue: Queue, blobs: LocalBlobs) -> None:
        self.at: datetime = at(0)
        self.database = database
        self.deliveries, self.confirmations = Deliveries(database, queue), Confirmations(database)
        job_id = put_job(database, queue)
        results = results_of(put_findings(FindingsStore(database, blobs), uid_of(1), "key1"))
        ResultBook(database).reserve(results)
        self.uids = [result.sop_instance_uid for result in results]
        (self.delivery_id,) = self.deliveries.ask_for(
            job_id,
            "key1",
            FORM,
            uid_of(1),
            [(result.sop_instance_uid, result.kind) for result in results],
            ["pacs"],
            not_before=at(0),
            at=at(0),
        )
        self.stage = Stage()
        for result in results:
            uid = result.sop_instance_uid
            self.stage.keep(
                make_input(1, sop_instance_uid=uid, sop_class_uid=result.sop_class_uid, path=uid, series="1.2.3")
            )
            self.stage.blobs[uid] = uid.encode()
        self.accept()

    def accept(self) -> None:
        """Let the destination accept what it is sent."""
        attempt = self.delivery.attempts + 1
        assert self.deliveries.begin(self.delivery_id, attempt, self.at) is not None
        for item in self.delivery.items:
            self.deliveries.item_answered(
                self.delivery_id, item.sop_instance_uid, ItemState.ACCEPTED, 0x0000, "", self.at
            )
        self.deliveries.finish(self.delivery_id, DeliveryState.DELIVERED, "pacs accepted SEG and SR.", self.at)

    @property
    def delivery(self) -> Any:
        return self.deliveries.delivery(self.delivery_id)

    @property
    def due(self) -> list[Confirmation]:
        return self.confirmations.due(self.at)

    def ask(self, peer: Peer) -> None:
        """Do what the watch does when something is due."""
        courier: CourierParts = replace(
            self.stage.courier,
            deliveries=self.deliveries,
            classes=PeerClasses(self.database),
            peers={"pacs": peer},
            dimse=DimseSettings(answer_within_s=3.0),
            delivery=DeliverySettings(first_retry_s=10.0, retry_at_most_s=100.0, attempts=8),
            now=lambda: self.at,
        )
        for waiting in self.due:
            confirm(waiting, self.confirmations, courier)

    def ask_until(self, peer: Peer, done: Callable[[], bool]) -> int:
        """Turn the clock and ask; give how often."""
        for times in range(1, 60):
            self.ask(peer)
            if done():
                return times
            self.at += timedelta(seconds=1000)
        raise AssertionError(f"came to no end: {self.delivery.state} {self.delivery.reason}")

    @property
    def state(self) -> DeliveryState:
        return DeliveryState(self.delivery.state)


@pytest.fixture
def node(database: Database, blobs: LocalBlobs) -> Iterator[Node]:
    prepare_queue(database.url)
    queue = Queue(database)
    yield Node(database, queue, blobs)
    queue.close()


def test_a_report_on_the_association_of_the_request_confirms(node: Node) -> None:
    archive = Archive(set(node.uids), commits="same")
    with archive.running() as peer:
        node.ask(peer)
        assert node.state is DeliveryState.DELIVERED  # asked is not confirmed
        node.ask(peer)
    assert archive.answers == [0x0000]
    assert node.state is DeliveryState.CONFIRMED
    assert node.delivery.reason == "pacs accepted SEG and SR. Confirmed: it committed itself to keep them."
    assert not node.due
    assert archive.searches == 0


def test_a_report_on_an_association_of_the_archive_confirms(node: Node, blobs: LocalBlobs) -> None:
    archive = Archive(set(node.uids), commits="own")
    service = CommitmentService(Commitments(node.database, blobs), node.confirmations, clock=lambda: node.at)
    with archive.running() as peer, listening(peers={"pacs": peer}, services=[service]) as here:
        archive.node_port = here.port
        node.ask(peer)  # waits some seconds on its own association
        node.ask(peer)
    assert archive.answers == [0x0000]
    assert node.state is DeliveryState.CONFIRMED


def test_a_report_of_what_we_did_not_ask_for_is_refused(node: Node, blobs: LocalBlobs) -> None:
    archive = Archive(set(node.uids), commits="own")
    service = CommitmentService(Commitments(node.database, blobs), node.confirmations, clock=lambda: node.at)
    wanted = Dataset()
    wanted.TransactionUID = "1.2.3.4"
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = "1.2", node.uids[0]
    wanted.ReferencedSOPSequence = DicomSequence([item])
    with archive.running() as peer, listening(peers={"pacs": peer}, services=[service]) as here:
        archive.node_port = here.port
        archive._report(None, wanted)
    assert archive.answers == [0x0115]
    assert node.state is DeliveryState.DELIVERED


def test_an_archive_that_reports_a_loss_is_sent_again_and_confirmed_only_then(node: Node) -> None:
    archive = Archive({node.uids[0]}, commits="same")
    with archive.running() as peer:
        node.ask(peer)
        node.ask(peer)
        assert node.state is DeliveryState.WAITING
        assert "does not have 1 of them: sent again" in node.delivery.reason
        assert {item.state for item in node.delivery.items} == {ItemState.WAITING}
        archive.holds = set(node.uids)
        node.accept()
        node.ask_until(peer, lambda: node.state is DeliveryState.CONFIRMED)


def test_success_but_dropped_is_found_by_search_sent_again_and_told_to_a_person_in_the_end(node: Node) -> None:
    archive = Archive(set())
    sent_again = 0
    with archive.running() as peer:
        while sent_again < MOST_SENT_AGAIN:
            asked = node.ask_until(peer, lambda: node.state is DeliveryState.WAITING)
            assert asked == MOST_MISSES
            sent_again += 1
            node.accept()
        node.ask_until(peer, lambda: node.state is DeliveryState.FAILED)
    assert "also after they were sent again 3 times" in node.delivery.reason


def test_an_archive_that_indexes_slowly_is_given_time(node: Node) -> None:
    archive = Archive(set())
    with archive.running() as peer:
        node.ask(peer)
        assert node.state is DeliveryState.DELIVERED
        assert not node.due
        archive.holds = set(node.uids)
        node.at += timedelta(seconds=11)
        node.ask(peer)
    assert node.state is DeliveryState.CONFIRMED
    assert node.delivery.reason.endswith("Confirmed: it finds them by C-FIND.")
    assert PeerClasses(node.database).refused_by("pacs") == {PUSH_MODEL}


def test_an_archive_that_takes_the_request_and_never_reports_is_searched(node: Node) -> None:
    archive = Archive(set(node.uids), commits="silent")
    with archive.running() as peer:
        node.ask(peer)
        assert not node.due
        node.at += timedelta(seconds=61)
        node.ask(peer)
    assert node.state is DeliveryState.CONFIRMED
    assert archive.searches == 2


def test_a_destination_that_offers_neither_stays_delivered_with_the_reason(node: Node) -> None:
    archive = Archive(searchable=False)
    with archive.running() as peer:
        node.ask(peer)
    assert node.state is DeliveryState.DELIVERED
    said = node.confirmations.reason_of(node.delivery_id)
    assert said == "Not confirmed: the destination offers neither storage commitment nor C-FIND."
    assert not node.due


# The library leaves the socket of a refused connection to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_destination_that_is_away_is_asked_again_and_not_for_ever(node: Node) -> None:
    away = make_peer(ae_title="PACS", host="127.0.0.1", port=1, deliver={"by": "dimse"})
    asked = node.ask_until(away, lambda: (node.confirmations.reason_of(node.delivery_id) or "").startswith("Not conf"))
    assert asked == 8
    assert node.state is DeliveryState.DELIVERED


def test_files_confirm_what_went_into_a_folder(node: Node, tmp_path: Path) -> None:
    peer = Peer.model_validate({"deliver": {"by": "folder", "path": str(tmp_path)}})
    courier = node.stage.courier
    items = [outgoing(uid, courier) for uid in node.uids]
    folder.put(tmp_path, uid_of(1), items, lambda *_: None)
    next(tmp_path.rglob(f"{node.uids[1]}.dcm")).unlink()
    node.ask(peer)
    assert node.state is DeliveryState.DELIVERED
    folder.put(tmp_path, uid_of(1), items, lambda *_: None)
    node.at += timedelta(seconds=11)
    node.ask(peer)
    assert node.state is DeliveryState.CONFIRMED


def test_a_search_by_qido_confirms_what_went_by_stow(node: Node) -> None:
    found = b'[{"00080018": {"vr": "UI", "Value": ["%s"]}}, {"00080018": {"vr": "UI", "Value": ["%s"]}}]'
    fake = Fake(http("200 OK", found.replace(b"%s", node.uids[0].encode(), 1).replace(b"%s", node.uids[1].encode())))
    with fake.running() as url:
        node.ask(Peer.model_validate({"deliver": {"by": "stow", "url": url}}))
    assert node.state is DeliveryState.CONFIRMED
    assert len(fake.requests) == 2
