"""Independent peers against the receiver: DCMTK's tools and pynetdicom, on associations of every kind."""

from __future__ import annotations

import subprocess
import threading
from pathlib import Path
from typing import Any, cast

import pytest
from pydicom import Dataset
from pynetdicom import evt

from configs.settings import DimseSettings
from dicom_node.scp import contexts
from dicom_node.scp.receiver import Receiver
from dicom_node.scp.services import ScpParts
from tests.builders.ct import encode, make_ct_series
from tests.builders.dimse import (
    CT_IMAGE_STORAGE,
    EXPLICIT,
    IMPLICIT,
    VERIFICATION,
    RememberingDoor,
    RememberingRows,
    a_peer,
    associate_rq,
    associated,
    await_that,
    listening,
    raw_connection,
    read_pdu,
)
from tests.builders.node import free_ports

DCMTK = Path("/usr/bin")  # not the programs of the same names that pynetdicom installs
MODALITY_WORKLIST_FIND = "1.2.840.10008.5.1.4.31"
BIG_ENDIAN, DEFLATED = "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.1.99"
needs_dcmtk = pytest.mark.skipif(not (DCMTK / "storescu").exists(), reason="DCMTK is not installed")


def run(program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(DCMTK / program), *arguments], capture_output=True, text=True, timeout=60, check=False)


def write_series(folder: Path, *, count: int, transfer_syntax_uid: str = EXPLICIT) -> dict[str, bytes]:
    """Write a series; give SOP Instance UID → its data set as encoded."""
    sent = {}
    for number, slice_ in enumerate(make_ct_series(count)):
        part10 = encode(slice_, transfer_syntax_uid)
        (folder / f"{number}.dcm").write_bytes(part10)
        meta_length = int.from_bytes(part10[140:144], "little")
        sent[str(slice_.SOPInstanceUID)] = part10[144 + meta_length :]
    return sent


@needs_dcmtk
@pytest.mark.parametrize("pdu_size", ["4096", "16384", "131072"])
def test_storescu_stores_with_any_pdu_size(tmp_path: Path, pdu_size: str) -> None:
    sent = write_series(tmp_path, count=3)
    with listening() as here:
        port = str(here.port)
        done = run("storescu", "-pdu", pdu_size, "-aec", "DICOMNODE", "127.0.0.1", port, "+sd", str(tmp_path))
        assert done.returncode == 0, done.stderr
        assert {each.sop_instance_uid: each.data_set for each in here.door.kept} == sent
        await_that(lambda: list(here.rows.ends.values()) == ["released"])


@needs_dcmtk
@pytest.mark.parametrize(("option", "syntax"), [("-xb", BIG_ENDIAN), ("-xd", DEFLATED), ("-xi", IMPLICIT)])
def test_storescu_stores_in_other_transfer_syntaxes(tmp_path: Path, option: str, syntax: str) -> None:
    sent = write_series(tmp_path, count=2, transfer_syntax_uid=syntax)
    with listening() as here:
        done = run("storescu", option, "-aec", "DICOMNODE", "127.0.0.1", str(here.port), "+sd", str(tmp_path))
        assert done.returncode == 0, done.stderr
        assert {each.sop_instance_uid for each in here.door.kept} == set(sent)
        if syntax == BIG_ENDIAN:  # proposed beside the little endian ones, which we prefer
            assert {each.transfer_syntax_uid for each in here.door.kept} <= {EXPLICIT, IMPLICIT, BIG_ENDIAN}
        if syntax == DEFLATED:
            assert {each.transfer_syntax_uid for each in here.door.kept} <= {DEFLATED, EXPLICIT, IMPLICIT}


@needs_dcmtk
def test_dcmsend_stores_and_is_released(tmp_path: Path) -> None:
    sent = write_series(tmp_path, count=5)
    with listening() as here:
        done = run("dcmsend", "-aec", "DICOMNODE", "127.0.0.1", str(here.port), "+sd", str(tmp_path))
        assert done.returncode == 0, done.stderr
        assert {each.sop_instance_uid: each.data_set for each in here.door.kept} == sent


@needs_dcmtk
def test_echoscu_is_answered_many_times_on_one_association() -> None:
    with listening() as here:
        done = run("echoscu", "--repeat", "20", "-aec", "DICOMNODE", "127.0.0.1", str(here.port))
        assert done.returncode == 0, done.stderr


