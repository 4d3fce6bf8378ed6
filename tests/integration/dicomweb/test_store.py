"""STOW-RS: what is sent, what is kept, and what the sender is told. Source: PS3.18 10.5, Annex I.2."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from httpx import Client, Response
from hypothesis import given, settings
from hypothesis import strategies as st

from dicomweb.errors import RequestError
from dicomweb.uploads import PartStream, parts_in
from storage.errors import DiskFull, IndexUnavailable
from storage.records import OriginKind
from tests.builders.ct import encode, make_ct_instance, make_ct_series, uid
from tests.builders.web import PaperWeb

STUDIES = "/dicom-web/studies"
KIND = 'multipart/related; type="application/dicom"; boundary=b0'
REFERENCED, FAILED, OTHERS, REASON = "00081199", "00081198", "0008119A", "00081197"


def multipart(*contents: bytes, kind: str = "application/dicom", boundary: str = "b0") -> bytes:
    parts = (f"--{boundary}\r\nContent-Type: {kind}\r\n\r\n".encode() + each + b"\r\n" for each in contents)
    return b"".join(parts) + f"--{boundary}--\r\n".encode()


def store(client: Client, body: bytes | Iterator[bytes], path: str = STUDIES, **headers: str) -> Response:
    sent = {"Content-Type": KIND} | {name.replace("_", "-"): value for name, value in headers.items()}
    return client.post(path, content=body, headers=sent)


def items(answer: Response, sequence: str) -> list[dict[str, Any]]:
    return list(answer.json().get(sequence, {}).get("Value", []))


def test_10_5_what_is_stored_can_be_retrieved_where_the_answer_says(web: PaperWeb, client: Client) -> None:
    answer = store(client, multipart(*(encode(each) for each in make_ct_series(3))))
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/dicom+json"
    assert answer.json()["00081190"]["Value"] == [f"http://127.0.0.1:8080{STUDIES}/{uid(1)}"]
    kept = items(answer, REFERENCED)
    assert [item["00081155"]["Value"] for item in kept] == [[uid(1, 1, number)] for number in (1, 2, 3)]
    assert {item["00081150"]["Value"][0] for item in kept} == {"1.2.840.10008.5.1.4.1.1.2"}
    for item in kept:
        assert client.get(item["00081190"]["Value"][0]).status_code == 200
    assert web.index.instance(uid(1, 1, 1)).origin.kind is OriginKind.STOW
    assert FAILED not in answer.json()


def test_10_5_one_instance_may_come_alone(web: PaperWeb, client: Client) -> None:
    content = encode(make_ct_instance())
    assert store(client, content, Content_Type="application/dicom").status_code == 200
    record = web.index.instance(uid(1, 1, 1))
    with web.blobs.open(record.path) as file:
        assert file.read()[-512:] == content[-512:]


def test_10_5_the_same_again_is_success_and_other_bytes_are_kept_aside(web: PaperWeb, client: Client) -> None:
    first = encode(make_ct_instance())
    for body in (first, first, encode(make_ct_instance(PatientName="Test^Other"))):
        answer = store(client, multipart(body))
        assert answer.status_code == 200
        assert len(items(answer, REFERENCED)) == 1
    assert len(web.index.instances_of(uid(1))) == 1


def test_10_5_3_each_failure_has_its_reason_and_the_others_are_kept(web: PaperWeb, client: Client) -> None:
    nameless = encode(make_ct_instance(4, StudyInstanceUID=""))
    body = multipart(
        encode(make_ct_instance(1)),
        b"no DICOM",
        encode(make_ct_instance(2))[:-100],
        encode(make_ct_instance(3)).replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.X\0"),
        nameless,
        b"",
        encode(make_ct_instance(5)),
    )
    answer = store(client, body)
    assert answer.status_code == 202
    assert [item["00081155"]["Value"][0] for item in items(answer, REFERENCED)] == [uid(1, 1, 1), uid(1, 1, 5)]
    failed = {item["00081155"]["Value"][0]: item[REASON]["Value"][0] for item in items(answer, FAILED)}
    assert failed == {uid(1, 1, 2): 0xC000, uid(1, 1, 3): 0xC122, uid(1, 1, 4): 0xC000}
    assert [item[REASON]["Value"] for item in items(answer, OTHERS)] == [[0xC000], [0xC000]]
    assert len(web.index.instances_of(uid(1))) == 2


def test_10_5_3_where_nothing_is_kept_the_request_is_in_conflict(client: Client) -> None:
    answer = store(client, multipart(b"no DICOM"))
    assert answer.status_code == 409
    assert REFERENCED not in answer.json()


def test_10_5_1_an_instance_of_another_study_is_not_kept_for_this_one(web: PaperWeb, client: Client) -> None:
    body = multipart(encode(make_ct_instance(study=1)), encode(make_ct_instance(study=2)))
    answer = store(client, body, f"{STUDIES}/{uid(1)}")
    assert answer.status_code == 202
    (failed,) = items(answer, FAILED)
    assert failed["00081155"]["Value"] == [uid(2, 1, 1)]
    assert failed[REASON]["Value"] == [0xA900]
    assert web.index.instances_of(uid(2)) == []


def test_8_7_what_is_no_dicom_is_an_unsupported_media_type(client: Client) -> None:
    text = 'multipart/related; type="text/plain"; boundary=b0'
    for kind in ("text/plain", "", "multipart/form-data; boundary=b0", text):
        assert store(client, b"x", Content_Type=kind).status_code in (400, 415)
    answer = store(client, multipart(b"GIF89a", kind="image/gif"))
    assert answer.status_code == 409
    assert [item[REASON]["Value"] for item in items(answer, OTHERS)] == [[0xC000]]


def test_8_7_the_answer_comes_in_xml_on_request(client: Client) -> None:
    answer = store(client, multipart(encode(make_ct_instance())), Accept="application/dicom+xml")
    assert answer.headers["content-type"] == "application/dicom+xml"
    assert ElementTree.fromstring(answer.content).tag.endswith("NativeDicomModel")  # noqa: S314 (it is ours)


@pytest.mark.parametrize(
    "body",
    [b"", b"--b0--\r\n", b"--b0\r\n", b"--b0\r\nContent-Type: application/dicom\r\n\r\nabc", b"no parts at all",
     b"--b0\r\nX: " + b"y" * 20_000 + b"\r\n\r\n\r\n--b0--\r\n"],
)  # fmt: skip
def test_a_body_that_is_not_put_together_is_a_bad_request(client: Client, body: bytes) -> None:
    assert store(client, body).status_code == 400


def test_a_missing_or_endless_boundary_is_a_bad_request(client: Client) -> None:
    for boundary in ("", "; boundary=", f"; boundary={'b' * 71}"):
        kind = f'multipart/related; type="application/dicom"{boundary}'
        assert store(client, multipart(b"x"), Content_Type=kind).status_code == 400


def test_senders_write_multipart_in_many_ways(web: PaperWeb, client: Client) -> None:
    one = encode(make_ct_instance())
    for number, (body, kind) in enumerate(
        (
            (b"preamble\r\n" + multipart(one) + b"epilogue", KIND),
            (multipart(one).replace(b"--b0\r\n", b"--b0  \r\n"), KIND),
            (multipart(one).replace(b"Content-Type", b"CONTENT-TYPE"), KIND),
            (multipart(one, boundary="=_a'b/c?"), 'multipart/related;type=application/dicom;boundary="=_a\'b/c?"'),
            (multipart(one), "Multipart/Related; boundary=b0"),
        )
    ):
        assert store(client, body, Content_Type=kind).status_code == 200, number


def test_what_is_too_large_is_refused_and_leaves_nothing(make_web: Callable[..., PaperWeb], tmp_path: Path) -> None:
    web = make_web(http={"store_part_mb": 0.002, "store_request_mb": 0.02})
    client = web.client()
    small, large = encode(make_ct_instance(1)), encode(make_ct_instance(2, PixelData=bytes(4000), Rows=40, Columns=50))
    assert len(small) < 2000 < len(large)
    both = store(client, multipart(large, small))
    assert both.status_code == 202
    assert items(both, FAILED)[0][REASON]["Value"] == [0xA700]
    assert store(client, multipart(large)).status_code == 413
    announced = store(client, multipart(*[small] * 20))
    assert announced.status_code == 413

    def endless() -> Iterator[bytes]:
        yield from [multipart(small)[:1000]] * 100

    assert store(client, b"".join(endless())).status_code == 413
    assert len(web.index.instances_of(uid(1))) == 1
    assert [
        path for path in (tmp_path / "blobs" / "incoming").rglob("*") if path.is_file() and path.stat().st_size
    ] == []


@pytest.mark.parametrize("error", [DiskFull, IndexUnavailable])
def test_where_there_is_no_room_the_sender_may_come_back(web: PaperWeb, client: Client, error: type[Exception]) -> None:
    def full() -> None:
        raise error

    web.intake.check_reserve = full  # type: ignore[method-assign]
    answer = store(client, multipart(encode(make_ct_instance())))
    assert answer.status_code == 503
    assert int(answer.headers["retry-after"]) > 0
    assert items(answer, FAILED)[0][REASON]["Value"] == [0xA700]


def test_a_foreign_page_cannot_store(web: PaperWeb) -> None:
    client = web.client(headers={"Origin": "http://evil.example"})
    assert store(client, multipart(encode(make_ct_instance()))).status_code == 401
    assert web.index.instances_of(uid(1)) == []


def pulled(body: bytes, piece: int) -> Callable[[], bytes]:
    """Give a body in pieces of one size."""
    pieces = iter([body[start : start + piece] for start in range(0, len(body), piece)])
    return lambda: next(pieces, b"")


@settings(max_examples=60, deadline=None)
@given(st.lists(st.binary(max_size=60), max_size=4), st.integers(1, 40))
def test_parts_are_told_apart_however_the_body_is_cut(contents: list[bytes], piece: int) -> None:
    found = [part.content.read() for part in parts_in(pulled(multipart(*contents), piece), "b0", 1000)]
    assert found == contents


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=300), st.integers(1, 40))
def test_no_body_raises_anything_but_errors_of_ours(body: bytes, piece: int) -> None:
    try:
        for part in parts_in(pulled(body, piece), "b0", 1000):
            part.content.read(10)
    except RequestError:
        pass


def test_a_part_can_be_read_again_from_its_beginning_alone() -> None:
    stream = PartStream(pulled(bytes(range(256)) * 4096, 1000), 1 << 21)
    first = stream.read(10)
    stream.seek(3)
    assert stream.read(7) == first[3:]
    stream.read(1 << 19)
    with pytest.raises(OSError, match="cannot go there"):
        stream.seek(0)
