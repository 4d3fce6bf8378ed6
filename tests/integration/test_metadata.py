"""Metadata and bulk data over HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import httpx
import pytest
from fastapi import FastAPI
from pydicom import Dataset

from dicomweb import metadata, problems, wado
from dicomweb.caller import LOCAL, Caller
from storage.blobs import LocalBlobs
from storage.database import Database
from storage.index import Index
from storage.json_maker import JsonMaker, Metadata
from storage.json_store import JsonStore
from storage.records import Kept
from tests.builders.ct import make_ct_instance, uid

Receive = Callable[..., Kept]
SERIES = f"/dicom-web/studies/{uid(1)}/series/{uid(1, 1)}"


class Client:
    """Asks an application for single answers."""

    def __init__(self, app: FastAPI) -> None:
        self._app = app

    def get(self, url: str, headers: dict[str, str] | None = None) -> httpx.Response:
        """Ask once."""

        async def ask() -> httpx.Response:
            transport = httpx.ASGITransport(app=self._app)
            async with httpx.AsyncClient(transport=transport, base_url="http://pacs.example:8042") as client:
                return await client.get(url, headers=headers)

        return asyncio.run(ask())


def everybody() -> Caller:
    return LOCAL


@pytest.fixture
def client(database: Database, blobs: LocalBlobs) -> Client:
    app = FastAPI()
    problems.install(app)
    app.include_router(metadata.routes(Metadata(JsonStore(database), blobs), lambda _: everybody))
    app.include_router(wado.routes(Index(database), blobs, lambda _: everybody))
    return Client(app)


@pytest.mark.parametrize("made", [True, False])
def test_bulk_data_uris_follow_the_host_that_was_asked_and_lead_to_the_bytes(
    client: Client, receive: Receive, database: Database, blobs: LocalBlobs, made: bool
) -> None:
    item = Dataset()
    item.add_new(0x00420011, "OB", bytes(range(256)) * 8)
    sent = make_ct_instance(1)
    sent.ReferencedImageSequence = [Dataset(), item]
    receive(sent)
    if made:
        JsonMaker(JsonStore(database), blobs).turn()
    answer = client.get(f"{SERIES}/metadata", headers={"Accept": "application/dicom+json"})
    assert answer.headers["content-type"] == "application/dicom+json"
    (instance,) = answer.json()
    nested = instance["00081140"]["Value"][1]["00420011"]["BulkDataURI"]
    assert nested == f"http://pacs.example:8042{SERIES}/instances/{uid(1, 1, 1)}/bulkdata/00081140/2/00420011"
    assert client.get(nested).content == bytes(range(256)) * 8
    assert client.get(instance["7FE00010"]["BulkDataURI"]).content == sent.PixelData
    elsewhere = client.get(f"{SERIES}/metadata", headers={"Host": "other.example"}).json()
    assert elsewhere[0]["7FE00010"]["BulkDataURI"].startswith("http://other.example/dicom-web/")


@pytest.mark.parametrize(
    "way", ["7FE00010/1", "nothing", "00081140/9/00420011", "00080060", "/".join(["00081140/1"] * 90)]
)
def test_a_way_that_leads_nowhere_is_an_error_of_the_caller(client: Client, receive: Receive, way: str) -> None:
    receive(make_ct_instance(1))
    assert client.get(f"{SERIES}/instances/{uid(1, 1, 1)}/bulkdata/{way}").status_code in (400, 404)


def test_metadata_are_given_at_every_level_and_as_json_alone(client: Client, receive: Receive) -> None:
    receive(make_ct_instance(1))
    study = f"/dicom-web/studies/{uid(1)}"
    for path in (study, SERIES, f"{SERIES}/instances/{uid(1, 1, 1)}"):
        assert len(client.get(f"{path}/metadata").json()) == 1
        assert client.get(f"{path}/metadata", headers={"Accept": "image/png"}).status_code == 406
    assert client.get("/dicom-web/studies/1.2.3/metadata").status_code == 404
