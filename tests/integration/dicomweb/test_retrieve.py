"""WADO-RS, section by section of PS3.18 (10.4, 8.7), and the traps that viewers set."""

from __future__ import annotations

import zipfile
from io import BytesIO
from xml.etree import ElementTree

import numpy as np
import pytest
from httpx import Client, Response
from PIL import Image
from pydicom import Dataset, dcmread
from pydicom.encaps import encapsulate
from pydicom.pixels import get_encoder
from pydicom.uid import ImplicitVRLittleEndian as Implicit
from pydicom.uid import JPEGLSLossless, RLELossless

from storage.records import Kept
from tests.builders.ct import make_ct_instance, make_ct_series, uid
from tests.builders.parts import parts_of
from tests.builders.web import PaperWeb

EXPLICIT, BIG = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2"
STUDY = f"/dicom-web/studies/{uid(1)}"
SERIES = f"{STUDY}/series/{uid(1, 1)}"
INSTANCE = f"{SERIES}/instances/{uid(1, 1, 1)}"
NATIVE = {"NativeDICOM": "http://dicom.nema.org/PS3.19/models/NativeDICOM"}
#: Source: 16 rows of 16 pixels that differ, so that turned or shifted frames are seen.
PIXELS = np.arange(256, dtype=np.uint16).reshape(16, 16)


def get(client: Client, path: str, accept: str = "*/*", **headers: str) -> Response:
    return client.get(
        path, headers={"Accept": accept, **{name.replace("_", "-"): each for name, each in headers.items()}}
    )


def keep(web: PaperWeb, dataset: Dataset, syntax: str = EXPLICIT) -> Kept:
    return web.receive(dataset, syntax=syntax)


def compressed(syntax: str) -> Dataset:
    made = make_ct_instance(PixelData=PIXELS.tobytes())
    encoder = get_encoder(syntax)
    made.PixelData = encapsulate(
        [encoder.encode(PIXELS, rows=16, columns=16, number_of_frames=1, samples_per_pixel=1, bits_allocated=16,
                        bits_stored=12, pixel_representation=0, photometric_interpretation="MONOCHROME2",
                        pixel_keyword="PixelData")]
    )  # fmt: skip
    made["PixelData"].is_undefined_length = True
    made["PixelData"].VR = "OB"
    return made


@pytest.fixture
def ct(web: PaperWeb) -> Client:
    """Somebody who asks a node with two series: three slices and one."""
    for each in (*make_ct_series(3), make_ct_instance(1, series=2)):
        keep(web, each)
    return web.client()


@pytest.mark.parametrize(("path", "count"), [(STUDY, 4), (SERIES, 3), (INSTANCE, 1)])
def test_10_4_whole_objects_come_in_parts_with_their_transfer_syntax(ct: Client, path: str, count: int) -> None:
    for accept in ("*/*", 'multipart/related; type="application/dicom"', "multipart/related;type=application/dicom"):
        answer = get(ct, path, accept)
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith('multipart/related; type="application/dicom"; boundary=')
        assert int(answer.headers["content-length"]) == len(answer.content)
        found = parts_of(answer)
        assert [part.kind for part in found] == [f"application/dicom; transfer-syntax={EXPLICIT}"] * count
        uids = {str(dcmread(BytesIO(part.content)).SOPInstanceUID) for part in found}
        assert len(uids) == count


def test_10_4_one_object_comes_alone_where_that_is_asked_for(ct: Client, web: PaperWeb) -> None:
    for accept in ("application/dicom", "application/dicom; transfer-syntax=*", "text/html, application/dicom;q=0.1"):
        answer = get(ct, INSTANCE, accept)
        assert answer.headers["content-type"] == f"application/dicom; transfer-syntax={EXPLICIT}"
        record = web.index.instance(uid(1, 1, 1))
        with web.blobs.open(record.path) as file:
            assert answer.content == file.read()
    assert get(ct, f"{INSTANCE}?accept=application/dicom").headers["content-type"].startswith("application/dicom")
    assert get(ct, STUDY, "application/dicom").status_code == 406


