"""DICOM over TLS, both directions: who is let in, who is not, and what is never talked to."""

from __future__ import annotations

import contextlib
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from configs.errors import ConfigError
from configs.peers import Peer, PeerTls
from configs.settings import TlsSettings
from dicom_node.errors import AssociationRejected, PeerError, PeerUnreachable
from dicom_node.scu.echo import echo as send_echo
from dicom_node.scu.store import send
from dicom_node.tls import incoming_context, outgoing_context
from tests.builders.certificates import Authority, Pair
from tests.builders.ct import encode, make_ct_instance
from tests.builders.dimse import (
    Listening,
    a_peer,
    associate_rq,
    await_that,
    listening,
    raw_connection,
    read_pdu,
    to_send,
)
from tests.builders.node import free_ports

DCMTK = pytest.mark.skipif(not Path("/usr/bin/storescu").exists(), reason="DCMTK is not installed")


#: pynetdicom leaves the socket of a connection that failed to the garbage collector.
UNCLOSED = pytest.mark.filterwarnings("ignore:Exception ignored in. <.*ocket:pytest.PytestUnraisableExceptionWarning")


@dataclass(frozen=True)
class Keys:
    """What a hospital's authority signed, and what a stranger's did."""

    hospital: Authority
    stranger: Authority
    node: Pair
    ct1: Pair
    expired: Pair
    foreign: Pair


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    folder = tmp_path_factory.mktemp("keys")
    hospital, stranger = Authority.make(folder, "Hospital CA"), Authority.make(folder, "Other CA")
    return Keys(
        hospital=hospital,
        stranger=stranger,
        node=hospital.sign("node.test", "DNS:node.test"),
        ct1=hospital.sign("CT1"),
        expired=hospital.sign("CT1", expired=True),
        foreign=stranger.sign("CT1"),
    )


@contextlib.contextmanager
def node(keys: Keys, *, peers: dict[str, Peer] | None = None, settings: Any = None, **tls: Any) -> Iterator[Listening]:
    """Have a node whose port speaks TLS."""
    ours = TlsSettings(certificate=keys.node.certificate, key=keys.node.key, ca=keys.hospital.ca, **tls)
    with listening(peers=peers, tls=ours, **(settings or {})) as here:
        yield here


def echo(peer: Peer, title: str) -> None:
    """Send a C-ECHO; again where pynetdicom, as requestor, loses a rejection to the end of the connection behind it."""
    for _ in range(2):
        try:
            send_echo(peer, title)
        except PeerUnreachable as error:
            if "did not answer the association request" not in str(error):
                raise
        else:
            return
    send_echo(peer, title)


def calling(here: Listening, keys: Keys, pair: Pair | None, **tls: Any) -> Peer:
    """The node as a peer that we call sees it."""
    shown = {} if pair is None else {"certificate": pair.certificate, "key": pair.key}
    words = {"ca": keys.hospital.ca, "server_name": "node.test"} | shown | tls
    return here.as_peer.model_copy(update={"tls": PeerTls.model_validate(words)})


def test_an_instance_goes_over_tls_with_both_sides_known(keys: Keys) -> None:
    with node(keys) as here:
        statuses: list[int] = []
        item = to_send(make_ct_instance())
        peer = calling(here, keys, keys.ct1)
        send(peer, calling_ae_title="CT1", items=[item], on_status=lambda _, status: statuses.append(status))
        echo(peer, "CT1")
    assert statuses == [0x0000]
    assert [each.sop_instance_uid for each in here.door.kept] == [item.sop_instance_uid]


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_both_sound_versions_are_talked(version: ssl.TLSVersion, keys: Keys) -> None:
    context = client(keys, keys.ct1)
    context.minimum_version = context.maximum_version = version
    with node(keys) as here, secured(context, here.port) as connection:
        connection.sendall(associate_rq(calling="CT1"))
        assert read_pdu(connection)[0] == 0x02
        assert connection.cipher()[0].endswith(("GCM_SHA256", "GCM_SHA384", "GCM-SHA256", "GCM-SHA384"))


