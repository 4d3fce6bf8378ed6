"""A peer that asks for storage commitment and takes reports, by pynetdicom alone."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from pydicom import Dataset
from pydicom.sequence import Sequence as DicomSequence
from pydicom.uid import generate_uid
from pynetdicom import build_context, evt
from pynetdicom.association import Association
from pynetdicom.events import Event

from dicom_node.network import application_entity
from tests.builders.dimse import EXPLICIT, IMPLICIT

PUSH_MODEL = "1.2.840.10008.1.20.1"
PUSH_MODEL_INSTANCE = "1.2.840.10008.1.20.1.1"


@dataclass
class Reported:
    """One report as the peer got it."""

    event_type: int
    information: Dataset
    transfer_syntax: str
    calling_ae_title: str
    called_ae_title: str
    own_association: bool
    """On an association that the reporter asked for."""
    roles: list[tuple[bool | None, bool | None]]
    """(SCU, SCP) roles that the reporter proposed."""

    @property
    def committed(self) -> list[str]:
        return [item.ReferencedSOPInstanceUID for item in self.information.get("ReferencedSOPSequence", [])]

    @property
    def failed(self) -> dict[str, int]:
        items = self.information.get("FailedSOPSequence", [])
        return {item.ReferencedSOPInstanceUID: item.FailureReason for item in items}


@dataclass
class Asker:
    """A modality that wants commitment."""

    answer_with: int = 0x0000
    reports: list[Reported] = field(default_factory=list)
    port: int = 0

    def handle(self, event: Event) -> tuple[int, None]:
        proposed = event.assoc.requestor.role_selection.values() if event.assoc.is_acceptor else ()
        self.reports.append(
            Reported(
                event.request.EventTypeID,
                event.event_information,
                str(event.context.transfer_syntax),
                event.assoc.requestor.ae_title,
                event.assoc.acceptor.ae_title,
                own_association=event.assoc.is_acceptor,
                roles=[(item.scu_role, item.scp_role) for item in proposed],
            )
        )
        return self.answer_with, None

    @contextlib.contextmanager
    def asking(
        self, port: int, *, calling: str = "CT1", syntaxes: Sequence[str] = (EXPLICIT, IMPLICIT)
    ) -> Iterator[Association]:
        """Have an association with the node on which requests go out and reports may come back."""
        entity = application_entity(calling)
        entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = 10
        association = entity.associate(
            "127.0.0.1",
            port,
            contexts=[build_context(PUSH_MODEL, list(syntaxes)), build_context("1.2.840.10008.1.1", EXPLICIT)],
            ae_title="DICOMNODE",
            evt_handlers=[(evt.EVT_N_EVENT_REPORT, self.handle)],
        )
        assert association.is_established
        try:
            yield association
        finally:
            if association.is_established:
                association.release()

    @contextlib.contextmanager
    def listening(self, *, title: str = "CT1", port: int = 0, syntaxes: Sequence[str] = (IMPLICIT,)) -> Iterator[int]:
        """Take reports on associations that the node asks for; give the port."""
        entity = application_entity(title)
        entity.require_called_aet = True
        entity.add_supported_context(PUSH_MODEL, list(syntaxes), scu_role=False, scp_role=True)
        server = entity.start_server(
            ("127.0.0.1", port), block=False, evt_handlers=[(evt.EVT_N_EVENT_REPORT, self.handle)]
        )
        try:
            self.port = server.server_address[1]
            yield self.port
        finally:
            server.shutdown()


def a_request(*references: tuple[str, str], transaction_uid: str | None = None) -> Dataset:
    """Make the Action Information of a request for (SOP Class, SOP Instance) pairs."""
    information = Dataset()
    information.TransactionUID = transaction_uid or generate_uid()
    items = []
    for sop_class_uid, sop_instance_uid in references:
        item = Dataset()
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = sop_class_uid, sop_instance_uid
        items.append(item)
    information.ReferencedSOPSequence = DicomSequence(items)
    return information


def ask(association: Association, information: Dataset | None, *, action: int = 1, instance: str | None = None) -> int:
    """Send one N-ACTION; give its Status."""
    status, _ = association.send_n_action(information, action, PUSH_MODEL, instance or PUSH_MODEL_INSTANCE)
    return int(status.Status)
