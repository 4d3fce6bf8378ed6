"""The DICOM web services of this node, by the names that PS3.18 gives them."""

from __future__ import annotations

from fastapi import APIRouter

from dicomweb import deletion, qido, stow, subscriptions, ups, wado, wado_uri
from dicomweb.accesses import Accesses
from dicomweb.addresses import BaseUrl
from dicomweb.caller import Requires
from dicomweb.ports import WebParts

#: Of this node's own, and served only where `http.delete` says so.
DELETE = "Delete"


def services(
    parts: WebParts, requires: Requires, base_url: BaseUrl, accesses: Accesses
) -> tuple[tuple[str, APIRouter], ...]:
    """Give each service's name and routes."""
    return (
        ("QIDO-RS", qido.routes(parts.index, requires, base_url, accesses)),
        ("WADO-RS", wado.routes(parts, requires, base_url, accesses)),
        ("STOW-RS", stow.routes(parts, requires, base_url)),
        ("WADO-URI", wado_uri.routes(parts, requires, accesses)),
        ("UPS-RS", ups.routes(parts, requires, base_url)),
        ("UPS-RS", subscriptions.routes(parts, requires, base_url)),
        (DELETE, deletion.routes(parts, requires)),
    )
