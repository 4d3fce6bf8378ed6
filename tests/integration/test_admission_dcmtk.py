"""Who is let in, as DCMTK's tools meet it: titles, caps, certificates, and a peer list that changes meanwhile."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

import pytest
import yaml

from configs.load import read_peers
from configs.settings import TlsSettings
from dicom_node.live_peers import LivePeers
from tests.builders.certificates import Authority, Pair
from tests.builders.ct import encode, make_ct_series
from tests.builders.dimse import associate_rq, await_that, listening, raw_connection, read_pdu

pytestmark = pytest.mark.skipif(not Path("/usr/bin/echoscu").exists(), reason="DCMTK is not installed")

CT1 = {"ae_title": "CT1", "from": ["127.0.0.1"], "accept": ["echo", "store"]}


def peer_list(folder: Path, **peers: object) -> Path:
    """Write a peer list; its time always differs from that of the one before."""
    path = folder / "peers.yaml"
    path.write_text(yaml.safe_dump({"peers": peers}))
    os.utime(path, ns=(time.time_ns(), time.time_ns()))
    return path


def live(path: Path) -> LivePeers:
    return LivePeers(path, read_peers(path))


def run(program: str, port: int, *words: str, calling: str = "CT1", called: str = "DICOMNODE") -> tuple[int, str]:
    """Run a tool against the node; give its exit status and what it said."""
    command = [f"/usr/bin/{program}", "-v", "-aet", calling, "-aec", called, "127.0.0.1", str(port), *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    return done.returncode, " ".join((done.stdout + done.stderr).split())


@pytest.mark.parametrize(
    ("calling", "called", "reason"),
    [("STRANGER", "DICOMNODE", "Calling AE Title Not Recognized"), ("CT1", "OTHER", "Called AE Title Not Recognized")],
)
def test_unknown_titles_are_rejected_for_good_with_their_reason(
    calling: str, called: str, reason: str, tmp_path: Path
) -> None:
    with listening(peers=live(peer_list(tmp_path, ct1=CT1))) as here:
        assert run("echoscu", here.port)[0] == 0
        code, said = run("echoscu", here.port, calling=calling, called=called)
    assert code != 0
    assert "Result: Rejected Permanent, Source: Service User" in said
    assert f"Reason: {reason}" in said


def test_a_peer_is_let_in_and_shut_out_while_the_node_runs(tmp_path: Path) -> None:
    with listening(peers=live(peer_list(tmp_path, ct1=CT1))) as here:
        assert run("echoscu", here.port, calling="CT2")[0] != 0
        peer_list(tmp_path, ct1=CT1, ct2=CT1 | {"ae_title": "CT2"})
        await_that(lambda: run("echoscu", here.port, calling="CT2")[0] == 0)
        (tmp_path / "peers.yaml").write_text("peers: {ct1: {ae_title: 7}}")  # a list that is none changes nothing
        time.sleep(1.1)
        assert run("echoscu", here.port, calling="CT2")[0] == 0
        peer_list(tmp_path, ct2=CT1 | {"ae_title": "CT2"})
        await_that(lambda: "Calling AE Title Not Recognized" in run("echoscu", here.port)[1])


def test_an_association_beyond_the_peer_s_cap_is_rejected_for_now(tmp_path: Path) -> None:
    capped = CT1 | {"caps": {"associations": 1}}
    with listening(peers=live(peer_list(tmp_path, ct1=capped))) as here:
        with raw_connection(here.port) as held:
            held.sendall(associate_rq())
            assert read_pdu(held)[0] == 0x02
            code, said = run("echoscu", here.port)
            assert code != 0
            assert "Result: Rejected Transient, Source: Service Provider (Presentation Related)" in said
            assert "Reason: Local Limit Exceeded" in said
        await_that(lambda: run("echoscu", here.port)[0] == 0)


def test_a_peer_beyond_its_instances_a_minute_is_slowed_down_and_loses_nothing(tmp_path: Path) -> None:
    capped = CT1 | {"caps": {"instances_per_minute": 60}}
    files = []
    for number, slice_ in enumerate(make_ct_series(4)):
        files.append(str(tmp_path / f"{number}.dcm"))
        Path(files[-1]).write_bytes(encode(slice_))
    with listening(peers=live(peer_list(tmp_path, ct1=capped))) as here:
        began = time.monotonic()
        code, said = run("storescu", here.port, *files)
        took_s = time.monotonic() - began
    assert code == 0, said
    assert len(here.door.kept) == 4
    assert took_s >= 3.0  # the first at once, then one a second


@pytest.fixture(scope="module")
def hospital(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority.make(tmp_path_factory.mktemp("keys"), "Hospital CA")


@pytest.mark.parametrize(("name", "let_in"), [("CT1", True), ("CT2", False)])
def test_over_tls_a_certificate_lets_in_under_its_own_title_alone(
    hospital: Authority, name: str, let_in: bool, tmp_path: Path
) -> None:
    ours, theirs = hospital.sign("node.test", "DNS:node.test"), hospital.sign(name)
    tls = TlsSettings(certificate=ours.certificate, key=ours.key, ca=hospital.ca)
    with listening(peers=live(peer_list(tmp_path, ct1=CT1 | {"from": ["127.0.0.0/8"]})), tls=tls) as here:
        code, said = run("echoscu", here.port, *with_tls(theirs, hospital))
    assert (code == 0) == let_in, said
    assert ("Calling AE Title Not Recognized" in said) != let_in


def with_tls(shown: Pair, authority: Authority) -> list[str]:
    return ["+tls", str(shown.key), str(shown.certificate), "+cf", str(authority.ca)]