def test_10_4_a_zip_file_holds_every_object(ct: Client) -> None:
    answer = get(ct, STUDY, "application/zip")
    assert answer.headers["content-type"] == "application/zip"
    with zipfile.ZipFile(BytesIO(answer.content)) as archive:
        assert archive.testzip() is None
        assert len(archive.namelist()) == 4
        named = archive.read(f"{uid(1, 1)}/{uid(1, 1, 1)}.dcm")
    assert dcmread(BytesIO(named)).SOPInstanceUID == uid(1, 1, 1)


@pytest.mark.parametrize("accept", ["text/html", "image/jpeg", 'multipart/related; type="image/jpeg"', "*/*;q=0"])
def test_8_7_what_cannot_be_given_is_a_406_that_says_what_can(ct: Client, accept: str) -> None:
    answer = get(ct, INSTANCE, accept)
    assert answer.status_code == 406
    assert 'multipart/related; type="application/dicom"' in answer.json()["detail"]


def test_8_7_3_objects_are_explicit_little_endian_unless_asked_for_otherwise(web: PaperWeb) -> None:
    keep(web, make_ct_instance(PixelData=PIXELS.tobytes()), Implicit)
    for accept, syntax in (
        ("application/dicom", EXPLICIT),
        ("application/dicom; transfer-syntax=*", Implicit),
        (f"application/dicom; transfer-syntax={JPEGLSLossless}", JPEGLSLossless),
        (f"application/dicom; transfer-syntax=1.2.840.10008.1.2.4.50, application/dicom; transfer-syntax={BIG}", BIG),
        (
            f"application/dicom; transfer-syntax={RLELossless}; q=0.5, application/dicom; transfer-syntax={Implicit}",
            Implicit,
        ),
    ):
        given = dcmread(BytesIO(get(web.client(), INSTANCE, accept).content))
        assert given.file_meta.TransferSyntaxUID == syntax
        assert np.array_equal(given.pixel_array, PIXELS)
        assert given.SOPInstanceUID == uid(1, 1, 1)


def test_8_7_3_nothing_is_compressed_with_loss(web: PaperWeb) -> None:
    keep(web, make_ct_instance())
    answer = get(web.client(), INSTANCE, "application/dicom; transfer-syntax=1.2.840.10008.1.2.4.50")
    assert answer.status_code == 406
    assert EXPLICIT in answer.json()["detail"]


def test_10_4_3_a_part_of_what_was_asked_for_is_206(web: PaperWeb) -> None:
    # Nothing here writes High-Throughput JPEG 2000: of two objects one is stored so, the other cannot be given so.
    htj2k = "1.2.840.10008.1.2.4.201"
    keep(web, compressed(JPEGLSLossless), htj2k)
    keep(web, make_ct_instance(2))
    accept = f'multipart/related; type="application/dicom"; transfer-syntax={htj2k}'
    answer = get(web.client(), SERIES, accept)
    assert answer.status_code == 206
    assert [part.kind for part in parts_of(answer)] == [f"application/dicom; transfer-syntax={htj2k}"]
    whole = get(web.client(), SERIES, f'{accept}, multipart/related; type="application/dicom"; q=0.1')
    assert whole.status_code == 200
    assert len(parts_of(whole)) == 2


