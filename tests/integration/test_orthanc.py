"""Orthanc asks the node what it keeps, and fetches it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from configs.peers import Peer
from storage.blobs import LocalBlobs
from storage.database import Database
from storage.records import Kept
from tests.builders.ct import make_ct_instance, uid
from tests.builders.orthanc import AE_TITLE, MISSING, PROGRAM, orthanc, two_ports
from tests.builders.queries import answering_queries

Receive = Callable[..., Kept]
pytestmark = pytest.mark.skipif(PROGRAM is None, reason=MISSING)


@pytest.fixture
def database_url(sqlite_url: str) -> str:
    """One engine suffices: what differs between them is tested with the queries."""
    return sqlite_url


def test_orthanc_finds_a_study_and_has_it_sent_to_itself(
    database: Database, blobs: LocalBlobs, receive: Receive, tmp_path: Path
) -> None:
    for number in range(1, 6):
        receive(make_ct_instance(number, study=1, PatientName="Müller^Jörg", PatientID="A"))
    receive(make_ct_instance(1, study=2, PatientID="B"))
    ports = two_ports()
    peers = {"orthanc": Peer(ae_title=AE_TITLE, host="127.0.0.1", port=ports[0], accept=("echo", "find", "move"))}
    with (
        answering_queries(database, blobs, peers=peers) as here,
        orthanc(tmp_path / "orthanc", ports, {"node": ["DICOMNODE", "127.0.0.1", here.port]}) as peer,
    ):
        asked = peer.post("/modalities/node/query", {"Level": "Study", "Query": {"PatientName": "MÜLLER*"}})
        (answer,) = peer.get(f"{asked['Path']}/answers?expand&simplify")
        moved = peer.post(f"{asked['Path']}/retrieve", AE_TITLE)
        series = peer.post(
            "/modalities/node/query", {"Level": "Series", "Query": {"StudyInstanceUID": uid(1), "Modality": "CT"}}
        )
        assert len(peer.get(f"{series['Path']}/answers")) == 1
        kept = peer.get("/instances")
        names = {peer.get(f"/instances/{one}/simplified-tags")["SOPInstanceUID"] for one in kept}
    assert (answer["StudyInstanceUID"], answer["PatientID"]) == (uid(1), "A")
    assert moved["RemoteAet"] == "DICOMNODE"
    assert names == {uid(1, 1, number) for number in range(1, 6)}
