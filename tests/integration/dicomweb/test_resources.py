"""What holds for every resource of retrieval, by PS3.18 8.3.3, 8.4, 8.7 and 10.4.1."""

from __future__ import annotations

from io import BytesIO

import numpy as np
import pytest
from httpx import Client
from PIL import Image
from pydicom import dcmread
from pydicom.encaps import encapsulate
from pydicom.uid import JPEG2000Lossless, JPEGBaseline8Bit, JPEGLSLossless, RLELossless

from tests.builders.codecs import LOSSLESS, in_syntax
from tests.builders.ct import make_ct_instance, make_ct_series, uid
from tests.builders.parts import parts_of
from tests.builders.web import SENDER, PaperWeb

IMPLICIT, EXPLICIT, DEFLATED, BIG = (f"1.2.840.10008.1.2{rest}" for rest in ("", ".1", ".1.99", ".2"))
STUDY = f"/dicom-web/studies/{uid(1)}"
SERIES = f"{STUDY}/series/{uid(1, 1)}"
INSTANCE = f"{SERIES}/instances/{uid(1, 1, 1)}"
LEVELS = (STUDY, SERIES, INSTANCE)
RESOURCES = [
    *(f"{level}{what}" for level in LEVELS for what in ("", "/metadata", "/rendered", "/thumbnail", "/pixeldata")),
    *(f"{level}/bulkdata" for level in LEVELS),
    *(f"{INSTANCE}{what}" for what in ("/frames/1", "/frames/1/rendered", "/frames/1/thumbnail", "/bulkdata/7FE00010")),
]
#: Of the size that every codec takes.
PIXELS = np.random.default_rng(1).integers(0, 4096, (64, 64), dtype=np.uint16)


@pytest.fixture
def ct(web: PaperWeb) -> Client:
    """Somebody who asks a node with a series of three slices."""
    for each in make_ct_series(3, Rows=64, Columns=64, PixelData=PIXELS.tobytes()):
        web.receive(each)
    return web.client()


@pytest.mark.parametrize("path", RESOURCES)
def test_8_4_every_resource_answers_get_head_and_options(ct: Client, path: str) -> None:
    got = ct.get(path)
    assert got.status_code == 200
    head = ct.head(path)
    assert (head.status_code, head.content) == (200, b"")
    for name in ("content-length", "etag"):
        assert head.headers.get(name) == got.headers.get(name)
    assert {"GET", "HEAD", "OPTIONS"} <= set(ct.options(path).headers["allow"].split(", "))
    assert ct.get(path, headers={"If-None-Match": got.headers["etag"]}).status_code == 304
    assert ct.delete(path).status_code == 405
    elsewhere = path.replace(uid(1), uid(9), 1)
    assert ct.get(elsewhere).status_code == 404


@pytest.mark.parametrize(
    ("path", "asked", "given"),
    [
        (STUDY, "application/zip", "application/zip"),
        (INSTANCE, "application/dicom", f"application/dicom; transfer-syntax={EXPLICIT}"),
        (f"{STUDY}/metadata", "application/json", "application/json"),
        (f"{SERIES}/metadata", "application/dicom+xml", "multipart/related"),
        (f"{INSTANCE}/metadata", "application/dicom%2Bxml", "multipart/related"),
        (f"{INSTANCE}/frames/1", "application/octet-stream", f"application/octet-stream; transfer-syntax={EXPLICIT}"),
        (f"{INSTANCE}/frames/1", "image/jls", f"image/jls; transfer-syntax={JPEGLSLossless}"),
        (f"{SERIES}/rendered", "image/png", "image/png"),
        (f"{STUDY}/thumbnail", "image/png", "image/png"),
    ],
)
def test_8_3_3_1_the_media_type_in_the_query_goes_before_the_header(
    ct: Client, path: str, asked: str, given: str
) -> None:
    answer = ct.get(f"{path}?accept={asked}", headers={"Accept": "text/csv"})
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith(given)


@pytest.mark.parametrize("path", RESOURCES)
def test_8_7_where_nothing_is_acceptable_the_answer_says_what_there_is(ct: Client, path: str) -> None:
    answer = ct.get(path, headers={"Accept": "text/csv"})
    assert answer.status_code == 406
    assert "vailable: " in answer.json()["detail"]


def test_10_4_several_frames_and_bulk_data_come_in_parts_and_single_ones_alone_where_asked(ct: Client) -> None:
    frame, bulk = f"{INSTANCE}/frames/1", f"{INSTANCE}/bulkdata/7FE00010"
    for path in (frame, bulk):
        alone = ct.get(path, headers={"Accept": "application/octet-stream"})
        assert alone.headers["content-type"].startswith("application/octet-stream")
        assert alone.content == PIXELS.tobytes()
        (part,) = parts_of(ct.get(path, headers={"Accept": "multipart/related; type=application/octet-stream"}))
        assert part.content == PIXELS.tobytes()
        piece = ct.get(path, headers={"Accept": "application/octet-stream", "Range": "bytes=2-9"})
        assert (piece.status_code, piece.content) == (206, PIXELS.tobytes()[2:10])


