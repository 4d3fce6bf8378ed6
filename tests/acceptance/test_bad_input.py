"""What is sent by mistake or on purpose: it gets a status, a log line, a state; and nobody else is disturbed."""

from __future__ import annotations

import os
import random
import socket
import struct
import time
import zlib
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian

from tests.builders.ct import make_ct_instance, uid
from tests.builders.dimse import CT_IMAGE_STORAGE, read_pdu
from tests.builders.node import NodeProcess, wait_until
from tests.builders.wire import Gone, Made, Mill, Modality, associate_rq, bare, store_message
from tests.chaos.network import PEERS, costs_of

pytestmark = [pytest.mark.timeout(240), pytest.mark.xdist_group("bad-input")]

#: Values that no output may show.
CANARIES = {
    "PatientName": "Canary^Yellowbird",
    "PatientID": "CANARYID4711",
    "PatientBirthDate": "19330303",
    "AccessionNumber": "CANARYACC99",
    "StudyDescription": "CANARYDESC",
    "ReferringPhysicianName": "Canary^Referrer",
}
ROUTES = [{"name": "chest-ct", "engine": "classical-lung", "when": {"Modality": "CT"}, "deliver_to": []}]


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeProcess]:
    """One node for all: what one test does to it must not disturb the next."""
    folder = tmp_path_factory.mktemp("bad")
    (folder / "around").mkdir()
    made = NodeProcess(folder / "node", peers=PEERS, routes=ROUTES)
    made.start()
    yield made
    said, refused = made.run("ledger"), made.run("peers", "list", "--refused")
    made.stop()
    assert said.stdout.splitlines()[-1] == "0 unexplained", said.stdout + said.stderr
    assert shown_in(said.stdout + said.stderr + refused.stdout) == []


def shown_in(text: str) -> list[str]:
    """Give the canaries that a text shows."""
    return [value for value in CANARIES.values() if value in text or value.split("^")[0] + "^" in text]


@pytest.fixture(autouse=True)
def undisturbed(node: NodeProcess) -> Iterator[None]:
    """After each test the same processes serve, and have said nothing of patients."""
    before = node.role_pids()
    yield
    with Modality(node.dimse_port) as modality:
        assert modality.store(Mill(7, seed=time.time_ns()).make(random.randrange(10_000), 1)) == 0x0000
        modality.release()
    assert before.items() <= node.role_pids().items(), "a role ended"
    assert shown_in(node.log()) == [], "patient data in the log"


def instance(number: int, **overrides: Any) -> Made:
    """Make an instance with canaries for patient data."""
    made = make_ct_instance(number, study=70, **{**CANARIES, **overrides})
    data_set = bare(made)
    return Made(uid(70), str(made.get("SOPInstanceUID", uid(70, 1, number))), data_set)


def store(node: NodeProcess, made: Made, syntax: str = ExplicitVRLittleEndian, **association: Any) -> int:
    with Modality(node.dimse_port, contexts=[(CT_IMAGE_STORAGE, str(syntax))], **association) as modality:
        status = modality.store(made)
        modality.release()
    return status


def kept(node: NodeProcess, sop_instance_uid: str) -> bool:
    answer = httpx.get(f"{node.url}/dicom-web/instances?SOPInstanceUID={sop_instance_uid}", timeout=30)
    return answer.status_code == 200 and bool(answer.json())


def test_what_is_no_data_set_cannot_be_understood(node: NodeProcess) -> None:
    for content in (b"", b"x", b"Canary^Yellowbird is no DICOM at all, and long enough to be one", b"\xff" * 4096):
        assert store(node, Made("", uid(70, 2, 1), content)) == 0xC000
    assert not kept(node, uid(70, 2, 1))
    assert "error=unreadable_instance" in node.log()


@pytest.mark.filterwarnings("ignore:Invalid value for VR UI")
@pytest.mark.parametrize("keyword", ["StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID"])
def test_a_data_set_without_a_uid_cannot_be_understood(node: NodeProcess, keyword: str) -> None:
    for number, value in enumerate((None, "", "CANARYDESC", "1.2.840/../../etc"), 1):
        made = instance(number, **{keyword: value})
        assert store(node, Made(uid(70), uid(70, 1, number), made.data_set)) in (0xC000, 0xA900)
        assert not kept(node, uid(70, 1, number))


