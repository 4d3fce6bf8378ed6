"""The application: every room of HTTP under one roof."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response

from dicomweb import api, health, metadata, problems, qido, wado
from dicomweb.auth import Access
from dicomweb.console import pages
from dicomweb.ports import WebParts
from storage.json_maker import Metadata
from storage.json_store import JsonStore

#: On every answer: no page of ours runs foreign code, nothing is guessed, nothing is framed.
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "SAMEORIGIN",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


def create_app(parts: WebParts) -> FastAPI:
    """Put the application together."""
    app = FastAPI(
        title="dicom-node",
        version=parts.version,
        description="A DICOM-native PACS integration node. Research use; results are not for diagnosis.",
    )
    access = Access(
        parts.settings.auth,
        parts.settings.http,
        keys=parts.keys,
        admin_key=parts.admin_key,
        now=parts.now,
    )
    problems.install(app)
    app.include_router(health.routes(parts))
    app.include_router(api.routes(parts, access.requires))
    app.include_router(qido.routes(parts.index, access.requires))
    app.include_router(wado.routes(parts.index, parts.blobs, access.requires))
    kept_json = Metadata(JsonStore(parts.database), parts.blobs)
    app.include_router(metadata.routes(kept_json, access.requires))
    app.include_router(pages.routes(parts, access))
    if parts.settings.http.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(parts.settings.http.cors_origins),
            allow_methods=["GET", "POST", "OPTIONS", "HEAD"],
            allow_headers=["accept", "authorization", "content-type"],
        )

    @app.middleware("http")
    async def with_headers(request: Request, answer: Callable[[Request], Awaitable[Response]]) -> Response:
        response = await answer(request)
        for name, value in _HEADERS.items():
            response.headers.setdefault(name, value)
        return response

    return app
