"""Probes, which need no key, and what is servable now. No patient data."""

# No postponed annotations here: the framework reads `Annotated[…, Depends]` made inside functions.

from typing import Annotated, Any

from fastapi import APIRouter, Depends
from starlette.responses import JSONResponse, Response

from configs.errors import NodeError
from dicomweb.caller import Caller, Requires
from dicomweb.ports import WebParts

_MEGABYTE = 1_000_000


def routes(parts: WebParts, requires: Requires) -> APIRouter:
    """Give /live, /ready, /health, /info."""
    router = APIRouter(tags=["health"])

    @router.get("/live")
    def live() -> dict[str, str]:
        """Tell that the process answers."""
        return {"status": "alive"}

    @router.get("/ready")
    def ready() -> Response:
        """Tell whether the node can keep and find: the database answers, and the disk has room."""
        lacks = _lacks(parts)
        return JSONResponse({"status": "not ready" if lacks else "ready", "lacks": lacks}, 503 if lacks else 200)

    @router.get("/health")
    def health() -> dict[str, Any]:
        """Tell whether the service is well, and whether MedVersa is loaded."""
        return {"status": "degraded" if _lacks(parts) else "healthy", "model_loaded": False}

    @router.get("/info")
    def info(caller: Annotated[Caller, Depends(requires(""))]) -> dict[str, Any]:
        """Tell what is servable now."""
        modalities = sorted({each.lower() for engine in parts.engines for each in engine.modalities})
        return {
            "name": "classical",
            "device": "cpu",
            "version": parts.version,
            "supported_modalities": modalities,
            "supported_tasks": ["segmentation"] if modalities else [],
            "engines": [
                {"name": engine.name, "version": engine.version, "kind": engine.kind, "enabled": engine.enabled}
                for engine in parts.engines
            ],
        }

    return router


def _lacks(parts: WebParts) -> list[str]:
    lacks = []
    try:
        parts.database.check()
    except NodeError as error:
        lacks.append(f"database: {error}")
    free = parts.blobs.free_bytes()
    if free < parts.settings.disk.reserve_mb * _MEGABYTE:
        lacks.append(f"disk: {free / _MEGABYTE:.0f} MB free, the reserve is {parts.settings.disk.reserve_mb:.0f} MB")
    return lacks