def test_another_instance_or_class_than_announced_does_not_match(node: NodeProcess) -> None:
    made = instance(1)
    assert store(node, Made(uid(70), uid(70, 1, 999), made.data_set)) == 0xA900
    other_class = Made(uid(70), made.sop_instance_uid, made.data_set, "1.2.840.10008.5.1.4.1.1.4")
    assert store(node, other_class) == 0xA900
    assert not kept(node, made.sop_instance_uid)


def hostile_uids(count: int, seed: int) -> list[bytes]:
    """Names that try to leave the store, to name devices, to break text, or that are too long."""
    chance = random.Random(seed)
    parts = [
        *(
            b"..",
            b"../",
            b"..\\",
            b"/",
            b"/etc/passwd",
            b"\0",
            b"CON",
            b"NUL",
            b"aux.dcm",
            b"%2e%2e%2f",
            b"~root",
            b"$(id)",
        ),
        *(
            "\uff0f..\uff0f".encode(),
            "\u2215".encode(),
            b"\r\nSet-Cookie: x",
            b"<script>",
            b"1.2.3",
            b".",
            b" ",
            b"1" * 80,
        ),
        *(b"'; DROP TABLE studies;--", b"\x1b[2J", b"\xff\xfe", b"-1.2", b"1..2", b"1.2.", b"incoming", b"node.db"),
    ]
    made = [b"".join(chance.choice(parts) for _ in range(chance.randint(1, 4)))[:200] for _ in range(count)]
    return [each for each in made if not each.rstrip(b"\0 ").replace(b".", b"").isdigit()]


def test_no_name_of_a_sender_becomes_a_path(node: NodeProcess) -> None:
    seed = int(os.environ.get("CHAOS_SEED", "4711"))
    around = node.folder.parent
    before = {path for path in around.rglob("*") if node.data_dir not in path.parents}
    template = instance(1).data_set
    names = hostile_uids(330, seed)
    assert len(names) >= 300
    with Modality(node.dimse_port) as modality:
        for at, name in enumerate(names):
            own = (uid(70), uid(70, 1), uid(70, 1, 1))[at % 3].encode()
            value = name + b"\0" * (len(name) % 2)
            padded = own + b"\0" * (len(own) % 2)
            tag = (b"\x20\x00\x0d\x00", b"\x20\x00\x0e\x00", b"\x08\x00\x18\x00")[at % 3]
            old = tag + b"UI" + struct.pack("<H", len(padded)) + padded
            assert old in template
            data_set = template.replace(old, tag + b"UI" + struct.pack("<H", len(value)) + value)
            assert modality.store(Made("", uid(70, 1, 1), data_set)) in (0xC000, 0xA900), (seed, name)
        modality.release()
    for name in names[:40]:
        with Modality(node.dimse_port) as modality:
            text = name.decode("latin-1")
            made = Made("", text, template)
            try:
                assert modality.store(made) in (0x0117, 0xA900, 0xC000), name
            except (Gone, UnicodeEncodeError):
                continue  # a name that no command set holds: the association ends
    assert {path for path in around.rglob("*") if node.data_dir not in path.parents} == before
    assert not kept(node, uid(70, 1, 1))
    names_in_store = {path.name for path in (node.data_dir / "blobs").iterdir()}
    assert names_in_store <= {"incoming", "instances", "findings"}
    stored = [path for path in (node.data_dir / "blobs/instances").rglob("*") if path.is_file()]
    assert all(len(path.stem) == 49 and path.stem.replace("-", "").isalnum() for path in stored)


def test_a_transfer_cut_short_is_not_kept(node: NodeProcess) -> None:
    made = instance(2)
    for cut in (1, 100, 511):
        assert store(node, Made(made.study_instance_uid, made.sop_instance_uid, made.data_set[:-cut])) == 0xC000
    for share in (0.1, 0.5, 0.99):
        with Modality(node.dimse_port) as modality:
            message = store_message(made)
            modality.send(message[: int(len(message) * share)])
            modality.abort()
    assert not kept(node, made.sop_instance_uid)
    wait_until(lambda: node.log().count("unfinished_instance=True") >= 3, within_s=10, what="the log tells of them")


