"""STOW-RS of metadata with bulk data beside them. Source: PS3.18 10.5.2, 8.7.3.5, F.2."""

from __future__ import annotations

import os
from io import BytesIO
from pathlib import Path
from typing import Any

import orjson
import pytest
from httpx import Client, Response
from pydicom import Dataset, dcmread
from pydicom.encaps import generate_frames

from dicomweb.native_xml import native_xml
from inference.part10 import read_source
from tests.builders.ct import encode, make_ct_instance, make_ct_series, uid
from tests.builders.web import PaperWeb

STUDIES = "/dicom-web/studies"
JSON, XML = "application/dicom+json", "application/dicom+xml"
REFERENCED, FAILED, OTHERS, REASON = "00081199", "00081198", "0008119A", "00081197"
PIXELS = "7FE00010"


def model(dataset: Dataset, uri: str = "") -> tuple[dict[str, Any], bytes]:
    """Give a data set as metadata, and its pixel data."""
    plain = Dataset()
    plain.update({tag: element for tag, element in dataset.items() if tag != 0x7FE00010})
    said: dict[str, Any] = plain.to_json_dict()
    if uri:
        said[PIXELS] = {"vr": "OW", "BulkDataURI": uri}
    return said, dataset.PixelData


def send(
    client: Client, *parts: tuple[str, bytes, str], root: str = JSON, path: str = STUDIES, **headers: str
) -> Response:
    body = b""
    for kind, content, location in parts:
        where = f"\r\nContent-Location: {location}" if location else ""
        body += f"--b0\r\nContent-Type: {kind}{where}\r\n\r\n".encode() + content + b"\r\n"
    kind = f'multipart/related; type="{root}"; boundary=b0'
    return client.post(path, content=body + b"--b0--\r\n", headers={"Content-Type": kind, **headers})


def kept(web: PaperWeb, sop_instance_uid: str) -> Dataset:
    with web.blobs.open(web.index.instance(sop_instance_uid).path) as file:
        return dcmread(BytesIO(file.read()))


def reasons(answer: Response, sequence: str = FAILED) -> list[int]:
    return [item[REASON]["Value"][0] for item in answer.json().get(sequence, {}).get("Value", [])]


def left_over(tmp_path: Path) -> list[Path]:
    return [each for each in (tmp_path / "blobs" / "incoming").rglob("*") if each.is_file() and each.stat().st_size]


def test_10_5_json_metadata_and_bulk_data_become_the_instances(web: PaperWeb, client: Client, tmp_path: Path) -> None:
    series = make_ct_series(3)
    models = [model(each, f"bulk/{number}") for number, each in enumerate(series)]
    metadata = orjson.dumps([said for said, _ in models])
    bulk = [("application/octet-stream", pixels, f"bulk/{number}") for number, (_, pixels) in enumerate(models)]
    answer = send(client, (JSON, metadata, ""), *bulk)
    assert answer.status_code == 200
    assert len(answer.json()[REFERENCED]["Value"]) == 3
    for each in series:
        there = kept(web, each.SOPInstanceUID)
        assert there.SpecificCharacterSet == "ISO_IR 192"
        assert there.file_meta.TransferSyntaxUID == "1.2.840.10008.1.2.1"
        assert there.PixelData == each.PixelData
        for element in each:
            if element.keyword not in ("SpecificCharacterSet", "PixelData"):
                assert there[element.tag].value == element.value
    assert left_over(tmp_path) == []


def test_10_5_xml_metadata_have_a_part_for_each_instance(web: PaperWeb, client: Client) -> None:
    series = make_ct_series(2)
    series[0].PatientName = "Müller^Ünal^^Dr."
    series[0].add_new(0x00081140, "SQ", [Dataset()])
    series[0].ReferencedImageSequence[0].ReferencedSOPInstanceUID = uid(1, 1, 9)
    models = [model(each, f"{number}") for number, each in enumerate(series)]
    documents = [(XML, native_xml(said), "") for said, _ in models]
    bulk = [("application/octet-stream", pixels, f"{number}") for number, (_, pixels) in enumerate(models)]
    assert send(client, *documents, *bulk, root=XML).status_code == 200
    there = kept(web, uid(1, 1, 1))
    assert there.PatientName == "Müller^Ünal^^Dr."
    assert there.ReferencedImageSequence[0].ReferencedSOPInstanceUID == uid(1, 1, 9)
    assert there.PixelSpacing == series[0].PixelSpacing
    assert there.Rows == series[0].Rows


def test_10_5_metadata_alone_are_an_instance_where_nothing_stands_outside(web: PaperWeb, client: Client) -> None:
    said, _ = model(make_ct_instance())
    said["00420011"] = {"vr": "OB", "InlineBinary": "JVBERi0="}
    headers = {"Content-Type": JSON}
    assert client.post(STUDIES, content=orjson.dumps([said]), headers=headers).status_code == 200
    assert kept(web, uid(1, 1, 1)).EncapsulatedDocument == b"%PDF-\0"
    headers = {"Content-Type": XML}
    other, _ = model(make_ct_instance(2))
    assert client.post(STUDIES, content=native_xml(other), headers=headers).status_code == 200