def client(keys: Keys, pair: Pair | None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(keys.hospital.ca)
    if pair is not None:
        context.load_cert_chain(pair.certificate, pair.key)
    return context


@contextlib.contextmanager
def secured(context: ssl.SSLContext, port: int) -> Iterator[ssl.SSLSocket]:
    with raw_connection(port) as plain, context.wrap_socket(plain, server_hostname="node.test") as connection:
        yield connection


@pytest.mark.filterwarnings("ignore:.*TLSv1.*is deprecated:DeprecationWarning")
@pytest.mark.parametrize(
    ("version", "suites"),
    [
        (ssl.TLSVersion.TLSv1, "ALL:@SECLEVEL=0"),
        (ssl.TLSVersion.TLSv1_1, "ALL:@SECLEVEL=0"),
        (ssl.TLSVersion.TLSv1_2, "ECDHE-ECDSA-AES256-SHA:ECDHE-ECDSA-AES128-SHA256"),
        (ssl.TLSVersion.TLSv1_2, "AES128-SHA:AES256-GCM-SHA384"),
        (ssl.TLSVersion.TLSv1_2, "aNULL:@SECLEVEL=0"),
    ],
)
def test_old_versions_and_weak_suites_are_refused(version: ssl.TLSVersion, suites: str, keys: Keys) -> None:
    context = client(keys, keys.ct1)
    context.set_ciphers(suites)
    context.minimum_version = context.maximum_version = version
    with node(keys) as here:
        with pytest.raises(OSError, match=r"(?i)ssl|reset|EOF"), secured(context, here.port):
            pass
        echo(calling(here, keys, keys.ct1), "CT1")


@UNCLOSED
@pytest.mark.parametrize("shown", ["nothing", "expired", "foreign"])
def test_who_shows_no_sound_certificate_gets_no_association(
    shown: str, keys: Keys, caplog: pytest.LogCaptureFixture
) -> None:
    pair = {"nothing": None, "expired": keys.expired, "foreign": keys.foreign}[shown]
    with node(keys) as here:
        with pytest.raises(PeerError):
            echo(calling(here, keys, pair), "CT1")
        assert not here.receiver._register.all()
        await_that(lambda: any(getattr(each, "action", "") == "tls_refused" for each in caplog.records))


def test_a_certificate_in_the_name_of_another_ae_is_refused_with_the_line_to_add(keys: Keys) -> None:
    with node(keys) as here:
        with pytest.raises(AssociationRejected) as caught:
            echo(calling(here, keys, keys.ct1), "MR7")
        assert (caught.value.result, caught.value.source, caught.value.reason) == (1, 1, 3)
        await_that(lambda: here.rows.refusals)
    why = here.rows.refusals[0][3]
    assert why.startswith("Refused MR7 at 127.0.0.1: its certificate is of ct1. Allow: add tls: {sha256: ")


@pytest.mark.parametrize(
    ("words", "let_in"),
    [
        ({"names": ["ct1"]}, True),
        ({"names": ["other.test"]}, False),
        ({"sha256": "00" * 32}, False),
    ],
)
def test_a_peer_is_bound_to_what_its_entry_says(words: dict[str, Any], let_in: bool, keys: Keys) -> None:
    peers = {"ct": a_peer(ae_title="MR7", tls=words)}
    with node(keys, peers=peers) as here, contextlib.ExitStack() as stack:
        if not let_in:
            stack.enter_context(pytest.raises(AssociationRejected))
        echo(calling(here, keys, keys.ct1), "MR7")


def test_the_fingerprint_that_a_refusal_names_lets_in(keys: Keys) -> None:
    with node(keys) as here:
        with pytest.raises(AssociationRejected):
            echo(calling(here, keys, keys.ct1), "MR7")
        await_that(lambda: here.rows.refusals)
    sha256 = here.rows.refusals[0][3].split("sha256: ")[1].split("}")[0]
    with node(keys, peers={"mr": a_peer(ae_title="MR7", tls={"sha256": sha256})}) as here:
        echo(calling(here, keys, keys.ct1), "MR7")


def test_without_client_certificates_callers_are_known_by_address(keys: Keys) -> None:
    with node(keys, require_client_certificate=False) as here:
        echo(calling(here, keys, None), "CT1")
        with pytest.raises(AssociationRejected):
            echo(calling(here, keys, keys.ct1), "MR7")


def test_a_peer_that_must_show_a_certificate_and_shows_none_is_refused(keys: Keys) -> None:
    peers = {"ct": a_peer(ae_title="CT1", tls={"names": ["ct1"]})}
    with (
        node(keys, peers=peers, require_client_certificate=False) as here,
        pytest.raises(AssociationRejected),
    ):
        echo(calling(here, keys, None), "CT1")


def test_plaintext_on_the_tls_port_dies_and_nobody_else_notices(keys: Keys) -> None:
    with node(keys) as here:
        with raw_connection(here.port) as connection:
            connection.sendall(associate_rq(calling="CT1"))
            assert read_pdu(connection)[0] not in (0x02, 0x03)
            assert connection.recv(1 << 16) == b""
        echo(calling(here, keys, keys.ct1), "CT1")


def test_the_plaintext_port_beside_lets_in_only_peers_without_tls(keys: Keys) -> None:
    peers = {"ct": a_peer(ae_title="CT1", tls={}), "mr": a_peer(ae_title="MR7")}
    with node(keys, peers=peers, plaintext_port=0) as here:
        plain = here.as_peer.model_copy(update={"port": here.receiver.plaintext_port})
        echo(plain, "MR7")
        with pytest.raises(AssociationRejected):
            echo(plain, "CT1")
        echo(calling(here, keys, keys.ct1), "CT1")


def test_handshakes_that_never_end_hold_up_nobody_and_are_cut(keys: Keys) -> None:
    with node(keys, settings={"answer_within_s": 2.5}) as here, contextlib.ExitStack() as stack:
        silent = [stack.enter_context(raw_connection(here.port)) for _ in range(20)]
        dripping = stack.enter_context(raw_connection(here.port))
        began = time.monotonic()
        echo(calling(here, keys, keys.ct1), "CT1")
        assert time.monotonic() - began < 2.3
        with contextlib.suppress(OSError):
            for byte in b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" * 3:
                dripping.sendall(bytes([byte]))
                time.sleep(0.1)
        assert all(not _still_open(each) for each in (*silent, dripping))


def _still_open(connection: socket.socket) -> bool:
    connection.settimeout(3)
    try:
        return connection.recv(1) != b""
    except TimeoutError:
        return True
    except OSError:
        return False


@contextlib.contextmanager
def foreign_server(pair: Pair, *, version: ssl.TLSVersion | None = None) -> Iterator[int]:
    """Have a server that does a TLS handshake and nothing else."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.certificate, pair.key)
    if version is not None:
        context.set_ciphers("ALL:@SECLEVEL=0")
        context.minimum_version = context.maximum_version = version
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with contextlib.suppress(OSError):
            connection, _ = listener.accept()
            with connection, context.wrap_socket(connection, server_side=True) as secure:
                secure.recv(1)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.close()
        thread.join(5)


@pytest.mark.filterwarnings("ignore:.*TLSv1.*is deprecated:DeprecationWarning")
@UNCLOSED
@pytest.mark.parametrize(
    ("which", "name", "version", "why"),
    [
        ("expired", "CT1", None, "certificate has expired"),
        ("foreign", "CT1", None, "unable to get local issuer certificate"),
        ("node", "other.test", None, "Hostname mismatch"),
        ("node", "node.test", ssl.TLSVersion.TLSv1_1, "protocol"),
    ],
)
def test_we_call_no_peer_that_does_not_prove_to_be_it(
    which: str, name: str, version: ssl.TLSVersion | None, why: str, keys: Keys
) -> None:
    pair: Pair = getattr(keys, which)
    with foreign_server(pair, version=version) as port:
        peer = Peer.model_validate(
            {
                "ae_title": "PACS",
                "host": "127.0.0.1",
                "port": port,
                "tls": {"ca": keys.hospital.ca, "server_name": name},
            }
        )
        with pytest.raises(PeerUnreachable, match=f"TLS failed, .*{why}"):
            echo(peer, "DICOMNODE")


def test_keys_that_do_not_belong_together_stop_the_start(keys: Keys, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"dimse\.tls: certificate, key or ca cannot be used"):
        incoming_context(
            TlsSettings(certificate=keys.node.certificate, key=keys.ct1.key, require_client_certificate=False)
        )
    with pytest.raises(ConfigError, match="tls of the peer"):
        outgoing_context(PeerTls(ca=keys.node.key))


def test_a_key_with_a_password_is_refused_and_not_asked_for(keys: Keys, tmp_path: Path) -> None:
    locked = tmp_path / "locked.key"
    subprocess.run(
        ["openssl", "ec", "-in", str(keys.node.key), "-aes256", "-passout", "pass:secret", "-out", str(locked)],
        check=True,
        capture_output=True,
    )
    with pytest.raises(ConfigError, match="the key is encrypted"):
        incoming_context(TlsSettings(certificate=keys.node.certificate, key=locked, require_client_certificate=False))


@DCMTK
def test_dcmtk_stores_over_tls(keys: Keys, tmp_path: Path) -> None:
    file = tmp_path / "one.dcm"
    file.write_bytes(encode(make_ct_instance()))
    with node(keys) as here:
        done = subprocess.run(
            [
                *("/usr/bin/storescu", "-v", "-aet", "CT1", "-aec", "DICOMNODE"),
                *("+tls", str(keys.ct1.key), str(keys.ct1.certificate), "+cf", str(keys.hospital.ca)),
                *("127.0.0.1", str(here.port), str(file)),
            ],
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        assert done.returncode == 0, done.stderr
    assert len(here.door.kept) == 1


@DCMTK
def test_we_store_to_dcmtk_over_tls(keys: Keys, tmp_path: Path) -> None:
    if shutil.which("storescp") is None:
        pytest.skip("storescp is not installed")
    pacs = keys.hospital.sign("pacs.test", "DNS:pacs.test")
    (port,) = free_ports(1)
    scp = subprocess.Popen(
        [
            *("/usr/bin/storescp", "-aet", "PACS", "-od", str(tmp_path)),
            *("+tls", str(pacs.key), str(pacs.certificate), "+cf", str(keys.hospital.ca), str(port)),
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        words = {
            "ca": keys.hospital.ca,
            "certificate": keys.node.certificate,
            "key": keys.node.key,
            "server_name": "pacs.test",
        }
        peer = Peer.model_validate({"ae_title": "PACS", "host": "127.0.0.1", "port": port, "tls": words})
        await_that(lambda: _listens(port), within_s=10)
        statuses: list[int] = []
        send(
            peer,
            calling_ae_title="DICOMNODE",
            items=[to_send(make_ct_instance())],
            on_status=lambda _, status: statuses.append(status),
        )
    finally:
        scp.terminate()
        scp.wait(10)
    assert statuses == [0x0000]
    assert len(list(tmp_path.glob("CT*"))) == 1


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
