"""A DICOMweb client that others wrote, and raw HTTP, against the real server on both databases."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from io import BytesIO

import httpx
import numpy as np
import pytest
from dicomweb_client.api import DICOMwebClient
from PIL import Image
from pydicom import dcmread

from configs.settings import Settings
from storage.blobs import LocalBlobs
from storage.database import Database
from storage.jobs import prepare_queue
from tests.builders.ct import encode, make_ct_instance, make_ct_series, uid
from tests.builders.parts import parts_of
from tests.builders.serving import served
from tests.builders.web import PaperWeb

PIXELS = np.arange(256, dtype=np.uint16).reshape(16, 16)
STUDY, SERIES = uid(1), uid(1, 1)


@pytest.fixture
def web(database: Database, blobs: LocalBlobs) -> Iterator[PaperWeb]:
    """The application on both engines, with a series of three slices."""
    prepare_queue(database.url)
    made = PaperWeb(database, blobs, Settings.model_validate({"disk": {"reserve_mb": 0}}))
    for each in make_ct_series(3, PixelData=PIXELS.tobytes()):
        made.receive(each)
    yield made
    made.close()


@pytest.fixture
def url(web: PaperWeb) -> Iterator[str]:
    """Its address, while it is served."""
    with served(web.app) as address:
        yield address


def test_a_client_of_others_finds_and_retrieves_everything(url: str) -> None:
    client = DICOMwebClient(f"{url}/dicom-web")
    (study,) = client.search_for_studies(search_filters={"PatientName": "test*"}, fields=["StudyDescription"], limit=5)
    assert study["0020000D"]["Value"] == [STUDY]
    assert study["00081030"]["Value"] == ["Test chest"]
    assert client.search_for_studies(search_filters={"PatientID": "none"}) == []
    assert len(client.search_for_series(STUDY)) == 1
    assert len(client.search_for_instances(STUDY, SERIES)) == 3
    assert len(client.search_for_instances(get_remaining=True)) == 3
    assert len(client.retrieve_study(STUDY)) == 3
    assert len(client.retrieve_series(STUDY, SERIES)) == 3
    whole = client.retrieve_instance(STUDY, SERIES, uid(1, 1, 2))
    assert np.array_equal(whole.pixel_array, PIXELS)
    metadata = client.retrieve_series_metadata(STUDY, SERIES)
    assert len(metadata) == 3
    frames = client.retrieve_instance_frames(STUDY, SERIES, uid(1, 1, 1), [1])
    assert frames == [PIXELS.tobytes()]
    picture = client.retrieve_instance_rendered(STUDY, SERIES, uid(1, 1, 1), media_types=("image/png",))
    assert Image.open(BytesIO(picture)).size == (16, 16)
    (bulk,) = client.retrieve_bulkdata(metadata[0]["7FE00010"]["BulkDataURI"])
    assert bulk == PIXELS.tobytes()


def test_a_client_of_others_stores_and_finds_again(url: str) -> None:
    client = DICOMwebClient(f"{url}/dicom-web")
    sent = [dcmread(BytesIO(encode(each))) for each in make_ct_series(2, study=7)]
    answer = client.store_instances(sent)
    assert len(answer.ReferencedSOPSequence) == 2
    assert "FailedSOPSequence" not in answer
    assert len(client.retrieve_study(uid(7))) == 2


def test_a_key_opens_a_node_behind_a_proxy(web: PaperWeb) -> None:
    forwarded = {"Forwarded": "for=10.1.2.3"}
    with served(web.app) as address, httpx.Client(base_url=address, headers=forwarded) as session:
        assert session.get("/dicom-web/studies").status_code == 401
        key = web.key("viewer", "read")
        assert session.get("/dicom-web/studies", headers={"Authorization": f"Bearer {key}"}).status_code == 200
        assert session.get("/dicom-web/studies", auth=("viewer", key)).status_code == 200


def test_a_viewer_opens_a_study_in_its_own_words(url: str) -> None:
    # Query strings and Accept as a common viewer sends them, byte for byte.
    fields = "includefield=00081030%2C00080060%2C00080090%2C00100030"
    listed = httpx.get(f"{url}/dicom-web/studies?limit=101&offset=0&fuzzymatching=true&{fields}")
    (row,) = listed.json()
    assert row["00081030"]["Value"] == ["Test chest"]
    assert row["00080061"]["Value"] == ["CT"]
    assert row["00201208"]["Value"] == [3]
    series = httpx.get(f"{url}/dicom-web/studies/{STUDY}/series?includefield=00080021%2C00080031%2C0008103E%2C00200011")
    assert series.json()[0]["0008103E"]["Value"] == ["Series 1"]
    metadata = httpx.get(f"{url}/dicom-web/studies/{STUDY}/series/{SERIES}/metadata").json()
    assert metadata[0]["7FE00010"]["BulkDataURI"].startswith(url)
    place = f"{url}/dicom-web/studies/{STUDY}/series/{SERIES}/instances/{uid(1, 1, 1)}"
    accept = "multipart/related; type=application/octet-stream; transfer-syntax=*"
    (frame,) = parts_of(httpx.get(f"{place}/frames/1", headers={"Accept": accept}))
    assert frame.kind == "application/octet-stream; transfer-syntax=1.2.840.10008.1.2.1"
    assert frame.content == PIXELS.tobytes()
    (whole,) = parts_of(httpx.get(place, headers={"Accept": 'multipart/related; type="application/dicom"'}))
    assert dcmread(BytesIO(whole.content)).SOPInstanceUID == uid(1, 1, 1)
    image = httpx.get(f"{place}/rendered?accept=image/jpeg", headers={"Accept": "*/*"})
    assert image.headers["content-type"] == "image/jpeg"


def test_a_caller_that_goes_away_while_storing_leaves_nothing(web: PaperWeb, url: str) -> None:
    port = int(url.rsplit(":", 1)[1])
    body = b"--b\r\nContent-Type: application/dicom\r\n\r\n" + encode(make_ct_instance(study=9))
    with socket.create_connection(("127.0.0.1", port)) as raw:
        head = (
            f"POST /dicom-web/studies HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Length: 100000\r\n"
            'Content-Type: multipart/related; type="application/dicom"; boundary=b\r\n\r\n'
        )
        raw.sendall(head.encode() + body)
    assert httpx.get(f"{url}/live").status_code == 200
    assert web.index.instances_of(uid(9)) == []


@pytest.mark.parametrize(
    "sent",
    [
        b"GET /dicom-web/studies HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01",
        b"GET /dicom-web/studies/../../etc/passwd HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /" + b"a" * 200_000 + b" HTTP/1.1\r\n\r\n",
    ],
)
def test_what_is_hardly_http_is_refused_and_the_node_goes_on(url: str, sent: bytes) -> None:
    port = int(url.rsplit(":", 1)[1])
    with socket.create_connection(("127.0.0.1", port), timeout=10) as raw:
        raw.sendall(sent)
        raw.shutdown(socket.SHUT_WR)
        answer = raw.recv(65536)
    assert b" 200 " not in answer.split(b"\r\n")[0]
    assert httpx.get(f"{url}/live").status_code == 200