@pytest.mark.parametrize("syntax", [JPEGLSLossless, RLELossless])
def test_10_4_frames_come_as_stored_or_decoded(web: PaperWeb, syntax: str) -> None:
    keep(web, compressed(syntax), syntax)
    client = web.client()
    kinds = {JPEGLSLossless: "image/jls", RLELossless: "image/dicom-rle"}
    stored = f"{kinds[syntax]}; transfer-syntax={syntax}"
    plain = f"application/octet-stream; transfer-syntax={EXPLICIT}"
    for accept, kind in (
        # A viewer's own words, unquoted: as stored.
        ("multipart/related; type=application/octet-stream; transfer-syntax=*", stored),
        (f'multipart/related; type="{kinds[syntax]}"', stored),
        (f'multipart/related; type="{kinds[syntax]}"; transfer-syntax={syntax}', stored),
        ('multipart/related; type="image/*"', stored),
        ("multipart/related; type=application/octet-stream", plain),
        (f"multipart/related; type=application/octet-stream; transfer-syntax={EXPLICIT}", plain),
        ("*/*", plain),
        ("", plain),
    ):
        (part,) = parts_of(get(client, f"{INSTANCE}/frames/1", accept))
        assert part.kind == kind, accept
        assert part.headers["content-location"].endswith("/frames/1")
        if kind == plain:
            assert part.content == PIXELS.tobytes()
    alone = get(client, f"{INSTANCE}/frames/1", kinds[syntax])
    assert alone.headers["content-type"] == stored
    assert get(client, f"{INSTANCE}/frames/1", 'multipart/related; type="image/jpeg"').status_code == 406


@pytest.mark.parametrize("syntax", [Implicit, EXPLICIT, BIG])
def test_10_4_uncompressed_frames_are_little_endian_however_they_are_stored(web: PaperWeb, syntax: str) -> None:
    made = make_ct_instance(NumberOfFrames=2)
    made.PixelData = np.stack([PIXELS, PIXELS + 1]).astype(">u2" if syntax == BIG else "<u2").tobytes()
    keep(web, made, syntax)
    client = web.client()
    for accept in ("multipart/related; type=application/octet-stream; transfer-syntax=*", "*/*"):
        second, first = parts_of(get(client, f"{INSTANCE}/frames/2,1", accept))
        assert second.kind == f"application/octet-stream; transfer-syntax={EXPLICIT}"
        assert second.content == (PIXELS + 1).tobytes()
        assert first.content == PIXELS.tobytes()
    jls = get(client, f"{INSTANCE}/frames/2", 'multipart/related; type="image/jls"')
    assert parts_of(jls)[0].kind == f"image/jls; transfer-syntax={JPEGLSLossless}"


def test_10_4_frames_of_single_bits_begin_at_whole_bytes(web: PaperWeb) -> None:
    made = make_ct_instance(NumberOfFrames=2, Rows=3, Columns=3, BitsAllocated=1, BitsStored=1, HighBit=0)
    made.SOPClassUID, made.Modality = "1.2.840.10008.5.1.4.1.1.66.4", "SEG"
    masks = np.array([[1, 0, 0, 0, 1, 0, 0, 0, 1], [1, 1, 1, 0, 0, 0, 0, 0, 1]], np.uint8)
    made.PixelData = np.packbits(masks.ravel(), bitorder="little").tobytes() + b"\0"
    keep(web, made)
    answer = get(web.client(), f"{INSTANCE}/frames/1,2")
    unpacked = [
        np.unpackbits(np.frombuffer(part.content, np.uint8), bitorder="little")[:9] for part in parts_of(answer)
    ]
    assert np.array_equal(unpacked, masks)


@pytest.mark.parametrize(
    ("frames", "status"),
    [
        ("0", 400),
        ("1,0", 400),
        ("x", 400),
        ("1-2", 400),
        ("", 404),
        ("2", 404),
        ("999999999", 400),
        ("1," * 20_000, 400),
    ],
)
def test_10_4_frames_that_there_are_not_are_told_apart_from_nonsense(ct: Client, frames: str, status: int) -> None:
    assert get(ct, f"{INSTANCE}/frames/{frames}").status_code == status