@needs_dcmtk
@pytest.mark.parametrize("option", ["--abort", "-pts=38"])
def test_echoscu_may_abort_or_propose_many_syntaxes(option: str) -> None:
    with listening() as here:
        done = run("echoscu", *option.split("="), "-aec", "DICOMNODE", "127.0.0.1", str(here.port))
        assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT, BIG_ENDIAN, DEFLATED])
def test_pynetdicom_stores_as_its_context_says(syntax: str) -> None:
    slices = make_ct_series(3)
    with listening() as here, associated(here.port, [(CT_IMAGE_STORAGE, [syntax])]) as association:
        for slice_ in slices:
            encode(slice_, syntax)
            assert association.send_c_store(slice_).Status == 0x0000
    assert {each.transfer_syntax_uid for each in here.door.kept} == {syntax}
    assert [each.sop_instance_uid for each in here.door.kept] == [each.SOPInstanceUID for each in slices]


def test_a_mixed_association_stores_queries_and_echoes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(contexts.SERVICE_CLASSES, MODALITY_WORKLIST_FIND, "find")

    def nothing_found(_: ScpParts) -> list[evt.EventHandlerType]:
        return [(evt.EVT_C_FIND, lambda _event: iter(()))]

    wishes = [(CT_IMAGE_STORAGE, [EXPLICIT]), (MODALITY_WORKLIST_FIND, [IMPLICIT]), (VERIFICATION, [IMPLICIT])]
    peers = {"workstation": a_peer(accept=["echo", "store", "find"])}
    (slice_,) = make_ct_series(1)
    encode(slice_)
    identifier = Dataset()
    identifier.QueryRetrieveLevel = "STUDY"
    with (
        listening(peers=peers, services=[nothing_found]) as here,
        associated(here.port, wishes) as association,
    ):
        assert association.send_c_echo().Status == 0x0000
        assert association.send_c_store(slice_).Status == 0x0000
        assert [status.Status for status, _ in association.send_c_find(identifier, MODALITY_WORKLIST_FIND)] == [0x0000]
        association.release()
        await_that(lambda: list(here.rows.ends.values()) == ["released"])
    assert [each.sop_instance_uid for each in here.door.kept] == [slice_.SOPInstanceUID]


def test_a_query_of_a_peer_that_may_not_gets_its_context_refused() -> None:
    wishes = [(CT_IMAGE_STORAGE, [EXPLICIT]), (MODALITY_WORKLIST_FIND, [IMPLICIT])]
    with listening() as here, associated(here.port, wishes) as association:
        assert [str(each.abstract_syntax) for each in association.accepted_contexts] == [CT_IMAGE_STORAGE]


def test_a_hundred_associations_are_served_at_once() -> None:
    with listening() as here:
        waiting = threading.Barrier(100, timeout=30)
        failures: list[object] = []

        def hold() -> None:
            with raw_connection(here.port) as connection:
                connection.sendall(associate_rq())
                kind, content = read_pdu(connection)
                if kind != 2:
                    failures.append((kind, content))
                waiting.wait()

        threads = [threading.Thread(target=hold) for _ in range(100)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not failures
        await_that(lambda: len(here.rows.ends) == 100)


def test_several_receivers_share_a_port_and_each_ends_only_its_own_associations() -> None:
    (port,) = free_ports(1)
    rows = (RememberingRows(), RememberingRows())
    doors = (RememberingDoor(), RememberingDoor())
    receivers = [
        Receiver(
            DimseSettings(port=port, processes=2),
            peers={"loopback": a_peer()},
            intake=cast(Any, doors[number]),
            associations=cast(Any, rows[number]),
            number=number,
        )
        for number in range(2)
    ]
    try:
        for receiver in receivers:
            receiver.start()
        for slice_ in make_ct_series(40):
            encode(slice_)
            with associated(port, [(CT_IMAGE_STORAGE, [EXPLICIT])]) as association:
                assert association.send_c_store(slice_).Status == 0x0000
        assert sum(len(door.kept) for door in doors) == 40
        assert all(door.kept for door in doors)
    finally:
        for receiver in receivers:
            receiver.stop()
    assert rows[0].lost_receivers != rows[1].lost_receivers