@pytest.mark.parametrize(
    ("kind", "syntax"),
    [
        ("image/jpeg", "1.2.840.10008.1.2.4.70"),
        ("image/jpeg; transfer-syntax=1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.50"),
        ("image/jp2", "1.2.840.10008.1.2.4.90"),
        ("image/dicom-rle", "1.2.840.10008.1.2.5"),
        ("application/octet-stream; transfer-syntax=1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.80"),
    ],
)
def test_8_7_3_5_compressed_frames_stand_in_a_part_each(web: PaperWeb, client: Client, kind: str, syntax: str) -> None:
    said, _ = model(make_ct_instance(NumberOfFrames=2), "p")
    answer = send(client, (JSON, orjson.dumps([said]), ""), (kind, b"first", "p"), (kind, b"second", "p"))
    assert answer.status_code == 200
    there = kept(web, uid(1, 1, 1))
    assert there.file_meta.TransferSyntaxUID == syntax
    assert list(generate_frames(there.PixelData, number_of_frames=2)) == [b"first\0", b"second"]
    with web.blobs.open(web.index.instance(uid(1, 1, 1)).path) as file:
        pixels = read_source(file).pixels
    assert pixels is not None
    assert pixels.encapsulated


def test_10_5_3_each_failure_has_its_reason_and_the_others_are_kept(
    web: PaperWeb, client: Client, tmp_path: Path
) -> None:
    good, lacking, wrong, nameless, foreign = (
        model(make_ct_instance(number), f"p{number}")[0] for number in range(1, 6)
    )
    wrong["00280010"] = {"vr": "US", "Value": ["many"]}
    del nameless["00080018"]
    foreign[PIXELS] = {"vr": "OW", "BulkDataURI": "http://169.254.169.254/latest"}
    metadata = orjson.dumps([good, lacking, wrong, nameless, foreign, {"0008": {}}])
    octets = "application/octet-stream"
    bulk = [(octets, bytes(512), f"p{number}") for number in (1, 3, 4)]
    answer = send(client, (JSON, metadata, ""), *bulk, (octets, b"of nobody", "p9"))
    assert answer.status_code == 202
    assert [item["00081155"]["Value"] for item in answer.json()[REFERENCED]["Value"]] == [[uid(1, 1, 1)]]
    named = {item["00081155"]["Value"][0] for item in answer.json()[FAILED]["Value"]}
    assert named == {uid(1, 1, number) for number in (2, 3, 5)}
    assert reasons(answer) == [0xC000] * 3
    assert reasons(answer, OTHERS) == [0xC000] * 2
    assert left_over(tmp_path) == []


def test_10_5_the_study_of_the_resource_binds_metadata_too(web: PaperWeb, client: Client) -> None:
    said, _ = model(make_ct_instance())
    answer = send(client, (JSON, orjson.dumps([said]), ""), path=f"{STUDIES}/{uid(2)}")
    assert answer.status_code == 409
    assert reasons(answer) == [0xA900]
    assert web.index.instances_of(uid(1)) == []


@pytest.mark.parametrize(
    ("content", "kind", "status"),
    [
        (b"", JSON, 400),
        (b"{", JSON, 400),
        (b"[1]", JSON, 400),
        (b"[" * 5000, JSON, 400),
        (b'{"00400275":{"vr":"SQ","Value":[' * 60 + b"{}" + b"]}}" * 60, JSON, 409),
        (b'[{"00100010":{"vr":"PN","Value":{}}}]', JSON, 409),
        (b'[{"00100010":{"Value":["a"]}}]', JSON, 409),
        (b'[{"../etc":{"vr":"PN"}}]', JSON, 409),
        (b"<NativeDicomModel", XML, 409),
        (b'<!DOCTYPE a [<!ENTITY b "c">]><NativeDicomModel>&b;</NativeDicomModel>', XML, 409),
        (b"<a/>", XML, 409),
        (b"\xff\xfe<\0", XML, 409),
        (b"<NativeDicomModel>" + b'<DicomAttribute tag="00400275" vr="SQ"><Item number="1">' * 400, XML, 409),
    ],
)
def test_hostile_metadata_are_answered(client: Client, content: bytes, kind: str, status: int) -> None:
    assert send(client, (kind, content, ""), root=kind).status_code == status


def test_s6_bulk_data_may_come_before_what_tells_of_them_and_are_then_of_nobody(client: Client) -> None:
    said, pixels = model(make_ct_instance(), "p")
    answer = send(client, ("application/octet-stream", pixels, "p"), (JSON, orjson.dumps([said]), ""))
    assert answer.status_code == 409


def test_two_instances_may_share_bulk_data(web: PaperWeb, client: Client) -> None:
    both = [model(make_ct_instance(number), "p")[0] for number in (1, 2)]
    pixels = os.urandom(512)
    answer = send(client, (JSON, orjson.dumps(both), ""), ("application/octet-stream", pixels, "p"))
    assert answer.status_code == 200
    assert kept(web, uid(1, 1, 1)).PixelData == kept(web, uid(1, 1, 2)).PixelData == pixels


def test_what_is_retrieved_as_metadata_and_bulk_data_can_be_stored_again(web: PaperWeb, client: Client) -> None:
    """The way of a proxy: all of it comes from one node's answers."""
    first = make_ct_instance()
    client.post(STUDIES, content=encode(first), headers={"Content-Type": "application/dicom"})
    (said,) = client.get(f"{STUDIES}/{uid(1)}/metadata").json()
    uri = said[PIXELS]["BulkDataURI"]
    pixels = client.get(uri, headers={"Accept": "application/octet-stream"}).content
    said["00080018"]["Value"] = [uid(1, 1, 2)]
    answer = send(client, (JSON, orjson.dumps([said]), ""), ("application/octet-stream", pixels, uri))
    assert answer.status_code == 200
    assert kept(web, uid(1, 1, 2)).PixelData == first.PixelData