@pytest.mark.parametrize(("path", "count"), [(STUDY, 4), (SERIES, 3), (INSTANCE, 1)])
def test_10_4_metadata_has_all_but_bulk_data(ct: Client, path: str, count: int) -> None:
    for accept in (
        "",
        "*/*",
        "application/dicom+json",
        "application/json",
        'multipart/related; type="application/dicom+json"',
    ):
        rows = get(ct, f"{path}/metadata", accept).json()
        assert len(rows) == count
    assert rows[0]["00100010"] == {"vr": "PN", "Value": [{"Alphabetic": "Test^Quiet"}]}
    assert rows[0]["00083002"]["Value"] == [EXPLICIT]
    assert rows[0]["7FE00010"]["BulkDataURI"].startswith("http://127.0.0.1:8080/dicom-web/studies/")
    assert "Value" not in rows[0]["7FE00010"]
    assert not [name for name in rows[0] if name.startswith("0002")]


def test_10_4_metadata_in_xml_says_the_same(ct: Client) -> None:
    answer = get(ct, f"{SERIES}/metadata", 'multipart/related; type="application/dicom+xml"')
    first, *_ = parts_of(answer)
    assert first.kind == "application/dicom+xml"
    root = ElementTree.fromstring(first.content)  # noqa: S314 (it is ours)
    assert root.tag == f"{{{NATIVE['NativeDICOM']}}}NativeDicomModel"
    name = root.find(".//NativeDICOM:DicomAttribute[@tag='00100010']//NativeDICOM:FamilyName", NATIVE)
    assert name is not None
    assert name.text == "Test"
    position = root.findall(".//NativeDICOM:DicomAttribute[@keyword='ImagePositionPatient']/NativeDICOM:Value", NATIVE)
    assert [value.get("number") for value in position] == ["1", "2", "3"]
    bulk = root.find(".//NativeDICOM:DicomAttribute[@tag='7FE00010']/NativeDICOM:BulkData", NATIVE)
    assert bulk is not None
    assert get(ct, str(bulk.get("uri"))).status_code == 200


def test_10_4_bulk_data_resolve_in_every_form(web: PaperWeb) -> None:
    item = Dataset()
    item.add_new(0x00091001, "OB", b"\1\2" * 700_000)
    keep(web, make_ct_instance(PixelData=PIXELS.tobytes(), RequestAttributesSequence=[item]))
    client = web.client()
    uri = client.get(f"{INSTANCE}/metadata").json()[0]["7FE00010"]["BulkDataURI"]
    plain = get(client, uri)
    assert plain.content == PIXELS.tobytes()
    assert plain.headers["content-type"] == "application/octet-stream"
    (part,) = parts_of(get(client, uri, 'multipart/related; type="application/octet-stream"'))
    assert part.content == PIXELS.tobytes()
    said = client.get(f"{INSTANCE}/metadata").json()[0]["00400275"]["Value"][0]["00091001"]
    assert said["BulkDataURI"].endswith("/bulkdata/00400275/1/00091001")
    inside = get(client, f"{INSTANCE}/bulkdata/00400275/1/00091001")
    assert inside.content == b"\1\2" * 700_000
    for path, status in (
        ("00100010", 404),
        ("00400275/2/00091001", 404),
        ("00400275/0/00091001", 404),
        ("7FE0", 400),
        ("../../x", 400),
        ("x", 400),
    ):
        assert get(client, f"{INSTANCE}/bulkdata/{path.replace('..', '%2e%2e')}").status_code == status


def test_10_4_pictures_come_in_the_form_that_is_asked_for(ct: Client) -> None:
    for level in (STUDY, SERIES, INSTANCE, f"{INSTANCE}/frames/1"):
        for what in ("rendered", "thumbnail"):
            for path, accept, form in (
                (f"{level}/{what}", "*/*", "JPEG"),
                (f"{level}/{what}", "image/png", "PNG"),
                (f"{level}/{what}?accept=image/jpeg", "*/*", "JPEG"),
                (f"{level}/{what}?accept=image%2Fpng", "image/jpeg", "PNG"),
                (f"{level}/{what}", "image/avif,image/webp,image/apng,image/svg+xml,image/*,*/*;q=0.8", "JPEG"),
            ):
                answer = get(ct, path, accept)
                assert answer.status_code == 200, (path, answer.text)
                assert Image.open(BytesIO(answer.content)).format == form
    assert get(ct, f"{INSTANCE}/rendered", "text/html").status_code == 406


