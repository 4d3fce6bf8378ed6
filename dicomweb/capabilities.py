"""What this node's DICOM web services can do, for programs: made of the routes that answer.

Source: PS3.18 8.9 (Retrieve Capabilities Transaction), Annex H (Capabilities Description); W3C WADL 20090831.
"""

# No postponed annotations here: the framework reads `Annotated[…, Depends]` made inside functions.

import re
from collections.abc import Iterator, Sequence
from typing import Annotated
from xml.etree.ElementTree import Element, SubElement, tostring

import orjson
from fastapi import APIRouter, Depends
from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.responses import Response

from dicomweb.addresses import BaseUrl
from dicomweb.caller import Caller, Requires
from dicomweb.media_types import (
    DICOM,
    DICOM_JSON,
    DICOM_XML,
    JSON,
    MULTIPART,
    OCTETS,
    ZIP,
    accepted_by,
    choose,
)
from dicomweb.qido import PREFIX
from storage.matching import Level
from storage.search import matched_attributes

WADL = "application/vnd.sun.wadl+xml"
_NAMESPACE = "http://wadl.dev.java.net/2009/02"
_PICTURES = ("image/jpeg", "image/png", "image/gif")
_SUBSCRIPTIONS = re.compile(r"/subscribers/\{aetitle\}(/suspend)?$")
_SEARCHES = re.compile(r"/(studies|series|instances|workitems)$")
_OPTIONS = ("limit", "offset", "fuzzymatching", "includefield", "orderby")
_LEVELS = {"studies": Level.STUDY, "series": Level.SERIES, "instances": Level.INSTANCE}
#: What resources give, by how their paths end.
_GIVEN: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("/metadata", (DICOM_JSON, f'{MULTIPART}; type="{DICOM_XML}"')),
    ("/rendered", (*_PICTURES, "text/html", "text/plain")),
    ("/thumbnail", _PICTURES[:2]),
    ("/frames/{frames}", (f'{MULTIPART}; type="{OCTETS}"', OCTETS, f'{MULTIPART}; type="image/*"', "image/*")),
    ("/bulkdata/{path}", (f'{MULTIPART}; type="{OCTETS}"', OCTETS)),
    ("/bulkdata", (f'{MULTIPART}; type="{OCTETS}"',)),
    ("/pixeldata", (f'{MULTIPART}; type="{OCTETS}"',)),
    ("/wado", (DICOM, *_PICTURES)),
)
_OBJECTS = (f'{MULTIPART}; type="{DICOM}"', DICOM, ZIP)
_SEARCH_RESULTS = (DICOM_JSON, f'{MULTIPART}; type="{DICOM_XML}"')
_STORED = (f'{MULTIPART}; type="{DICOM}"', DICOM, *(f'{MULTIPART}; type="{each}"' for each in (DICOM_JSON, DICOM_XML)))

Services = Sequence[tuple[str, APIRouter]]
Operation = tuple[str, str, str, APIRoute]


def routes(services: Services, requires: Requires, base_url: BaseUrl) -> APIRouter:
    """Give the root of the services, which tells of the others."""
    router = APIRouter(tags=["Capabilities"])

    @router.api_route(f"{PREFIX}/", methods=["GET", "OPTIONS"], response_class=Response, include_in_schema=False)
    @router.options(PREFIX, response_class=Response, include_in_schema=False)
    @router.get(PREFIX, response_class=Response)
    def capabilities(request: Request, caller: Annotated[Caller, Depends(requires(""))]) -> Response:
        """Describe the services: as WADL, or as JSON where that is asked for."""
        kind = choose(accepted_by(request), (WADL, JSON, DICOM_JSON, "application/xml", "text/xml"))
        base = base_url(request)
        if kind in (JSON, DICOM_JSON):
            return Response(orjson.dumps(_as_json(services, base)), media_type=JSON)
        return Response(wadl(services, base), media_type=kind)

    return router


def operations(services: Services) -> Iterator[Operation]:
    """Give each operation: service, method, path, route."""
    for service, router in services:
        for route in router.routes:
            if isinstance(route, APIRoute):
                for method in sorted(route.methods or ()):
                    yield service, method, _plain(route.path), route


def given_by(method: str, path: str) -> tuple[str, ...]:
    """Give the media types of what an operation answers, the default first."""
    if method in ("DELETE", "PUT") or _SUBSCRIPTIONS.search(path):
        return ()
    if method == "POST":
        return (DICOM_JSON, DICOM_XML) if "/studies" in path else ()
    for end, kinds in _GIVEN:
        if path.endswith(end):
            return kinds
    if _SEARCHES.search(path):
        return _SEARCH_RESULTS
    return (DICOM_JSON, DICOM_XML) if "/workitems" in path else _OBJECTS


def taken_by(method: str, path: str) -> tuple[str, ...]:
    """Give the media types of what an operation takes."""
    if method not in ("POST", "PUT") or _SUBSCRIPTIONS.search(path):
        return ()
    return (DICOM_JSON, DICOM_XML) if "/workitems" in path else _STORED


def parameters_of(method: str, path: str) -> tuple[str, ...]:
    """Give the query parameters: of a search its options, and the attributes that it matches; of a subscription."""
    if method == "POST" and path.endswith("/subscribers/{aetitle}"):
        return ("deletionlock", "filter")
    searches = _SEARCHES.search(path) if method == "GET" else None
    if searches is None:
        return ()
    level = _LEVELS.get(searches.group(1))
    return (*_OPTIONS, *(matched_attributes(level) if level else ()))


def wadl(services: Services, base: str) -> bytes:
    """Write the description as WADL, each resource below the one that its path continues."""
    root = Element("application", {"xmlns": _NAMESPACE})
    resources = SubElement(root, "resources", {"base": base})
    made: dict[str, Element] = {"": resources}
    for service, method, path, route in operations(services):
        _describe(_resource(made, path), service, method, path, route)
    document: bytes = tostring(root, encoding="utf-8", xml_declaration=True)
    return document


def _resource(made: dict[str, Element], path: str) -> Element:
    if path not in made:
        above, _, step = path.rpartition("/")
        element = SubElement(_resource(made, above), "resource", {"path": step})
        if step.startswith("{"):
            SubElement(element, "param", {"name": step.strip("{}"), "style": "template", "required": "true"})
        made[path] = element
    return made[path]


def _describe(resource: Element, service: str, method: str, path: str, route: APIRoute) -> None:
    element = SubElement(resource, "method", {"name": method, "id": f"{service}: {route.description}"})
    request = SubElement(element, "request")
    for name in parameters_of(method, path):
        SubElement(request, "param", {"name": name, "style": "query"})
    for kind in taken_by(method, path):
        SubElement(request, "representation", {"mediaType": kind})
    response = SubElement(element, "response")
    for kind in given_by(method, path):
        SubElement(response, "representation", {"mediaType": kind})


def _as_json(services: Services, base: str) -> dict[str, object]:
    found: dict[str, dict[str, object]] = {}
    for service, method, path, route in operations(services):
        found.setdefault(path, {})[method] = {
            "service": service,
            "description": route.description,
            "parameters": list(parameters_of(method, path)),
            "takes": list(taken_by(method, path)),
            "gives": list(given_by(method, path)),
        }
    return {"base": base, "resources": found}


def _plain(path: str) -> str:
    return path.replace(":path}", "}")
