"""What proves that a study is complete: gaps in real images, and counts asked of real archives."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import pytest
from pydicom import Dataset

from dicom_node.errors import AssociationRejected, PeerError, PeerRefused, PeerUnreachable
from dicom_node.scu.find import find, identifier
from dicom_node.worker.counts import ArchiveCounts, ask_by_find
from dicom_node.worker.evidence import gap_of
from storage.blobs import LocalBlobs
from storage.database import Database
from storage.index import Index
from storage.records import Kept
from tests.builders.ct import encode, make_ct_instance, uid
from tests.builders.dimse import Listening
from tests.builders.orthanc import MISSING, PROGRAM, Orthanc, orthanc, two_ports
from tests.builders.queries import answering_queries
from tests.builders.studies import make_peer, make_study

Receive = Callable[..., Kept]


def slices(first: int, last: int, **overrides: object) -> list[Dataset]:
    return [make_ct_instance(number, **overrides) for number in range(first, last + 1)]


@pytest.mark.parametrize(
    ("images", "said"),
    [
        (slices(1, 12), ""),
        (slices(1, 12)[::-1], ""),
        (slices(1, 1), ""),
        (slices(1, 5) + slices(7, 12), "1 of its images are missing by their numbers."),
        (slices(3, 12), "its first image has the number 3."),
        (slices(1, 12, ImagesInAcquisition="13"), "its acquisition has 13 images, 12 are here."),
        # Numbers that go on over a gap in space: the place tells.
        (
            slices(1, 6) + [make_ct_instance(n + 1, InstanceNumber=str(n)) for n in range(7, 12)],
            "about 1 image is missing: a gap of",
        ),
        (slices(1, 6, InstanceNumber=None) + slices(8, 12, InstanceNumber=None), "about 1 image is missing"),
    ],
    ids=["whole", "backwards", "one", "number", "beginning", "announced", "place", "place without numbers"],
)
def test_gaps_are_seen_by_number_and_by_place(
    images: list[Dataset], said: str, database: Database, blobs: LocalBlobs, receive: Receive
) -> None:
    for image in images:
        receive(image)
    found = gap_of(Index(database).inputs_of(uid(1)), blobs)
    assert found.startswith(said) if said else found == ""


@pytest.fixture
def archive(database: Database, blobs: LocalBlobs, receive: Receive) -> Iterator[Listening]:
    """An archive: a receiver of this node over one study of two series, three images and a report."""
    receive(make_ct_instance(1))
    receive(make_ct_instance(2))
    receive(make_ct_instance(3, series=2))
    receive(make_ct_instance(4, series=3, Modality="SR", SOPClassUID="1.2.840.10008.5.1.4.1.1.88.33", PixelData=None))
    with answering_queries(database, blobs) as listening:
        yield listening


def test_an_archive_is_asked_how_many_images_each_series_has(archive: Listening) -> None:
    peer = make_peer(host="127.0.0.1", port=archive.port, ae_title="DICOMNODE")
    counts = ask_by_find(peer, uid(1), calling_ae_title="TEST")
    assert sorted(counts.values()) == [1, 2]
    assert ask_by_find(peer, "1.2.3.4", calling_ae_title="TEST") == {}


def test_no_more_answers_are_waited_for_than_are_wanted(archive: Listening) -> None:
    peer = make_peer(host="127.0.0.1", port=archive.port, ae_title="DICOMNODE")
    asked = identifier("SERIES", StudyInstanceUID=uid(1), SeriesInstanceUID="")
    assert len(find(peer, calling_ae_title="TEST", identifier=asked, most=2)) == 2
    assert len(find(peer, calling_ae_title="TEST", identifier=asked)) == 3


# pynetdicom leaves the closing of a socket that never connected to the collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_archive_that_cannot_be_asked_says_so(archive: Listening) -> None:
    refused: list[type[PeerError]] = []
    for port, title in ((1, "DICOMNODE"), (archive.port, "NOBODY")):
        try:
            ask_by_find(make_peer(host="127.0.0.1", port=port, ae_title=title), uid(1), calling_ae_title="TEST")
        except PeerError as error:
            refused.append(type(error))
    assert refused == [PeerUnreachable, AssociationRejected]
    with pytest.raises(PeerRefused, match="0xA900"):
        find(
            make_peer(host="127.0.0.1", port=archive.port, ae_title="DICOMNODE"),
            calling_ae_title="TEST",
            identifier=identifier("NOWHERE", StudyInstanceUID=uid(1)),
        )


@pytest.fixture
def pacs(tmp_path: Path) -> Iterator[Orthanc]:
    if PROGRAM is None:
        pytest.skip(MISSING)
    with orthanc(tmp_path / "orthanc", two_ports(), {"TEST": ["TEST", "127.0.0.1", 1]}) as started:
        yield started


def test_orthanc_is_counted_twice_while_the_watch_goes_on(pacs: Orthanc) -> None:
    for number in (1, 2, 3):
        pacs.post_file(encode(make_ct_instance(number)))
    peer = make_peer(
        host="127.0.0.1", port=pacs.dicom_port, ae_title="ORTHANC", archive=True, accept=["store"], ask=["counts"]
    )
    now = partial(datetime.now, UTC)
    began = now()
    study = make_study(study_instance_uid=uid(1), last_instance_at=began, number_of_inputs=3)
    with ThreadPoolExecutor(2) as executor:
        counts = ArchiveCounts({"pacs": peer}, partial(ask_by_find, calling_ae_title="TEST"), executor, now)
        while not counts.answered(uid(1)) and (now() - began).total_seconds() < 20:
            counts.consider([study], now())
            time.sleep(0.05)
    took_s = (now() - began).total_seconds()
    (said,) = counts.of(study, {uid(1, 1): 3})
    assert (said.peer, said.images, said.missing, said.proven) == ("pacs", 3, 0, True)
    assert took_s >= 2.0
    (short,) = counts.of(study, {uid(1, 1): 2})
    assert (short.missing, short.proven) == (1, False)
