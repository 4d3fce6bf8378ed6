"""The application with models behind it, for each test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from configs.settings import Settings
from storage.blobs import LocalBlobs
from storage.database import Database
from tests.builders.models import PaperModels
from tests.builders.serving import served
from tests.builders.web import PaperWeb


class ChatNode:
    """A node over HTTP, and the servers that it asks."""

    def __init__(self, web: PaperWeb, url: str, models: tuple[PaperModels, ...]) -> None:
        self.web, self.url, self.models = web, url, models


MakeNode = Callable[..., ChatNode]


@pytest.fixture
def make_node(sqlite_database: Database, blobs: LocalBlobs) -> Iterator[MakeNode]:
    """Start a node that asks these servers."""
    with ExitStack() as stack:

        def make(*models: PaperModels, chat: dict[str, Any] | None = None, **settings: Any) -> ChatNode:
            upstreams = [{"url": stack.enter_context(served(each)), "key": each.key or None} for each in models]
            said = {"disk": {"reserve_mb": 0}, "chat": {"upstreams": upstreams, **(chat or {})}, **settings}
            web = PaperWeb(sqlite_database, blobs, Settings.model_validate(said))
            stack.callback(web.close)
            return ChatNode(web, stack.enter_context(served(web.app)), models)

        yield make
