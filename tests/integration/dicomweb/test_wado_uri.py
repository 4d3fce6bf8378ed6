"""WADO-URI. Source: PS3.18 9."""

from __future__ import annotations

from io import BytesIO

import numpy as np
import pytest
from httpx import Client, Response
from PIL import Image
from pydicom import dcmread

from tests.builders.ct import make_ct_instance, uid
from tests.builders.web import PaperWeb

NAMED = {"requestType": "WADO", "studyUID": uid(1), "seriesUID": uid(1, 1), "objectUID": uid(1, 1, 1)}
PIXELS = np.arange(256, dtype=np.uint16).reshape(16, 16)


@pytest.fixture
def ct(web: PaperWeb) -> Client:
    """Somebody who asks a node with one slice, kept as Implicit VR."""
    web.receive(make_ct_instance(PixelData=PIXELS.tobytes(), RescaleIntercept="0"), syntax="1.2.840.10008.1.2")
    return web.client()


def wado(client: Client, **query: str) -> Response:
    return client.get("/wado", params={**NAMED, **query})


def test_9_1_an_object_is_a_jpeg_unless_asked_for_otherwise(ct: Client) -> None:
    answer = wado(ct)
    assert answer.headers["content-type"] == "image/jpeg"
    assert Image.open(BytesIO(answer.content)).size == (16, 16)
    assert wado(ct, contentType="image/png").headers["content-type"] == "image/png"
    assert wado(ct, contentType="text/html").status_code == 406


def test_9_1_an_object_comes_as_dicom_in_a_transfer_syntax(ct: Client) -> None:
    for query, syntax in (
        ({}, "1.2.840.10008.1.2.1"),
        ({"transferSyntax": "1.2.840.10008.1.2"}, "1.2.840.10008.1.2"),
        ({"transferSyntax": "1.2.840.10008.1.2.4.80"}, "1.2.840.10008.1.2.4.80"),
    ):
        answer = wado(ct, contentType="application/dicom", **query)
        given = dcmread(BytesIO(answer.content))
        assert given.file_meta.TransferSyntaxUID == syntax
        assert np.array_equal(given.pixel_array, PIXELS)
    lossy = wado(ct, contentType="application/dicom", transferSyntax="1.2.840.10008.1.2.4.50")
    assert lossy.status_code == 406


def test_9_1_2_2_a_picture_follows_its_parameters(ct: Client) -> None:
    def picture(**query: str) -> Image.Image:
        return Image.open(BytesIO(wado(ct, contentType="image/png", **query).content))

    assert picture(rows="8").size == (8, 8)
    assert picture(rows="64", columns="32").size == (32, 32)
    assert np.asarray(picture(windowCenter="-300", windowWidth="10")).min() == 255
    assert wado(ct, frameNumber="2").status_code == 404


@pytest.mark.parametrize(
    "query",
    [{"requestType": "x"}, {"studyUID": ""}, {"objectUID": "../x"}, {"frameNumber": "0"}, {"rows": "x"},
     {"columns": "0"}, {"windowCenter": "1"}, {"imageQuality": "101"}, {"anonymize": "yes"}],
)  # fmt: skip
def test_what_is_no_request_is_a_bad_request(ct: Client, query: dict[str, str]) -> None:
    assert wado(ct, **query).status_code == 400


def test_an_object_of_another_study_is_not_there(ct: Client) -> None:
    assert wado(ct, studyUID=uid(2)).status_code == 404
    assert wado(ct, objectUID=uid(9)).status_code == 404
