"""What storage records of storage commitment, on both databases."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from storage.blobs import LocalBlobs
from storage.commitments import Commitments, FailureReason, Reference
from storage.database import Database
from storage.errors import NotKept
from storage.peer_records import CommitmentRecord, CommitmentState
from storage.records import Kept
from tests.builders.ct import make_ct_instance, uid
from tests.builders.studies import at
from tests.conftest import SENDER

CT, MR = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.4"


@pytest.fixture
def book(database: Database, blobs: LocalBlobs) -> Commitments:
    return Commitments(database, blobs)


def ask(book: Commitments, *references: Reference, transaction: str = "1.2.3", second: float = 0) -> CommitmentRecord:
    return book.request(SENDER, transaction, references, at=at(second), report_at=at(second + 10))


def failures(record: CommitmentRecord) -> list[int | None]:
    return [item.failure_reason for item in record.items]


def test_each_reference_is_judged_by_what_is_durable_here(
    book: Commitments, receive: Callable[..., Kept], tmp_path: Path
) -> None:
    kept = [receive(make_ct_instance(number)) for number in (1, 2, 3)]
    file = tmp_path / "blobs" / kept[2].path
    file.chmod(0o600)
    file.write_bytes(file.read_bytes()[:-1])
    record = ask(
        book,
        Reference(CT, kept[0].sop_instance_uid),
        Reference(MR, kept[1].sop_instance_uid),
        Reference(CT, kept[2].sop_instance_uid),
        Reference(CT, "1.9.9"),
        Reference("1.2.840.10008.5.1.4.31", "1.9.8", supported=False),
    )
    assert failures(record) == [
        None,
        FailureReason.CLASS_INSTANCE_CONFLICT,
        FailureReason.PROCESSING_FAILURE,
        FailureReason.NO_SUCH_INSTANCE,
        FailureReason.CLASS_NOT_SUPPORTED,
    ]
    assert book.get(record.commitment_id) == record


def test_what_we_committed_to_is_exempt_from_purging(book: Commitments, receive: Callable[..., Kept]) -> None:
    uids = [receive(make_ct_instance(number)).sop_instance_uid for number in (1, 2)]
    ask(book, Reference(CT, uids[0]), Reference(MR, uids[1]))
    assert book.exempt([*uids, "1.9"]) == {uids[0]}
    assert book.exempt(uids, committed_since=at(0)) == {uids[0]}
    assert book.exempt(uids, committed_since=at(1)) == set()


def test_an_instance_that_comes_after_the_request_is_committed_before_the_report(
    book: Commitments, receive: Callable[..., Kept]
) -> None:
    record = ask(book, Reference(CT, uid(1, 1, 1)))
    assert failures(record) == [FailureReason.NO_SUCH_INSTANCE]
    receive(make_ct_instance(1))
    claimed = book.claim(record, now=at(10), until=at(40))
    assert claimed is not None
    assert failures(claimed) == [None]
    assert book.exempt([uid(1, 1, 1)]) == {uid(1, 1, 1)}


def test_a_report_is_claimed_by_one_and_comes_back_when_nothing_is_heard(book: Commitments) -> None:
    record = ask(book, Reference(CT, "1.9"))
    assert book.due(at(9)) == []
    (due,) = book.due(at(10))
    assert book.claim(due, now=at(10), until=at(40)) is not None
    assert book.claim(due, now=at(10), until=at(40)) is None
    assert book.due(at(39)) == []
    (again,) = book.due(at(40))
    assert (again.attempts, again.commitment_id) == (1, record.commitment_id)
    book.put_off(again.commitment_id, "The report was answered with 0x0110.", at(100))
    (waiting,) = book.waiting()
    assert (waiting.reason, waiting.next_attempt_at) == ("The report was answered with 0x0110.", at(100))


def test_a_taken_report_is_not_due_and_cannot_be_claimed(book: Commitments) -> None:
    record = ask(book, Reference(CT, "1.9"))
    book.end(record.commitment_id, CommitmentState.TAKEN, "the report was taken", at(11))
    assert book.due(at(1000)) == []
    assert book.waiting() == []
    assert book.claim(record, now=at(12), until=at(20)) is None


def test_the_same_request_again_is_reported_again(book: Commitments, receive: Callable[..., Kept]) -> None:
    wanted = [Reference(CT, uid(1, 1, 1)), Reference(CT, "1.9")]
    first = ask(book, *wanted)
    book.end(first.commitment_id, CommitmentState.GIVEN_UP, "nobody answers", at(11))
    receive(make_ct_instance(1))
    again = ask(book, *reversed(wanted), second=20)
    assert again.commitment_id == first.commitment_id
    assert (again.state, again.attempts, again.next_attempt_at) == (CommitmentState.WAITING, 0, at(30))
    assert failures(again) == [None, FailureReason.NO_SUCH_INSTANCE]


def test_a_transaction_uid_used_for_other_instances_fails_them(book: Commitments, receive: Callable[..., Kept]) -> None:
    receive(make_ct_instance(1))
    ask(book, Reference(CT, "1.9"))
    second = ask(book, Reference(CT, uid(1, 1, 1)), second=1)
    assert failures(second) == [FailureReason.DUPLICATE_TRANSACTION_UID]
    assert book.exempt([uid(1, 1, 1)]) == set()


def test_a_request_for_thousands_of_instances_is_recorded_whole(book: Commitments) -> None:
    record = ask(book, *(Reference(CT, f"1.9.{number}") for number in range(3000)))
    assert len(book.get(record.commitment_id).items) == 3000
    assert timedelta(0) == record.requested_at - at(0)


def test_an_unknown_commitment_is_not_kept(book: Commitments) -> None:
    with pytest.raises(NotKept):
        book.get("CT1:1.2:1")