def test_8_3_5_a_picture_follows_window_viewport_and_quality(web: PaperWeb) -> None:
    keep(web, make_ct_instance(PixelData=PIXELS.tobytes(), RescaleIntercept="0"))
    client = web.client()

    def picture(**query: str) -> Image.Image:
        answer = client.get(f"{INSTANCE}/rendered", params={"accept": "image/png", **query})
        assert answer.status_code == 200, answer.text
        return Image.open(BytesIO(answer.content))

    dark, bright = np.asarray(picture(window="300,10,linear")), np.asarray(picture(window="-300,10,linear"))
    assert dark.max() == 0
    assert bright.min() == 255
    assert picture(viewport="64,32").size == (32, 32)
    assert picture(viewport="8,8,0,0,8,8").size == (8, 8)
    left = np.asarray(picture(viewport="16,16,0,0,16,16", window="128,256,linear"))
    mirrored = np.asarray(picture(viewport="16,16,0,0,-16,16", window="128,256,linear"))
    assert np.array_equal(left[:, ::-1], mirrored)
    small = client.get(f"{INSTANCE}/rendered?quality=1").content
    assert len(small) < len(client.get(f"{INSTANCE}/rendered?quality=100").content)
    plain = np.asarray(picture(viewport="256,256").convert("RGB"))
    assert not np.array_equal(plain, np.asarray(picture(viewport="256,256", annotation="patient,technique")))


@pytest.mark.parametrize(
    "query",
    ["window=1", "window=a,b,linear", "window=nan,1,linear", "window=1,0,linear", "window=1,2,cubic", "viewport=0,0",
     "viewport=1", "viewport=99999,1", "viewport=1,1,900,900,1,1", "quality=0", "quality=x", "annotation=script"],
)  # fmt: skip
def test_8_3_5_what_cannot_be_rendered_is_a_bad_request(ct: Client, query: str) -> None:
    assert get(ct, f"{INSTANCE}/rendered?{query}").status_code == 400


def test_10_4_several_frames_move(web: PaperWeb) -> None:
    frames = np.stack([np.roll(PIXELS, 50 * number) for number in range(4)])
    keep(web, make_ct_instance(NumberOfFrames=4, PixelData=frames.tobytes()))
    answer = get(web.client(), f"{INSTANCE}/rendered", "image/gif")
    moving = Image.open(BytesIO(answer.content))
    assert moving.format == "GIF"
    assert getattr(moving, "n_frames", 1) == 4


def test_10_4_a_report_is_rendered_as_text(web: PaperWeb) -> None:
    keep(web, make_ct_instance(SOPClassUID="1.2.840.10008.5.1.4.1.1.88.34", Modality="SR", PixelData=None))
    web.readings.texts[uid(1, 1, 1)] = "Finding <b>"
    plain = get(web.client(), f"{INSTANCE}/rendered", "text/plain")
    assert plain.text == "Finding <b>"
    page = get(web.client(), f"{INSTANCE}/rendered")
    assert page.headers["content-type"].startswith("text/html")
    assert "Finding &lt;b&gt;" in page.text
    assert get(web.client(), f"{INSTANCE}/frames/1").status_code == 404
    assert get(web.client(), f"{INSTANCE}/thumbnail").status_code == 404


