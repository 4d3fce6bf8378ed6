"""What storage keeps of announcements, and how it compares them with what is here, on both databases."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from storage.announcements import Announcements, Named, Said
from storage.database import Database
from storage.errors import AlreadyAnnounced, NotKept, StepEnded
from storage.peer_records import AnnouncementKind, AnnouncementState, Coverage
from storage.records import Kept
from tests.builders.ct import make_ct_instance, uid
from tests.builders.studies import at
from tests.conftest import SENDER

CT = "1.2.840.10008.5.1.4.1.1.2"
STEP, NOTICE = AnnouncementKind.PROCEDURE_STEP, AnnouncementKind.AVAILABILITY
IN_PROGRESS, COMPLETED = AnnouncementState.IN_PROGRESS, AnnouncementState.COMPLETED
DISCONTINUED = AnnouncementState.DISCONTINUED


@pytest.fixture
def book(database: Database) -> Announcements:
    return Announcements(database)


def said(*numbers: int, state: AnnouncementState = COMPLETED, study: int = 1) -> Said:
    named = tuple(Named(CT, uid(study, 1), uid(study, 1, number)) for number in numbers)
    return Said(state, frozenset({uid(study)}), named, {"00400252": {"vr": "CS", "Value": [state.name]}})


def test_a_step_is_found_with_the_study_that_gathers(book: Announcements, receive: Callable[..., Kept]) -> None:
    book.create(STEP, "1.9", SENDER, said(1, 2, 2, state=IN_PROGRESS), at(0))
    assert book.of_gathering() == {}
    receive(make_ct_instance(1))
    ((found,),) = book.of_gathering().values()
    assert (found.announcement_uid, found.state, found.number_named) == ("1.9", IN_PROGRESS, 2)
    assert (found.peer, found.calling_ae_title) == ("ct1", "CT1")
    assert book.of_study(uid(1)) == [found]
    assert book.of_study(uid(2)) == []


def test_coverage_counts_what_is_missing_and_what_nobody_names(
    book: Announcements, receive: Callable[..., Kept]
) -> None:
    for number in (1, 2, 9):
        receive(make_ct_instance(number))
    receive(make_ct_instance(1, study=2))
    book.create(STEP, "1.1", SENDER, said(1, 2, 3), at(0))
    assert book.coverage(uid(1)) == Coverage(named=3, missing=1, unnamed_inputs=1)
    book.create(NOTICE, "1.2", SENDER, said(2, 9), at(0))
    assert book.coverage(uid(1)) == Coverage(named=4, missing=1, unnamed_inputs=0)
    receive(make_ct_instance(3))
    assert book.coverage(uid(1)) == Coverage(named=4, missing=0, unnamed_inputs=0)
    assert book.coverage(uid(2)) == Coverage(named=0, missing=0, unnamed_inputs=1)


@pytest.mark.parametrize(
    ("state", "coverage"),
    [(IN_PROGRESS, Coverage(0, 0, 1)), (DISCONTINUED, Coverage(2, 1, 1)), (COMPLETED, Coverage(2, 1, 0))],
)
def test_a_discontinued_step_vouches_for_nothing_and_one_in_progress_counts_not_at_all(
    state: AnnouncementState, coverage: Coverage, book: Announcements, receive: Callable[..., Kept]
) -> None:
    receive(make_ct_instance(1))
    book.create(STEP, "1.9", SENDER, said(1, 2, state=state), at(0))
    assert book.coverage(uid(1)) == coverage


def test_documents_here_count_as_here_and_need_no_name(book: Announcements, receive: Callable[..., Kept]) -> None:
    receive(make_ct_instance(1))
    receive(make_ct_instance(2, SOPClassUID="1.2.840.10008.5.1.4.1.1.88.67", Modality="SR"))
    book.create(STEP, "1.9", SENDER, said(1), at(0))
    assert book.coverage(uid(1)) == Coverage(1, 0, 0)


def test_a_step_changes_until_it_ends(book: Announcements, receive: Callable[..., Kept]) -> None:
    receive(make_ct_instance(1, study=2))
    book.create(STEP, "1.9", SENDER, said(state=IN_PROGRESS), at(0))
    book.change("1.9", said(1, study=2), at(5))
    (found,) = book.of_study(uid(2))
    assert (found.state, found.number_named, found.changed_at) == (COMPLETED, 1, at(5))
    assert book.attributes_of(STEP, "1.9") == {"00400252": {"vr": "CS", "Value": ["COMPLETED"]}}
    with pytest.raises(StepEnded):
        book.change("1.9", said(1, 2, study=2), at(6))
    assert book.coverage(uid(2)) == Coverage(1, 0, 0)


def test_a_uid_names_one_announcement(book: Announcements) -> None:
    book.create(STEP, "1.9", SENDER, said(), at(0))
    with pytest.raises(AlreadyAnnounced):
        book.create(STEP, "1.9", SENDER, said(), at(1))


def test_what_was_never_announced_cannot_change(book: Announcements) -> None:
    book.create(NOTICE, "1.8", SENDER, said(1), at(0))
    for uid_ in ("1.7", "1.8"):
        with pytest.raises(NotKept):
            book.attributes_of(STEP, uid_)
    with pytest.raises(NotKept):
        book.change("1.7", said(), at(1))
