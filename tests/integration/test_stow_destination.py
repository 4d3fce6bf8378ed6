"""STOW-RS and QIDO-RS as a client: an independent server, and servers that answer as told."""

from __future__ import annotations

import contextlib
import io
import json
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from configs.peers import DeliverByStow, PeerTls
from dicom_node.worker.carriers import service_of
from dicom_node.worker.outcomes import Effect, answer_to_error, answer_to_status
from dicomweb import stow_client
from dicomweb.errors import ServiceRefused, ServiceUnreachable
from dicomweb.http_client import Service
from tests.builders.certificates import Authority
from tests.builders.ct import encode, make_ct_instance
from tests.builders.orthanc import DICOMWEB, MISSING, PROGRAM, orthanc, two_ports

UID = "1.2.3.4"
FILE = b"\0" * 128 + b"DICM" + b"x" * 500


def module(*, stored: str = "", failed: str = "", reason: int | None = None, warning: int | None = None) -> bytes:
    """Make the answer of STOW-RS, with DICOM JSON."""
    said: dict[str, object] = {}
    if stored:
        item = {"00081155": {"vr": "UI", "Value": [stored]}}
        if warning is not None:
            item["00081196"] = {"vr": "US", "Value": [warning]}  # type: ignore[list-item]
        said["00081199"] = {"vr": "SQ", "Value": [item]}
    if failed:
        item = {"00081155": {"vr": "UI", "Value": [failed]}}
        if reason is not None:
            item["00081197"] = {"vr": "US", "Value": [reason]}  # type: ignore[list-item]
        said["00081198"] = {"vr": "SQ", "Value": [item]}
    return json.dumps(said).encode()