def test_8_4_what_a_caller_has_already_is_not_sent_again(ct: Client) -> None:
    for path, accept in (
        (STUDY, "*/*"), (INSTANCE, "application/dicom"), (f"{SERIES}/metadata", "*/*"), (f"{INSTANCE}/frames/1", "*/*"),
        (f"{INSTANCE}/rendered", "*/*"), (f"{INSTANCE}/thumbnail", "*/*"), (f"{INSTANCE}/bulkdata/7FE00010", "*/*"),
    ):  # fmt: skip
        answer = get(ct, path, accept)
        tag, modified = answer.headers["etag"], answer.headers.get("last-modified", "")
        assert modified or path.endswith("/metadata")
        assert answer.headers["cache-control"] == "private, no-cache"
        assert get(ct, path, accept, If_None_Match=tag).status_code == 304
        weak = f"W/{tag.removeprefix('W/')}"
        assert get(ct, path, accept, If_None_Match=f'"other", {weak}').status_code == 304
        assert get(ct, path, accept, If_None_Match='"other"').status_code == 200
        assert get(ct, path, accept, If_Modified_Since=modified).status_code == (304 if modified else 200)
        assert get(ct, path, accept, If_Modified_Since="Thu, 01 Jan 1970 00:00:00 GMT").status_code == 200
        assert get(ct, path, accept, If_Modified_Since="nonsense").status_code == 200
    assert get(ct, f"{INSTANCE}/frames/1").headers["etag"] != get(ct, INSTANCE).headers["etag"]


def test_8_4_a_piece_of_an_object_can_be_had(ct: Client) -> None:
    whole = get(ct, INSTANCE, "application/dicom")
    assert whole.headers["accept-ranges"] == "bytes"
    size = len(whole.content)
    for asked, expected in (
        ("bytes=0-131", whole.content[:132]),
        ("bytes=128-", whole.content[128:]),
        ("bytes=-10", whole.content[-10:]),
        (f"bytes=10-{size + 99}", whole.content[10:]),
    ):
        piece = get(ct, INSTANCE, "application/dicom", Range=asked)
        assert piece.status_code == 206
        assert piece.content == expected
        assert piece.headers["content-range"].endswith(f"/{size}")
    assert get(ct, INSTANCE, "application/dicom", Range=f"bytes={size}-").status_code == 416
    assert get(ct, INSTANCE, "application/dicom", Range="bytes=-0").status_code == 416
    for ignored in ("bytes=0-1,5-9", "lines=1-2", "bytes=-", "nonsense"):
        assert get(ct, INSTANCE, "application/dicom", Range=ignored).status_code == 200
    assert get(ct, INSTANCE, "application/dicom", Range="bytes=0-1", If_Range='"other"').status_code == 200
    assert get(ct, INSTANCE, "application/dicom", Range="bytes=0-1", If_Range=whole.headers["etag"]).status_code == 206


def test_what_is_broken_inside_is_an_answer_and_no_crash(web: PaperWeb) -> None:
    keep(web, make_ct_instance(1, Rows=60_000, Columns=60_000))
    keep(web, make_ct_instance(2, PixelData=b"\0\0"))
    keep(web, make_ct_instance(3, Rows=None))
    client = web.client()
    for number in (1, 2, 3):
        path = f"{SERIES}/instances/{uid(1, 1, number)}"
        for what in ("frames/1", "rendered", "thumbnail"):
            # Without rows there are no frames.
            assert get(client, f"{path}/{what}").status_code in ((404, 422) if number == 3 else (422,)), (number, what)
        assert get(client, f"{path}/metadata").status_code == 200
        assert get(client, path).status_code == 200


def test_names_of_other_levels_name_nothing(ct: Client) -> None:
    for path in (
        f"{STUDY}/series/{uid(1, 9)}",
        f"{STUDY}/series/{uid(1, 2)}/instances/{uid(1, 1, 1)}",
        f"/dicom-web/studies/{uid(2)}/series/{uid(1, 1)}/instances/{uid(1, 1, 1)}",
    ):
        for what in ("", "/metadata", "/rendered"):
            assert get(ct, f"{path}{what}").status_code == 404
