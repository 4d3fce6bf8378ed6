"""MPPS and Instance Availability Notification over DIMSE."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from pydicom import Dataset
from pydicom.sequence import Sequence as DicomSequence
from pynetdicom import evt
from pynetdicom.association import Association

from dicom_node.scp import availability, performed_step
from dicom_node.scp.announcing import AnnouncementService
from storage.announcements import Announcements
from storage.database import Database
from storage.errors import DiskFull, IndexUnavailable
from storage.peer_records import AnnouncementKind, AnnouncementState, Coverage
from storage.records import Kept
from tests.builders.announcing import IAN, MPPS, a_notice, a_step, an_end, create, set_
from tests.builders.ct import make_ct_instance, uid
from tests.builders.dimse import EXPLICIT, IMPLICIT, a_peer, associated, listening

VERIFICATION = "1.2.840.10008.1.1"


@pytest.fixture
def database(sqlite_database: Database) -> Database:
    """One engine is enough for what goes over the wire."""
    return sqlite_database


@pytest.fixture
def book(database: Database) -> Announcements:
    return Announcements(database)


@contextlib.contextmanager
def modality(book: Announcements, *, syntax: str = EXPLICIT) -> Iterator[Association]:
    """Have an association of a modality with a node that listens to announcements."""
    peers = {"ct1": a_peer(accept=["echo", "mpps", "ian"])}
    wishes = [(MPPS, [syntax]), (IAN, [syntax]), (VERIFICATION, [EXPLICIT])]
    with (
        listening(peers=peers, services=[AnnouncementService(book)]) as here,
        associated(here.port, wishes) as association,
    ):
        yield association


@pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT])
def test_a_step_goes_from_in_progress_to_completed(
    syntax: str, book: Announcements, receive: Callable[..., Kept]
) -> None:
    receive(make_ct_instance(1))
    with modality(book, syntax=syntax) as to:
        assert create(to, a_step(uid(1))).Status == 0x0000
        (step,) = book.of_study(uid(1))
        assert (step.kind, step.state) == (AnnouncementKind.PROCEDURE_STEP, AnnouncementState.IN_PROGRESS)
        assert (step.calling_ae_title, step.announcement_uid) == ("CT1", "1.2.3.9")
        assert set_(to, an_end({uid(1, 1): [uid(1, 1, 1), uid(1, 1, 2)]})).Status == 0x0000
    (step,) = book.of_study(uid(1))
    assert (step.state, step.number_named) == (AnnouncementState.COMPLETED, 2)
    assert book.coverage(uid(1)) == Coverage(named=2, missing=1, unnamed_inputs=0)
    kept = Dataset.from_json(book.attributes_of(AnnouncementKind.PROCEDURE_STEP, "1.2.3.9"))
    assert (kept.PatientName, kept.PerformedProcedureStepEndTime) == ("Test^Müde", "102000")


@pytest.mark.parametrize("end", ["COMPLETED", "DISCONTINUED"])
def test_a_step_that_has_ended_never_changes_again(end: str, book: Announcements) -> None:
    with modality(book) as to:
        create(to, a_step(uid(1)))
        set_(to, an_end({}, status=end))
        answer = set_(to, an_end({uid(1, 1): [uid(1, 1, 1)]}))
    assert (answer.Status, answer.ErrorID) == (0x0110, 0xA710)
    assert answer.ErrorComment == "Performed Procedure Step Object may no longer be updated"


def test_a_step_without_a_name_gets_one(book: Announcements) -> None:
    with modality(book) as to:
        commands: list[Dataset] = []
        to.bind(evt.EVT_DIMSE_RECV, lambda event: commands.append(event.message.command_set))
        assert create(to, a_step(uid(1)), None).Status == 0x0000
        made = commands[0].AffectedSOPInstanceUID
        assert set_(to, an_end({}), made).Status == 0x0000


def test_non_image_instances_of_a_step_are_named_too(book: Announcements, receive: Callable[..., Kept]) -> None:
    receive(make_ct_instance(1))
    end = an_end({uid(1, 1): [uid(1, 1, 1)]})
    item = end.PerformedSeriesSequence[0].ReferencedImageSequence[0]
    other = Dataset()
    other.ReferencedSOPClassUID, other.ReferencedSOPInstanceUID = "1.2.840.10008.5.1.4.1.1.88.67", uid(1, 1, 7)
    end.PerformedSeriesSequence[0].ReferencedNonImageCompositeSOPInstanceSequence = DicomSequence([other, item])
    with modality(book) as to:
        create(to, a_step(uid(1)))
        set_(to, end)
    assert book.coverage(uid(1)) == Coverage(named=2, missing=1, unnamed_inputs=0)


def test_a_notice_names_what_is_available(book: Announcements, receive: Callable[..., Kept]) -> None:
    receive(make_ct_instance(1))
    said = {uid(1, 1): {uid(1, 1, 1): "ONLINE", uid(1, 1, 2): "NEARLINE", uid(1, 1, 3): "UNAVAILABLE"}}
    with modality(book) as to:
        assert create(to, a_notice(uid(1), said), sop_class=IAN).Status == 0x0000
    (notice,) = book.of_study(uid(1))
    assert (notice.kind, notice.number_named) == (AnnouncementKind.AVAILABILITY, 2)
    assert book.coverage(uid(1)) == Coverage(named=2, missing=1, unnamed_inputs=0)


def two_studies() -> Dataset:
    step = a_step(uid(1))
    second = Dataset()
    second.StudyInstanceUID = uid(2)
    step.ScheduledStepAttributesSequence.append(second)
    return step


def test_a_step_of_two_studies_speaks_for_both(book: Announcements, receive: Callable[..., Kept]) -> None:
    for number in (1, 2):
        receive(make_ct_instance(1, study=number))
    with modality(book) as to:
        create(to, two_studies())
        set_(to, an_end({uid(1, 1): [uid(1, 1, 1)], uid(2, 1): [uid(2, 1, 1)]}))
    assert [book.coverage(uid(number)) for number in (1, 2)] == [Coverage(2, 0, 0)] * 2


def nameless() -> Dataset:
    step = a_step(uid(1))
    del step.ScheduledStepAttributesSequence[0].StudyInstanceUID
    return step


STEP_REFUSALS: list[tuple[str, int, Callable[[Association], Dataset]]] = [
    ("created completed", 0x0106, lambda to: create(to, a_step(uid(1), status="COMPLETED"))),
    ("created in a state that is none", 0x0106, lambda to: create(to, a_step(uid(1), status="SLEEPING"))),
    ("study uid that is none", 0x0106, lambda to: create(to, a_step("one"))),
    ("created twice", 0x0111, lambda to: (create(to, a_step(uid(1))), create(to, a_step(uid(1))))[1]),
    ("set before created", 0x0112, lambda to: set_(to, an_end({}))),
    ("a uid that is none", 0x0117, lambda to: create(to, a_step(uid(1)), "1.2.x")),
    ("no status", 0x0120, lambda to: create(to, a_step(uid(1), PerformedProcedureStepStatus=None))),
    ("no study uid", 0x0120, lambda to: create(to, nameless())),
    ("no data set", 0x0120, lambda to: create(to, None)),
    ("empty status", 0x0121, lambda to: create(to, a_step(uid(1), status=""))),
    (
        "no scheduled step",
        0x0121,
        lambda to: create(to, a_step(uid(1), ScheduledStepAttributesSequence=DicomSequence())),
    ),
    ("n-get", 0x0211, lambda to: to.send_n_get([0x00400252], MPPS, "1.2.3.9")[0]),
    ("another class", 0x0118, lambda to: to.send_n_create(a_step(uid(1)), IAN, "1.2.3.9", meta_uid=MPPS)[0]),
]
NOTICE_REFUSALS: list[tuple[str, int, Callable[[Association], Dataset]]] = [
    ("study uid that is none", 0x0106, lambda to: create(to, a_notice("one", {"1.2": {}}), sop_class=IAN)),
    (
        "given twice",
        0x0111,
        lambda to: [create(to, a_notice(uid(1), {"1.2": {}}), sop_class=IAN) for _ in range(2)][1],
    ),
    ("a uid that is none", 0x0117, lambda to: create(to, a_notice(uid(1), {"1.2": {}}), "1.2.x", sop_class=IAN)),
    ("nothing", 0x0120, lambda to: create(to, an_end({}), sop_class=IAN)),
    ("no series", 0x0121, lambda to: create(to, a_notice(uid(1), {}), sop_class=IAN)),
    ("another class", 0x0118, lambda to: to.send_n_create(a_step(uid(1)), MPPS, "1.2.3.9", meta_uid=IAN)[0]),
]


@pytest.mark.filterwarnings("ignore:Invalid value for VR UI:UserWarning")
@pytest.mark.parametrize(
    ("status", "send"), [pytest.param(*rest, id=name) for name, *rest in STEP_REFUSALS + NOTICE_REFUSALS]
)
def test_what_is_wrong_is_refused_by_its_status_and_the_association_goes_on(
    status: int, send: Callable[[Association], Dataset], book: Announcements, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pynetdicom._config.ENFORCE_UID_CONFORMANCE", False)
    with modality(book) as to:
        assert send(to).Status == status
        assert to.send_c_echo().Status == 0x0000


@pytest.mark.parametrize("sop_class", [MPPS, IAN])
@pytest.mark.parametrize(
    ("failure", "status"), [(IndexUnavailable(), 0x0213), (DiskFull(), 0x0213), (ZeroDivisionError(), 0x0110)]
)
def test_where_nothing_can_be_recorded_the_peer_is_told_so(
    failure: Exception, status: int, sop_class: str, database: Database
) -> None:
    class Failing(Announcements):
        def create(self, *_: Any, **__: Any) -> None:
            raise failure

    said = a_step(uid(1)) if sop_class == MPPS else a_notice(uid(1), {"1.2": {}})
    with modality(Failing(database)) as to:
        assert create(to, said, sop_class=sop_class).Status == status


@pytest.mark.parametrize(
    ("table", "refusals"), [(performed_step.STATUSES, STEP_REFUSALS), (availability.STATUSES, NOTICE_REFUSALS)]
)
def test_every_status_of_the_tables_is_provoked_here(
    table: dict[int, str], refusals: list[tuple[str, int, Callable[[Association], Dataset]]]
) -> None:
    assert {status for _, status, _ in refusals} | {0x0000, 0x0110, 0x0213} == set(table)
