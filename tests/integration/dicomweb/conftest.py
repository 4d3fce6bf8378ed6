"""The web application for each test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from httpx import Client

from configs.settings import Settings
from storage.blobs import LocalBlobs
from storage.database import Database
from tests.builders.web import PaperWeb

MakeWeb = Callable[..., PaperWeb]


@pytest.fixture
def make_web(sqlite_database: Database, blobs: LocalBlobs) -> Iterator[MakeWeb]:
    """Make the application with these parts of the settings."""
    made: list[PaperWeb] = []

    def make(**settings: Any) -> PaperWeb:
        made.append(PaperWeb(sqlite_database, blobs, Settings.model_validate({"disk": {"reserve_mb": 0}, **settings})))
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.fixture
def web(make_web: MakeWeb) -> PaperWeb:
    """The application as shipped: open to this machine."""
    return make_web()


@pytest.fixture
def client(web: PaperWeb) -> Client:
    """Somebody on this machine."""
    return web.client()
