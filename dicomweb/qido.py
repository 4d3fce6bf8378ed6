"""QIDO-RS: search for studies, series and instances. Source: PS3.18 10.6 (Search Transaction)."""

# No postponed annotations here: the framework reads `Annotated[…, Depends]` made inside functions.

from collections.abc import Callable, Iterable
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Depends
from starlette.requests import Request
from starlette.responses import Response

from dicomweb.caller import Caller
from dicomweb.errors import BadRequest, NotAcceptable
from dicomweb.media_types import DICOM_JSON, choose, parse_accept
from storage.index import Index
from storage.matching import Key, Level, Query, tag_path
from storage.search import SearchAnswer

Requires = Callable[[str], Callable[[Request], Caller]]

PREFIX = "/dicom-web"
_OPTIONS = frozenset({"includefield", "limit", "offset", "fuzzymatching", "accept", "orderby"})
_STUDY, _SERIES, _INSTANCE = "0020000D", "0020000E", "00080018"
_RETRIEVE_URL = "00081190"


def routes(index: Index, requires: Requires) -> APIRouter:
    """Give the search resources."""
    router = APIRouter(prefix=PREFIX, tags=["QIDO-RS"])
    may_read = Depends(requires("read"))

    @router.get("/studies")
    def studies(request: Request, caller: Annotated[Caller, may_read]) -> Response:
        """Search for studies."""
        return _search(index, caller, request, Level.STUDY)

    @router.get("/series")
    def all_series(request: Request, caller: Annotated[Caller, may_read]) -> Response:
        """Search for series of all studies."""
        return _search(index, caller, request, Level.SERIES, with_parents=True)

    @router.get("/instances")
    def all_instances(request: Request, caller: Annotated[Caller, may_read]) -> Response:
        """Search for instances of all studies."""
        return _search(index, caller, request, Level.INSTANCE, with_parents=True)

    @router.get("/studies/{study}/series")
    def series(study: str, request: Request, caller: Annotated[Caller, may_read]) -> Response:
        """Search for series of a study."""
        return _search(index, caller, request, Level.SERIES, study=study)

    @router.get("/studies/{study}/instances")
    def instances_of_study(study: str, request: Request, caller: Annotated[Caller, may_read]) -> Response:
        """Search for instances of a study."""
        return _search(index, caller, request, Level.INSTANCE, study=study, with_parents=True)

    @router.get("/studies/{study}/series/{series}/instances")
    def instances(study: str, series: str, request: Request, caller: Annotated[Caller, may_read]) -> Response:
        """Search for instances of a series."""
        return _search(index, caller, request, Level.INSTANCE, study=study, series=series)

    return router


def _search(
    index: Index,
    caller: Caller,
    request: Request,
    level: Level,
    *,
    study: str | None = None,
    series: str | None = None,
    with_parents: bool = False,
) -> Response:
    _check_accept(request)
    query = query_of(request.query_params.multi_items(), study=study, series=series, with_parents=with_parents)
    answer = index.search(level, query, caller.visible)
    base = f"{request.url.scheme}://{request.headers.get('host', request.url.netloc)}{PREFIX}"
    for row in answer.rows:
        _add_url(row, base, level, study, series)
    headers = _warnings(answer, query)
    return Response(orjson.dumps(answer.rows), media_type=DICOM_JSON, headers=headers)


def query_of(
    pairs: Iterable[tuple[str, str]],
    *,
    study: str | None = None,
    series: str | None = None,
    with_parents: bool = False,
) -> Query:
    """Read the query parameters, decoded already.

    Raises
    ------
    BadRequest, MalformedQuery
        A parameter names no attribute, or limit or offset is no number.
    """
    keys: list[Key] = []
    include: set[int] = set()
    options = {"limit": "", "offset": "", "fuzzymatching": ""}
    include_all = False
    for name, value in pairs:
        if name == "includefield":
            # Some viewers percent-encode the commas: the value is split only after it was decoded.
            names = [each.strip() for each in value.split(",") if each.strip()]
            include_all = include_all or "all" in names
            include |= {tag_path(each)[-1] for each in names if each != "all"}
        elif name in _OPTIONS:
            options[name] = value
        else:
            keys.append(Key(tag_path(name), value))
    return Query(
        keys=tuple(keys),
        study_instance_uid=study,
        series_instance_uid=series,
        include=frozenset(include),
        include_all=include_all,
        with_parents=with_parents,
        fuzzy=options["fuzzymatching"].lower() == "true",
        limit=_number("limit", options["limit"]),
        offset=_number("offset", options["offset"]) or 0,
    )


def _number(name: str, text: str) -> int | None:
    if not text:
        return None
    if not text.isascii() or not text.isdigit() or len(text) > 9:
        raise BadRequest(f"{name} is no whole number.")
    return int(text)


def _check_accept(request: Request) -> None:
    accepted = parse_accept(request.headers.get("accept"), request.query_params.get("accept"))
    try:
        choose(accepted, (DICOM_JSON, "application/json"))
    except NotAcceptable:
        if not any("json" in media.part for media in accepted):
            raise


def _add_url(row: dict[str, Any], base: str, level: Level, study: str | None, series: str | None) -> None:
    """Say where a match can be retrieved, at the address that the caller used."""
    parts = [study or _first(row, _STUDY)]
    if level is not Level.STUDY:
        parts += ["series", series or _first(row, _SERIES)]
    if level is Level.INSTANCE:
        parts += ["instances", _first(row, _INSTANCE)]
    row[_RETRIEVE_URL] = {"vr": "UR", "Value": [f"{base}/studies/{'/'.join(parts)}"]}


def _first(row: dict[str, Any], tag: str) -> str:
    return str((row.get(tag, {}).get("Value") or [""])[0])


def _warnings(answer: SearchAnswer, query: Query) -> dict[str, str]:
    """Source: PS3.18 8.3.4.4 (more results than given), 10.6.3.2."""
    said = []
    if answer.more and query.limit is None:
        said.append('299 dicom-node "There are more results than this answer gives; ask with limit and offset."')
    elif answer.more:
        said.append('299 dicom-node "There are additional results that can be requested."')
    if answer.unsupported:
        said.append(f'299 dicom-node "Not matched, as not indexed: {" ".join(answer.unsupported)}."')
    return {"Warning": ", ".join(said)} if said else {}
