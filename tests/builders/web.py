"""The web application over real storage, without sockets."""

from __future__ import annotations

import atexit
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from io import BytesIO
from pathlib import Path
from typing import Any

import anyio
import httpx
from fastapi import FastAPI
from pydicom import Dataset
from starlette.types import ASGIApp

from configs.settings import Settings
from dicom_node.chat import chat_model
from dicom_node.live_routes import LiveRoutes
from dicom_node.rule_trials import RuleTrials
from dicomweb.app import create_app
from dicomweb.ports import EngineInfo, Plane, WebParts
from inference.engines.protocol import SeriesNeeds
from inference.pixel_process import PixelProcess
from storage.associations import Associations
from storage.audit import Audit
from storage.blobs import LocalBlobs
from storage.database import Database
from storage.deliveries import Deliveries
from storage.errors import NotKept
from storage.index import Index
from storage.intake import Intake
from storage.job_book import JobBook
from storage.jobs import Queue
from storage.keys import Keys
from storage.records import EVERYTHING, Kept, Origin, OriginKind, StudyFilter
from storage.results import ResultBook
from tests.builders.ct import encode
from tests.builders.work import NOON

ADMIN_KEY = "dn_admin_0123456789012345678901234567890123456789012"
SENDER = Origin(OriginKind.DIMSE, peer="ct1", calling_ae_title="CT1", called_ae_title="DICOMNODE", host="127.0.0.1")


#: One for all tests: its children are warm, and end with this process.
PIXELS = PixelProcess(children=1)
atexit.register(PIXELS.close)


class PaperPictures:
    """A picture of nothing."""

    def overlay(self, seg_sop_instance_uid: str, plane: Plane) -> bytes:  # noqa: ARG002 (of the Protocol)
        return b"\x89PNG " + plane.encode()


class PaperReadings:
    """Readings as told."""

    def __init__(self) -> None:
        self.texts: dict[str, str] = {}

    def text(self, sr_sop_instance_uid: str) -> str:
        return self.texts.get(sr_sop_instance_uid, "REPORT")

    def findings(self, run_key: str) -> dict[str, Any]:
        if not run_key:
            raise NotKept
        return {"run_key": run_key, "summary": "RESEARCH USE. Made up."}

    def stated(self, sop_instance_uid: str) -> dict[str, Any]:
        if sop_instance_uid not in self.texts:
            raise NotKept("It cannot be read.")
        return {"summary": self.texts[sop_instance_uid]}


class _InProcess(httpx.BaseTransport):
    """Hands requests to the application, as if they came from an address."""

    def __init__(self, app: ASGIApp, peer: str) -> None:
        self._transport = httpx.ASGITransport(app, raise_app_exceptions=False, client=(peer, 50_000))

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        async def ask() -> httpx.Response:
            answer = await self._transport.handle_async_request(request)
            # As on the wire: encoded content is decoded by the client.
            content = b"".join([chunk async for chunk in answer.stream])  # type: ignore[union-attr]
            return httpx.Response(answer.status_code, headers=answer.headers, stream=httpx.ByteStream(content))

        return anyio.run(ask)


CT_NEEDS = SeriesNeeds(modalities=("CT",), minimum_slices=2, thickest_mm=10.0)


class PaperWeb:
    """The application with what it is made of; its time stands still unless told."""

    def __init__(self, database: Database, blobs: LocalBlobs, settings: Settings) -> None:
        self.time = NOON
        self.monotonic = 0.0
        self.database, self.blobs = database, blobs
        self.keys = Keys(database)
        self.audit = Audit(database)
        self.index = Index(database)
        self.readings = PaperReadings()
        self.intake = Intake(database, blobs, reserve_bytes=0, clock=self.now)
        # There is no such file: the rules are those of the settings until a test writes it.
        self.routes_file = Path(database.url.removeprefix("sqlite:///")).parent / "routes.yaml"
        self.routes = LiveRoutes(self.routes_file, settings.routes, settings.peers, monotonic=lambda: self.monotonic)
        queue = Queue(database)
        self._close: Iterable[Callable[[], None]] = (queue.close, self.intake.close)
        self.parts = WebParts(
            settings=settings,
            version="1.0",
            database=database,
            index=self.index,
            blobs=blobs,
            intake=self.intake,
            keys=self.keys,
            audit=self.audit,
            job_book=JobBook(database),
            queue=queue,
            results=ResultBook(database),
            deliveries=Deliveries(database, queue),
            associations=Associations(database),
            peers=settings.peers,
            admin_key=ADMIN_KEY,
            pixels=PIXELS,
            pictures=PaperPictures(),
            readings=self.readings,
            rules=RuleTrials(self.routes, settings.peers, {"classical-lung": CT_NEEDS}, self.index, blobs),
            engines=(EngineInfo("classical-lung", "1.0", "classical", ("CT",), enabled=True),),
            chat=chat_model(settings),
            now=self.now,
        )
        self.app: FastAPI = create_app(self.parts)

    def now(self) -> datetime:
        return self.time

    def close(self) -> None:
        for close in self._close:
            close()

    def client(
        self, *, key: str | None = None, peer: str = "127.0.0.1", headers: Mapping[str, str] | None = None
    ) -> httpx.Client:
        """Give somebody who asks: from this machine, without a key, unless told."""
        sent = {"Authorization": f"Bearer {key}"} if key else {}
        return httpx.Client(
            transport=_InProcess(self.app, peer),
            base_url="http://127.0.0.1:8080",
            headers=sent | dict(headers or {}),
        )

    def key(self, name: str, *permissions: str, visible: StudyFilter = EVERYTHING) -> str:
        return self.keys.create(name, permissions, visible, self.time)

    def receive(self, dataset: Dataset, origin: Origin = SENDER, syntax: str = "1.2.840.10008.1.2.1") -> Kept:
        return self.intake.receive(BytesIO(encode(dataset, syntax)), origin)
