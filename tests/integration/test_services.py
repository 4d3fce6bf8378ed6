"""Services join the receiver by a table of handlers, on the associations of listed peers."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from pydicom import Dataset
from pynetdicom import evt
from pynetdicom.events import Event

from dicom_node.scp import contexts
from dicom_node.scp.services import ScpParts
from tests.builders.dimse import EXPLICIT, a_peer, associated, listening

MODALITY_WORKLIST_FIND = "1.2.840.10008.5.1.4.31"


def test_a_service_of_its_own_module_answers_and_knows_which_peer_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(contexts.SERVICE_CLASSES, MODALITY_WORKLIST_FIND, "find")

    def service(parts: ScpParts) -> list[evt.EventHandlerType]:
        def on_find(event: Event) -> Iterator[tuple[int, Dataset | None]]:
            entry = parts.register.of(event.assoc)
            answer = Dataset()
            answer.PatientID = entry.origin.calling_ae_title if entry else "unknown"
            yield 0xFF00, answer

        return [(evt.EVT_C_FIND, on_find)]

    with (
        listening(peers={"viewer": a_peer(accept=["find"])}, services=[service]) as here,
        associated(here.port, [(MODALITY_WORKLIST_FIND, [EXPLICIT])], calling="VIEWER") as association,
    ):
        identifier = Dataset()
        identifier.QueryRetrieveLevel = "STUDY"
        answers = list(association.send_c_find(identifier, MODALITY_WORKLIST_FIND))
    assert [(status.Status, found.PatientID if found else None) for status, found in answers] == [
        (0xFF00, "VIEWER"),
        (0x0000, None),
    ]
