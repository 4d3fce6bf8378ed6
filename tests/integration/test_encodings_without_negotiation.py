"""Encodings where nothing is negotiated: STOW-RS services say afterwards what they do not take, folders take all."""

from __future__ import annotations

import http.server
import io
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread

from configs.peers import Peer
from configs.settings import DimseSettings
from dicom_node.scu import folder
from dicom_node.scu.store import Outgoing
from dicom_node.worker.carriers import carry
from dicomweb.errors import ServiceRefused
from inference.results.forms import Form
from inference.syntaxes import EXPLICIT_LITTLE, JPEG_LS, RLE
from tests.builders.findings import ct_headers, lungs
from tests.builders.result_sets import built

SYNTAX_NOT_SUPPORTED, CANNOT_UNDERSTAND = 0xC122, 0xC000
STUDY = "1.2.3"


@pytest.fixture(scope="module")
def files() -> tuple[bytes, bytes]:
    """Give a label map and a report."""
    made = built(lungs(), evidence=ct_headers(), form=Form.of("labelmap+comprehensive-3d"))
    seg, sr = (result.part10 for result in made.results)
    return seg, sr


def outgoing(part10: bytes) -> Outgoing:
    header = dcmread(io.BytesIO(part10), stop_before_pixels=True)
    uids = str(header.SOPInstanceUID), str(header.SOPClassUID), str(EXPLICIT_LITTLE)
    return Outgoing(*uids, open=lambda: io.BytesIO(part10))


@dataclass
class Service:
    """A STOW-RS service that knows some syntaxes."""

    takes: tuple[str, ...]
    refuses_by: int = SYNTAX_NOT_SUPPORTED
    """Failure Reason of an instance, or HTTP status of the whole request where it is below 600."""
    came: list[tuple[str, bytes]] = field(default_factory=list)
    """(transfer syntax, file) of each request."""
    url: str = ""

    def answer(self, body: bytes) -> tuple[int, bytes]:
        part10 = body[body.index(b"DICM") - 128 : body.rindex(b"\r\n--")]
        header = dcmread(io.BytesIO(part10), stop_before_pixels=True)
        syntax = str(header.file_meta.TransferSyntaxUID)
        self.came.append((syntax, part10))
        item: dict[str, object] = {"00081155": {"vr": "UI", "Value": [str(header.SOPInstanceUID)]}}
        if syntax in self.takes:
            return 200, json.dumps({"00081199": {"vr": "SQ", "Value": [item]}}).encode()
        if self.refuses_by < 600:
            return self.refuses_by, b""
        item["00081197"] = {"vr": "US", "Value": [self.refuses_by]}
        return 409, json.dumps({"00081198": {"vr": "SQ", "Value": [item]}}).encode()


@pytest.fixture
def service() -> Iterator[Service]:
    made = Service((EXPLICIT_LITTLE,))

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            status, content = made.answer(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(status)
            self.send_header("Content-Type", "application/dicom+json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        made.url = f"http://127.0.0.1:{server.server_port}"
        yield made
        server.shutdown()
        thread.join()


def carried(deliver: dict[str, object], *files: bytes) -> list[tuple[str, int]]:
    """Carry files; give for each the syntax that is told to have left, and the Status."""
    told: list[tuple[str, int]] = []
    peer = Peer.model_validate({"deliver": deliver})
    items = [outgoing(part10) for part10 in files]
    carry(peer, STUDY, items, lambda item, status: told.append((item.sent_as, status)), DimseSettings())
    return told


def test_stow_sends_the_first_wanted_syntax_that_the_object_can_have(
    service: Service, files: tuple[bytes, bytes]
) -> None:
    service.takes = (RLE, EXPLICIT_LITTLE)
    told = carried({"by": "stow", "url": service.url, "encodings": ["rle", "jpeg-ls"]}, *files)
    assert told == [(RLE, 0), (EXPLICIT_LITTLE, 0)]
    assert [syntax for syntax, _ in service.came] == [RLE, EXPLICIT_LITTLE]
    sent, kept = (dcmread(io.BytesIO(each)) for each in (service.came[0][1], files[0]))
    assert np.array_equal(sent.pixel_array, kept.pixel_array)
    assert len(service.came[0][1]) < len(files[0])


@pytest.mark.parametrize("refused_by", [SYNTAX_NOT_SUPPORTED, 415])
def test_a_syntax_that_a_service_does_not_support_is_followed_by_the_next(
    service: Service, files: tuple[bytes, bytes], refused_by: int
) -> None:
    service.refuses_by = refused_by
    told = carried({"by": "stow", "url": service.url, "encodings": ["jpeg-ls", "rle"]}, files[0])
    assert told == [(EXPLICIT_LITTLE, 0)]
    assert [syntax for syntax, _ in service.came] == [JPEG_LS, RLE, EXPLICIT_LITTLE]
    assert service.came[-1][1] == files[0]


def test_another_refusal_is_no_reason_to_encode_it_otherwise(service: Service, files: tuple[bytes, bytes]) -> None:
    deliver: dict[str, object] = {"by": "stow", "url": service.url, "encodings": ["rle"]}
    service.refuses_by = CANNOT_UNDERSTAND
    assert carried(deliver, files[0]) == [(RLE, CANNOT_UNDERSTAND)]
    service.refuses_by = 403
    with pytest.raises(ServiceRefused):
        carried(deliver, files[0])
    assert len(service.came) == 2


def test_without_encodings_nothing_is_encoded_anew(service: Service, files: tuple[bytes, bytes]) -> None:
    assert carried({"by": "stow", "url": service.url}, files[0]) == [(EXPLICIT_LITTLE, 0)]
    assert service.came == [(EXPLICIT_LITTLE, files[0])]


def test_a_folder_gets_the_first_wanted_syntax_and_is_found_to_hold_it(
    tmp_path: Path, files: tuple[bytes, bytes]
) -> None:
    for _ in range(2):  # the same again changes nothing
        told = carried({"by": "folder", "path": str(tmp_path), "encodings": ["rle"]}, *files)
        assert told == [(RLE, 0), (EXPLICIT_LITTLE, 0)]
    seg, sr = (outgoing(each) for each in files)
    written = dcmread(tmp_path / STUDY / f"{seg.sop_instance_uid}.dcm")
    assert written.file_meta.TransferSyntaxUID == RLE
    assert np.array_equal(written.pixel_array, dcmread(io.BytesIO(files[0])).pixel_array)
    assert (tmp_path / STUDY / f"{sr.sop_instance_uid}.dcm").read_bytes() == files[1]
    as_sent = Outgoing(seg.sop_instance_uid, seg.sop_class_uid, seg.transfer_syntax_uid, seg.open, sent_as=RLE)
    assert folder.holds(tmp_path, STUDY, as_sent)
    assert not folder.holds(tmp_path, STUDY, seg)