@pytest.mark.parametrize("stored", LOSSLESS)
def test_8_7_3_objects_and_frames_come_in_each_lossless_transfer_syntax(web: PaperWeb, stored: str) -> None:
    made = make_ct_instance(Rows=64, Columns=64, PixelData=PIXELS.tobytes())
    web.intake.receive(BytesIO(in_syntax(made, stored)), SENDER)
    client = web.client()
    for target in (IMPLICIT, EXPLICIT, DEFLATED, BIG, RLELossless, JPEGLSLossless, JPEG2000Lossless):
        answer = client.get(INSTANCE, headers={"Accept": f"application/dicom; transfer-syntax={target}"})
        assert answer.status_code == 200, (target, answer.text)
        given = dcmread(BytesIO(answer.content))
        assert given.file_meta.TransferSyntaxUID == target
        assert np.array_equal(given.pixel_array, PIXELS)
        assert "LossyImageCompression" not in given
    for kind, target in (
        ("application/octet-stream", EXPLICIT),
        ("image/dicom-rle", RLELossless),
        ("image/jls", JPEGLSLossless),
        ("image/jp2", JPEG2000Lossless),
    ):
        accept = f"multipart/related; type={kind}; transfer-syntax={target}"
        (part,) = parts_of(client.get(f"{INSTANCE}/frames/1", headers={"Accept": accept}))
        assert part.kind == f"{kind}; transfer-syntax={target}"


def test_8_7_3_a_jpeg_is_given_as_it_is_or_decoded_and_never_made_anew(web: PaperWeb) -> None:
    grey = np.add.outer(np.arange(64), np.arange(64)).astype(np.uint8)
    buffer = BytesIO()
    Image.fromarray(grey).save(buffer, "JPEG", quality=95)
    made = make_ct_instance(Rows=64, Columns=64, BitsAllocated=8, BitsStored=8, HighBit=7, PixelRepresentation=0)
    made.PixelData = encapsulate([buffer.getvalue()])
    made["PixelData"].is_undefined_length = True
    made["PixelData"].VR = "OB"
    web.receive(made, syntax=JPEGBaseline8Bit)
    client = web.client()
    viewers_words = "multipart/related; type=application/octet-stream; transfer-syntax=*"
    (stored,) = parts_of(client.get(f"{INSTANCE}/frames/1", headers={"Accept": viewers_words}))
    assert stored.kind == f"image/jpeg; transfer-syntax={JPEGBaseline8Bit}"
    assert stored.content.rstrip(b"\0") == buffer.getvalue().rstrip(b"\0")
    plain = client.get(f"{INSTANCE}/frames/1", headers={"Accept": "application/octet-stream"}).content
    assert np.abs(np.frombuffer(plain, np.uint8).reshape(64, 64).astype(int) - grey).max() <= 4
    whole = client.get(INSTANCE, headers={"Accept": f"application/dicom; transfer-syntax={JPEGLSLossless}"})
    assert np.array_equal(dcmread(BytesIO(whole.content)).pixel_array.tobytes(), plain)
    assert client.get(INSTANCE, headers={"Accept": "application/dicom"}).status_code == 200


def test_8_3_5_an_animation_follows_window_viewport_and_annotation(web: PaperWeb) -> None:
    frames = np.stack([np.roll(PIXELS, 700 * number) for number in range(5)])
    web.receive(make_ct_instance(Rows=64, Columns=64, NumberOfFrames=5, PixelData=frames.tobytes()))
    client = web.client()

    def animation(query: str = "", path: str = INSTANCE) -> Image.Image:
        answer = client.get(f"{path}/rendered?accept=image/gif{query}")
        assert answer.headers["content-type"] == "image/gif"
        return Image.open(BytesIO(answer.content))

    plain = animation("&viewport=256,256")
    assert (getattr(plain, "n_frames", 1), plain.size) == (5, (256, 256))
    chosen = animation(path=f"{INSTANCE}/frames/2,4")
    assert (getattr(chosen, "n_frames", 1), chosen.size) == (2, (64, 64))
    dark = animation("&viewport=256,256&window=9000,10,linear")
    assert np.asarray(dark.convert("L")).max() == 0
    named = animation("&viewport=256,256&window=9000,10,linear&annotation=patient")
    assert np.asarray(named.convert("L")).max() > 0