@dataclass
class Fake:
    """A service on a raw socket: answers each request as told, and remembers them."""

    answer: Callable[[socket.socket], None] | bytes
    tls: ssl.SSLContext | None = None
    requests: list[bytes] = field(default_factory=list)

    @contextlib.contextmanager
    def running(self) -> Iterator[str]:
        """Serve; give the base URL."""
        listener = socket.create_server(("127.0.0.1", 0))
        served = threading.Thread(target=self._serve, args=(listener,), daemon=True)
        served.start()
        try:
            scheme = "https" if self.tls else "http"
            yield f"{scheme}://localhost:{listener.getsockname()[1]}/dicom-web"
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            listener.close()
            served.join(10)

    def _serve(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                with contextlib.suppress(OSError), connection:
                    connection.settimeout(20)
                    wrapped = self.tls.wrap_socket(connection, server_side=True) if self.tls else connection
                    with wrapped:
                        self._one(wrapped)

    def _one(self, connection: socket.socket) -> None:
        if not isinstance(self.answer, bytes):
            self.answer(connection)
            return
        request = b""
        while b"\r\n\r\n" not in request:
            request += connection.recv(65536)
        head, _, body = request.partition(b"\r\n\r\n")
        lengths = [line for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")]
        length = int(lengths[0].split(b":")[1]) if lengths else 0
        while len(body) < length:
            body += connection.recv(65536)
        self.requests.append(head + b"\r\n\r\n" + body)
        connection.sendall(self.answer)


def http(status: str, body: bytes = b"", kind: str = "application/dicom+json") -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


def store(url: str, *, within_s: float = 10.0, **service: object) -> int:
    return stow_client.store(Service(url, **service), UID, io.BytesIO(FILE), len(FILE), within_s=within_s)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("answer", "effect"),
    [
        (http("200 OK", module(stored=UID)), Effect.ACCEPTED),
        (http("202 Accepted", module(stored=UID, warning=0xB000)), Effect.ACCEPTED),
        (http("200 OK", b"<xml/>", "application/dicom+xml"), Effect.ACCEPTED),
        (http("409 Conflict", module(failed=UID, reason=0xA700)), Effect.RETRY),
        (http("409 Conflict", module(failed=UID, reason=0xA900)), Effect.OTHER_FORM),
        (http("409 Conflict", module(failed=UID, reason=0x0122)), Effect.OTHER_FORM),
        (http("409 Conflict", module(failed=UID, reason=0x0124)), Effect.GIVE_UP),
        (http("409 Conflict", module(failed=UID, reason=0x0111)), Effect.ACCEPTED),
        (http("202 Accepted", module(failed=UID, reason=0xC000)), Effect.OTHER_FORM),
        (http("200 OK", module(failed=UID)), Effect.RETRY),
        (http("200 OK", module(stored="9.9.9")), Effect.RETRY),  # speaks of another instance
        (http("409 Conflict"), Effect.GIVE_UP),
        (http("202 Accepted"), Effect.RETRY),
        (http("400 Bad Request"), Effect.GIVE_UP),
        (http("401 Unauthorized"), Effect.GIVE_UP),
        (http("403 Forbidden"), Effect.GIVE_UP),
        (http("301 Moved Permanently"), Effect.GIVE_UP),
        (http("413 Content Too Large"), Effect.OTHER_FORM),
        (http("415 Unsupported Media Type"), Effect.OTHER_FORM),
        (http("429 Too Many Requests"), Effect.RETRY),
        (http("500 Internal Server Error"), Effect.RETRY),
        (http("501 Not Implemented"), Effect.GIVE_UP),
        (http("503 Service Unavailable"), Effect.RETRY),
        (http("507 Insufficient Storage"), Effect.RETRY),
        (http("200 OK"), Effect.RETRY),
        (b"", Effect.RETRY),  # hangs up
        (b"HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\n{", Effect.RETRY),  # breaks off
        (b"SSH-2.0-nothing\r\n", Effect.RETRY),
    ],
)
def test_every_answer_of_a_service_means_one_thing(answer: bytes, effect: Effect) -> None:
    fake = Fake(answer)
    with fake.running() as url:
        try:
            said = answer_to_status(store(url))
        except (ServiceRefused, ServiceUnreachable) as error:
            said = answer_to_error(error)
    assert said.effect is effect


def test_one_instance_goes_in_one_part_with_what_shows_who_we_are() -> None:
    fake = Fake(http("200 OK", module(stored=UID)))
    with fake.running() as url:
        deliver = DeliverByStow.model_validate({"by": "stow", "url": url, "bearer": "t0ken", "api_key": "k3y"})
        stow_client.store(service_of(deliver, None), UID, io.BytesIO(FILE), len(FILE), within_s=10)
    head, _, body = fake.requests[0].partition(b"\r\n\r\n")
    assert head.startswith(b"POST /dicom-web/studies HTTP/1.1\r\n")
    assert b"Authorization: Bearer t0ken" in head
    assert b"X-API-Key: k3y" in head
    assert b'Content-Type: multipart/related; type="application/dicom"; boundary=' in head
    assert body.count(FILE) == 1
    assert b"Content-Type: application/dicom\r\n" in body


def _silent(connection: socket.socket) -> None:
    while connection.recv(65536):
        pass


def _dripping_head(connection: socket.socket) -> None:
    for byte in b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n" + b"X: 1\r\n" * 1000:
        connection.sendall(bytes([byte]))
        time.sleep(0.05)


def _dripping_body(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
    while True:
        connection.sendall(b" ")
        time.sleep(0.05)


def _not_reading(connection: socket.socket) -> None:
    time.sleep(8)


@pytest.mark.parametrize("answer", [_silent, _dripping_head, _dripping_body, _not_reading])
@pytest.mark.parametrize("secured", [False, True])
def test_a_service_that_drips_or_says_nothing_is_cut_in_time(
    answer: Callable[[socket.socket], None], secured: bool, tmp_path: Path
) -> None:
    fake, service = Fake(answer), {}
    if secured:
        authority = Authority.make(tmp_path)
        fake.tls = _server(authority)
        service = {"tls": lambda: ssl.create_default_context(cafile=authority.ca)}
    big = b"x" * (32 << 20)
    with fake.running() as url:
        began = time.monotonic()
        with pytest.raises(ServiceUnreachable, match=r"no whole answer within 1 s"):
            stow_client.store(Service(url, **service), UID, io.BytesIO(big), len(big), within_s=1.0)  # type: ignore[arg-type]
        assert time.monotonic() - began < 6.0  # it would be 8


def _server(authority: Authority, *, ask_for_certificate: bool = False) -> ssl.SSLContext:
    pair = authority.sign("localhost", "DNS:localhost")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.certificate, pair.key)
    if ask_for_certificate:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(authority.ca)
    return context


def test_mutual_tls_shows_our_certificate_and_verifies_theirs(tmp_path: Path) -> None:
    authority = Authority.make(tmp_path)
    ours = authority.sign("node")
    fake = Fake(http("200 OK", module(stored=UID)), _server(authority, ask_for_certificate=True))
    with fake.running() as url:
        deliver = DeliverByStow.model_validate({"by": "stow", "url": url})
        tls = PeerTls(ca=authority.ca, certificate=ours.certificate, key=ours.key)
        assert stow_client.store(service_of(deliver, tls), UID, io.BytesIO(FILE), len(FILE), within_s=10) == 0
        for wrong in (PeerTls(ca=authority.ca), PeerTls(ca=Authority.make(tmp_path, "Other CA").ca)):
            with pytest.raises(ServiceUnreachable):
                stow_client.store(service_of(deliver, wrong), UID, io.BytesIO(FILE), len(FILE), within_s=10)
    assert len(fake.requests) == 1


def test_a_service_that_is_not_there_is_said_so() -> None:
    with pytest.raises(ServiceUnreachable, match="cannot be reached"):
        store("http://127.0.0.1:1/dicom-web")


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        (http("200 OK", b'[{"00080018": {"vr": "UI", "Value": ["1.2.3.4"]}}]'), True),
        (http("200 OK", b'[{"00080018": {"vr": "UI", "Value": ["9.9"]}}]'), False),  # a service that ignores the query
        (http("200 OK", b"[]"), False),
        (http("204 No Content"), False),
        (http("404 Not Found"), False),
    ],
)
def test_a_search_tells_whether_an_instance_is_there(answer: bytes, found: bool) -> None:
    fake = Fake(answer)
    with fake.running() as url:
        assert stow_client.has(Service(url), "1.1", "1.2", UID, within_s=10) is found
    assert b"GET /dicom-web/studies/1.1/series/1.2/instances?SOPInstanceUID=1.2.3.4 " in fake.requests[0]