@pytest.mark.parametrize(
    ("calling", "called", "why"),
    [("CT1", "DICOMNOD", (1, 1, 7)), ("STRANGER", "DICOMNODE", (1, 1, 3))],
)
def test_a_wrong_title_is_rejected_with_the_reason(
    node: NodeProcess, calling: str, called: str, why: tuple[int, ...]
) -> None:
    with socket.create_connection(("127.0.0.1", node.dimse_port), timeout=10) as connection:
        connection.sendall(associate_rq(calling, called, [(CT_IMAGE_STORAGE, "1.2.840.10008.1.2.1")]))
        kind, content = read_pdu(connection)
    assert (kind, tuple(content[1:4])) == (0x03, why)
    if called == "DICOMNOD":
        listed = wait_until(
            lambda: "DICOMNOD" in (shown := node.run("peers", "list", "--refused").stdout) and shown,
            within_s=10,
            what="the refused caller is listed",
        )
        assert "CT1" in listed


def test_an_unknown_modality_is_kept_and_its_study_says_why_nothing_follows(node: NodeProcess) -> None:
    made = make_ct_instance(1, study=71, Modality="ZZ", **CANARIES)
    assert store(node, Made(uid(71), uid(71, 1, 1), bare(made))) == 0x0000
    study = node.await_state(uid(71), "unmatched")
    assert study["reason"]
    assert kept(node, uid(71, 1, 1))


def test_a_deflate_bomb_is_refused_soon_and_costs_no_memory(node: NodeProcess) -> None:
    receiver = node.role_pids()["receiver"]
    head = bare(make_ct_instance(3, study=70, PixelData=None, **CANARIES))
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    bomb = packer.compress(head + b"\xe0\x7f\x10\x00OW\0\0" + struct.pack("<I", 1_100_000_000))
    block = bytes(1 << 20)
    for _ in range(1050):
        bomb += packer.compress(block)
    bomb += packer.flush()
    assert len(bomb) < 2_000_000
    before = costs_of(receiver)
    began = time.monotonic()
    status = store(node, Made(uid(70), uid(70, 1, 3), bomb), DeflatedExplicitVRLittleEndian)
    took = time.monotonic() - began
    assert status == 0xC000
    assert costs_of(receiver).rss_mb - before.rss_mb <= 64
    assert costs_of(receiver).cpu_s - before.cpu_s <= 2.0, took


def nested(depth: int, *, undefined: bool) -> bytes:
    """Encode Request Attributes Sequence, with sequences in it, so deep."""
    tag = b"\x40\x00\x75\x02"
    if undefined:
        begin = tag + b"SQ\0\0\xff\xff\xff\xff" + b"\xfe\xff\x00\xe0\xff\xff\xff\xff"
        return begin * depth + (b"\xfe\xff\x0d\xe0\0\0\0\0" + b"\xfe\xff\xdd\xe0\0\0\0\0") * depth
    parts = [tag + b"SQ\0\0" + struct.pack("<I", 20 * n + 8) + b"\xfe\xff\x00\xe0" + struct.pack("<I", 20 * n)
             for n in range(depth - 1, -1, -1)]  # fmt: skip
    return b"".join(parts)


@pytest.mark.parametrize("undefined", [True, False])
@pytest.mark.parametrize("depth", [10, 100, 1_000, 100_000])
def test_nesting_however_deep_harms_nobody(node: NodeProcess, depth: int, undefined: bool) -> None:
    number = 100 + depth % 997 + undefined
    sound = instance(number, StudyInstanceUID=uid(72), SeriesInstanceUID=uid(72, 1), SOPInstanceUID=uid(72, 1, number))
    at = sound.data_set.index(b"\xe0\x7f\x10\x00")
    data_set = sound.data_set[:at]
    # In order of tags it stands between (0040,…) and the pixel data: the last before it here.
    data_set += nested(depth, undefined=undefined) + sound.data_set[at:]
    began = time.monotonic()
    status = store(node, Made(uid(72), uid(72, 1, number), data_set))
    assert time.monotonic() - began < 10
    assert status in (0x0000, 0xC000)
    if depth <= 10:
        assert status == 0x0000
    if undefined and depth >= 1_000:
        assert status == 0xC000
    neighbour = instance(9, StudyInstanceUID=uid(72), SeriesInstanceUID=uid(72, 1), SOPInstanceUID=uid(72, 1, 9))
    assert store(node, neighbour) == 0x0000
    for path in (f"/dicom-web/studies/{uid(72)}/instances", f"/dicom-web/studies/{uid(72)}/metadata"):
        listed = node.get(path)
        assert uid(72, 1, 9) in {each["00080018"]["Value"][0] for each in listed}
