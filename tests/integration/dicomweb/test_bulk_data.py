"""Bulk data and pixel data at each level. Source: PS3.18 10.4.1.1.5, 10.4.1.1.6."""

from __future__ import annotations

from email.parser import BytesParser
from email.policy import HTTP
from io import BytesIO

import pytest
from httpx import Client, Response
from pydicom import Dataset

from tests.builders.codecs import in_syntax, noise
from tests.builders.ct import make_ct_instance, uid
from tests.builders.web import SENDER, PaperWeb

STUDY = f"/dicom-web/studies/{uid(1)}"
SERIES = f"{STUDY}/series/{uid(1, 1)}"
INSTANCE = f"{SERIES}/instances/{uid(1, 1, 1)}"
JPEG_LS = "1.2.840.10008.1.2.4.80"


def parts(answer: Response) -> list[tuple[str, str, bytes]]:
    """Give each part's location, type and bytes."""
    head = f"Content-Type: {answer.headers['content-type']}\r\n\r\n".encode()
    message = BytesParser(policy=HTTP).parsebytes(head + answer.content)
    return [
        (str(each["Content-Location"]), str(each["Content-Type"]), bytes(each.get_payload(decode=True) or b""))
        for each in message.iter_parts()  # type: ignore[attr-defined]
    ]


@pytest.fixture
def images(web: PaperWeb) -> list[Dataset]:
    """Two images, one with another large value, and a report without pixels."""
    made = [make_ct_instance(number, Rows=32, Columns=32, PixelData=noise().tobytes()) for number in (1, 2)]
    made[1].add_new(0x00420011, "OB", b"%PDF" * 500)
    for each in made:
        web.receive(each)
    report = make_ct_instance(1, series=2, SOPClassUID="1.2.840.10008.5.1.4.1.1.88.33", Modality="SR", PixelData=None)
    web.receive(report)
    return made


@pytest.mark.parametrize("level", [STUDY, SERIES])
def test_10_4_1_1_6_pixel_data_come_in_a_part_for_each_image(client: Client, images: list[Dataset], level: str) -> None:
    answer = client.get(f"{level}/pixeldata", headers={"Accept": 'multipart/related; type="application/octet-stream"'})
    assert answer.status_code == 200
    given = parts(answer)
    assert [content for _, _, content in given] == [each.PixelData for each in images]
    assert all("application/octet-stream" in kind and "1.2.840.10008.1.2.1" in kind for _, kind, _ in given)
    for location, _, content in given:
        assert client.get(location, headers={"Accept": "application/octet-stream"}).content == content


def test_10_4_1_1_6_compressed_pixels_come_decoded_or_as_they_are_stored(web: PaperWeb, client: Client) -> None:
    made = make_ct_instance(Rows=32, Columns=32, PixelData=noise().tobytes())
    web.intake.receive(BytesIO(in_syntax(made, JPEG_LS)), SENDER)
    ((_, kind, content),) = parts(client.get(f"{INSTANCE}/pixeldata"))
    assert content == made.PixelData
    accept = {"Accept": "multipart/related; type=application/octet-stream; transfer-syntax=*"}
    ((location, kind, stored),) = parts(client.get(f"{INSTANCE}/pixeldata", headers=accept))
    assert "image/jls" in kind
    assert len(stored) < len(content)
    assert location == f"{INSTANCE}/frames/1"


@pytest.mark.parametrize("level", [STUDY, SERIES])
def test_10_4_1_1_5_all_that_metadata_give_by_reference_comes_in_parts(
    client: Client, images: list[Dataset], level: str
) -> None:
    given = parts(client.get(f"{level}/bulkdata"))
    expected = [images[0].PixelData, images[1].EncapsulatedDocument, images[1].PixelData]
    assert [content for _, _, content in given] == expected
    metadata = client.get(f"{level}/metadata").json()
    named = [each[tag]["BulkDataURI"] for each in metadata for tag in sorted(each) if "BulkDataURI" in each[tag]]
    assert [f"http://127.0.0.1:8080{location}" for location, _, _ in given] == named


def test_what_has_no_such_data_is_not_found_and_what_cannot_be_had_not_acceptable(
    client: Client, images: list[Dataset]
) -> None:
    report = f"{STUDY}/series/{uid(1, 2)}"
    assert client.get(f"{report}/pixeldata").status_code == 404
    assert client.get(f"{report}/bulkdata").status_code == 404
    assert client.get(f"/dicom-web/studies/{uid(5)}/pixeldata").status_code == 404
    for what in ("pixeldata", "bulkdata"):
        assert client.get(f"{STUDY}/{what}", headers={"Accept": "image/png"}).status_code == 406
        etag = client.get(f"{STUDY}/{what}").headers["etag"]
        assert client.get(f"{STUDY}/{what}", headers={"If-None-Match": etag}).status_code == 304


def test_a_range_of_pixel_data_is_read_where_it_stands(client: Client, images: list[Dataset]) -> None:
    path = f"{INSTANCE}/bulkdata/7FE00010"
    headers = {"Accept": "application/octet-stream", "Range": "bytes=100-199"}
    answer = client.get(path, headers=headers)
    assert answer.status_code == 206
    assert answer.content == images[0].PixelData[100:200]