@pytest.mark.parametrize("answer", [http("500 Oh"), http("200 OK", b"<html>"), http("401 Unauthorized"), b""])
def test_a_search_that_fails_says_neither(answer: bytes) -> None:
    with Fake(answer).running() as url, pytest.raises((ServiceRefused, ServiceUnreachable)):
        stow_client.has(Service(url), "1.1", "1.2", UID, within_s=10)


@pytest.mark.skipif(PROGRAM is None, reason=MISSING)
@pytest.mark.skipif(not DICOMWEB.exists(), reason="Orthanc's DICOMweb plugin is not installed")
def test_orthanc_takes_an_instance_by_stow_and_finds_it_by_qido(tmp_path: Path) -> None:
    dataset = make_ct_instance()
    part10 = encode(dataset)
    names = (str(dataset.StudyInstanceUID), str(dataset.SeriesInstanceUID), str(dataset.SOPInstanceUID))
    with orthanc(tmp_path / "orthanc", two_ports(), {}, dicomweb=True) as there:
        service = Service(there.dicomweb_url)
        assert not stow_client.has(service, *names, within_s=30)
        for _ in range(2):  # sent again: the same
            assert stow_client.store(service, names[2], io.BytesIO(part10), len(part10), within_s=30) == 0
        assert stow_client.has(service, *names, within_s=30)
        assert len(there.get("/instances")) == 1
        assert not stow_client.has(service, names[0], names[1], f"{names[2]}.9", within_s=30)
