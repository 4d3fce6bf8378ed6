"""The receiver: DICOM peers come in here."""

from __future__ import annotations

from dicom_node.live_peers import LivePeers
from dicom_node.parts import Storage, now
from dicom_node.scp.announcing import AnnouncementService
from dicom_node.scp.commitment import CommitmentService
from dicom_node.scp.query_retrieve import QueryParts, QueryService
from dicom_node.scp.receiver import Receiver
from dicom_node.scp.services import ScpService
from dicom_node.scu.transcoding import PixelTranscoder
from dicom_node.supervisor import RoleContext
from inference.pixel_process import PixelProcess
from storage.announcements import Announcements
from storage.associations import Associations
from storage.audit import Audit
from storage.commitments import Commitments
from storage.confirmations import Confirmations
from storage.index import Index


def run(context: RoleContext) -> None:
    """Serve DIMSE until told to stop."""
    settings = context.settings
    storage = Storage.open(settings)
    intake = storage.intake(settings)
    peers = LivePeers(context.config_dir / "peers.yaml", settings.peers)
    pixels = PixelProcess(children=1)
    query = QueryParts(
        index=Index(storage.database),
        blobs=storage.blobs,
        audit=Audit(storage.database),
        transcoder=PixelTranscoder(pixels),
        now=now,
    )
    services: list[ScpService] = [  # what is served beside C-ECHO and C-STORE
        CommitmentService(Commitments(storage.database, storage.blobs), Confirmations(storage.database)),
        QueryService(query),
        AnnouncementService(Announcements(storage.database)),
    ]
    receiver = Receiver(
        settings.dimse,
        peers=peers,
        intake=intake,
        associations=Associations(storage.database),
        services=services,
        number=context.number,
    )
    receiver.start()
    try:
        context.ready(port=receiver.port)
        context.stop.wait()
    finally:
        receiver.stop()
        pixels.close()
        intake.close()
        storage.close()
