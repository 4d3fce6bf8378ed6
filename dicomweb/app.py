"""The application: every room of HTTP under one roof."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from fastapi.routing import APIRoute
from starlette.middleware.cors import CORSMiddleware

from dicomweb import api, capabilities, health, problems, seg_pictures
from dicomweb.accesses import Accesses
from dicomweb.addresses import base_url_of
from dicomweb.auth import Access
from dicomweb.chat import openai
from dicomweb.console import pages
from dicomweb.direct import Direct
from dicomweb.edge import Edge
from dicomweb.ports import WebParts
from dicomweb.services import DELETE, services
from dicomweb.viewer import serving

_METHODS = ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS"]


def create_app(parts: WebParts) -> FastAPI:
    """Put the application together."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await parts.chat.close()

    app = FastAPI(
        title="dicom-node",
        version=parts.version,
        lifespan=lifespan,
        description="A DICOM-native PACS integration node. Research use; results are not for diagnosis.",
        # Its own pages would load scripts from elsewhere; ours need none (`console/pages.py`).
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
    )
    access = Access(
        parts.settings.auth,
        parts.settings.http,
        keys=parts.keys,
        admin_key=parts.admin_key,
        now=parts.now,
    )
    accesses = Accesses(parts.audit, parts.now)
    base_url = base_url_of(parts.settings.http)
    viewer = serving.Viewer(parts.settings.data_dir / "viewer")
    console = pages.Pages(parts, viewer_at=lambda: serving.STUDY if viewer.installed() else "")
    failed = problems.install(app, console.problem)
    plain: list[APIRoute] = []
    served = [
        (name, router)
        for name, router in services(parts, access.requires, base_url, accesses)
        if name != DELETE or parts.settings.http.delete
    ]
    # Routes are tried in order: what viewers ask for a thousand times comes first.
    for _, router in sorted(served, key=lambda each: each[0] != "WADO-RS"):
        app.include_router(router)
        plain += [route for route in router.routes if isinstance(route, APIRoute)]
    app.include_router(health.routes(parts, access.requires))
    app.include_router(api.routes(parts, access.requires, accesses))
    app.include_router(openai.routes(parts, access.requires, accesses))
    app.include_router(seg_pictures.routes(parts, access.requires, accesses))
    app.include_router(capabilities.routes(served, access.requires, base_url))
    app.include_router(pages.routes(parts, console, access, accesses))
    app.include_router(pages.about(app, console, access))
    app.include_router(serving.routes(parts, console, access, viewer))
    app.add_middleware(Direct, routes=plain, failed=failed)
    origins = list(parts.settings.http.cors_origins)
    if origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=origins,
            allow_methods=_METHODS,
            allow_headers=["accept", "authorization", "content-type", "range", "if-none-match"],
            expose_headers=["content-location", "etag", "location", "retry-after", "warning"],
        )
    app.add_middleware(Edge, routes=app, shared=bool(origins))
    return app
