"""The web role: DICOMweb, the API, the console."""

from __future__ import annotations

from configs.settings import Settings
from dicom_node.admin_key import admin_key
from dicom_node.chat import chat_model
from dicom_node.live_peers import LivePeers
from dicom_node.live_routes import LiveRoutes
from dicom_node.parts import Storage, now
from dicom_node.pictures import KeptPictures, KeptReadings
from dicom_node.rule_trials import RuleTrials
from dicom_node.supervisor import RoleContext
from dicom_node.version import VERSION
from dicomweb.app import create_app
from dicomweb.ports import EngineInfo, WebParts
from dicomweb.server import serve
from inference.pixel_process import PixelProcess
from inference.registry import engines
from storage.associations import Associations
from storage.audit import Audit
from storage.deliveries import Deliveries
from storage.findings_store import FindingsStore
from storage.index import Index
from storage.job_book import JobBook
from storage.jobs import Queue
from storage.keys import Keys
from storage.results import ResultBook


def run(context: RoleContext) -> None:
    """Serve HTTP until told to stop."""
    settings = context.settings
    storage = Storage.open(settings)
    database, blobs = storage.database, storage.blobs
    index = Index(database)
    queue = Queue(database)
    intake = storage.intake(settings)
    pixels = PixelProcess(scratch=settings.data_dir)
    peers = LivePeers(context.config_dir / "peers.yaml", settings.peers)
    parts = WebParts(
        settings=settings,
        version=VERSION,
        database=database,
        index=index,
        blobs=blobs,
        intake=intake,
        keys=Keys(database),
        audit=Audit(database),
        job_book=JobBook(database),
        queue=queue,
        results=ResultBook(database),
        deliveries=Deliveries(database, queue),
        associations=Associations(database),
        peers=peers,
        admin_key=admin_key(settings),
        pixels=pixels,
        pictures=KeptPictures(index, blobs),
        readings=KeptReadings(index, blobs, FindingsStore(database, blobs)),
        rules=RuleTrials(
            LiveRoutes(context.config_dir / "routes.yaml", settings.routes, peers),
            peers,
            {name: engine.description.reads for name, engine in engines(settings.engines).items()},
            index,
            blobs,
        ),
        engines=engine_infos(settings),
        chat=chat_model(settings),
        now=now,
    )
    app = create_app(parts)
    try:
        pixels.warm()
        serve(
            app,
            host=settings.http.host,
            port=settings.http.port,
            stop=context.stop,
            on_ready=lambda port: context.ready(port=port),
        )
    finally:
        pixels.close()
        intake.close()
        storage.close()


def engine_infos(settings: Settings) -> tuple[EngineInfo, ...]:
    """Say which engines run here."""
    descriptions = (engine.description for engine in engines(settings.engines).values())
    return tuple(
        EngineInfo(each.name, each.version, each.kind, each.reads.modalities, enabled=True) for each in descriptions
    )
