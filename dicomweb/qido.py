"""QIDO-RS: search for studies, series and instances. Source: PS3.18 10.6 (Search Transaction)."""

# No postponed annotations here: the framework reads `Annotated[…, Depends]` made inside functions.

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from io import BytesIO
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Depends
from starlette.requests import Request
from starlette.responses import Response

from dicomweb.accesses import Accesses
from dicomweb.addresses import BaseUrl
from dicomweb.caller import Caller, Requires
from dicomweb.errors import BadRequest, NotAcceptable
from dicomweb.media_types import DICOM_JSON, DICOM_XML, JSON, accepted_by, choose
from dicomweb.multipart import Part, multipart_answer
from dicomweb.names import Uid
from dicomweb.native_xml import native_xml
from storage.index import Index
from storage.matching import Key, Level, Ordering, Query, tag_path
from storage.search import SearchAnswer

PREFIX = "/dicom-web"
_OPTIONS = ("limit", "offset", "fuzzymatching", "orderby", "accept", "charset")
_MOST_FIELDS = 1000
_STUDY, _SERIES, _INSTANCE = "0020000D", "0020000E", "00080018"
_RETRIEVE_URL = "00081190"
_NOUNS = {Level.STUDY: "studies", Level.SERIES: "series", Level.INSTANCE: "instances"}


def routes(index: Index, requires: Requires, base_url: BaseUrl, accesses: Accesses) -> APIRouter:
    """Give the search resources."""
    router = APIRouter(prefix=PREFIX, tags=["QIDO-RS"])
    may_read = Depends(requires("read"))
    search = partial(_search, index, base_url, accesses)

    @router.get("/studies")
    def studies(request: Request, caller: Annotated[Caller, may_read]) -> Response:
        """Search for studies."""
        return search(caller, request, Level.STUDY)

    @router.get("/series")
    def all_series(request: Request, caller: Annotated[Caller, may_read]) -> Response:
        """Search for series of all studies."""
        return search(caller, request, Level.SERIES, with_parents=True)

    @router.get("/instances")
    def all_instances(request: Request, caller: Annotated[Caller, may_read]) -> Response:
        """Search for instances of all studies."""
        return search(caller, request, Level.INSTANCE, with_parents=True)

    @router.get("/studies/{study}/series")
    def series(study: Uid, request: Request, caller: Annotated[Caller, may_read]) -> Response:
        """Search for series of a study."""
        return search(caller, request, Level.SERIES, study=study)

    @router.get("/studies/{study}/instances")
    def instances_of_study(study: Uid, request: Request, caller: Annotated[Caller, may_read]) -> Response:
        """Search for instances of a study."""
        return search(caller, request, Level.INSTANCE, study=study, with_parents=True)

    @router.get("/studies/{study}/series/{series}/instances")
    def instances(study: Uid, series: Uid, request: Request, caller: Annotated[Caller, may_read]) -> Response:
        """Search for instances of a series."""
        return search(caller, request, Level.INSTANCE, study=study, series=series)

    return router


def _search(
    index: Index,
    base_url: BaseUrl,
    accesses: Accesses,
    caller: Caller,
    request: Request,
    level: Level,
    *,
    study: str | None = None,
    series: str | None = None,
    with_parents: bool = False,
) -> Response:
    kind = choose(accepted_by(request), (DICOM_JSON, JSON, DICOM_XML))
    query = query_of(request.query_params.multi_items(), study=study, series=series, with_parents=with_parents)
    answer = index.search(level, query, caller.visible)
    accesses.note(caller, study, f"search for {_NOUNS[level]}")
    base = base_url(request) + PREFIX
    for row in answer.rows:
        _add_url(row, base, level, study, series)
    return answer_rows(request, answer.rows, _warnings(answer, query), kind)


def answer_rows(
    request: Request, rows: Sequence[dict[str, Any]], headers: Mapping[str, str], kind: str = ""
) -> Response:
    """Give matches as JSON, or as XML where that is asked for."""
    kind = kind or choose(accepted_by(request), (DICOM_JSON, JSON, DICOM_XML))
    if kind == DICOM_XML:
        parts = [_document(row) for row in rows]
        if not parts:
            return Response(status_code=204, headers=dict(headers))  # a multipart answer has one part at least
        return multipart_answer(request, parts, kind=DICOM_XML, headers=headers)
    return Response(orjson.dumps(rows), media_type=kind, headers=dict(headers))


def _document(row: dict[str, Any]) -> Part:
    text = native_xml(row)
    return Part(DICOM_XML, partial(BytesIO, text), len(text))


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
    options = dict.fromkeys(_OPTIONS, "")
    include_all = False
    for name, value in pairs:
        if name == "includefield":
            # Some viewers percent-encode the commas: the value is split only after it was decoded.
            names = [each.strip() for each in value.split(",") if each.strip()][:_MOST_FIELDS]
            include_all = include_all or "all" in names
            # Of a sequence the whole is given, whichever of its attributes is asked for.
            include |= {tag_path(each)[0] for each in names if each != "all"}
        elif name in options:
            options[name] = value
        else:
            keys.append(Key(tag_path(name), value))
    _check_charset(options["charset"])
    return Query(
        keys=tuple(keys),
        study_instance_uid=study,
        series_instance_uid=series,
        include=frozenset(include),
        include_all=include_all,
        with_parents=with_parents,
        fuzzy=_truth("fuzzymatching", options["fuzzymatching"]),
        limit=_number("limit", options["limit"]),
        offset=_number("offset", options["offset"]) or 0,
        order=_order(options["orderby"]),
    )


def _order(text: str) -> tuple[Ordering, ...]:
    """Read `orderby=StudyDate,-PatientName`: a hyphen turns an order around."""
    names = [each.strip() for each in text.split(",") if each.strip()]
    return tuple(Ordering(tag_path(name.removeprefix("-"))[0], name.startswith("-")) for name in names[:10])


def _check_charset(text: str) -> None:
    """Raise `NotAcceptable` where UTF-8, in which every answer is, is not among the character sets asked for.

    Source: PS3.18 8.3.3.2 (Character Set Query Parameter).
    """
    asked = {each.partition(";")[0].strip().lower() for each in text.split(",")} - {""}
    if asked and not asked & {"utf-8", "utf8", "iso_ir 192", "*"}:
        raise NotAcceptable("Answers are in UTF-8.")


def _truth(name: str, text: str) -> bool:
    if text.lower() not in ("", "true", "false"):
        raise BadRequest(f"{name} is true or false.")
    return text.lower() == "true"


def _number(name: str, text: str) -> int | None:
    if not text:
        return None
    if not text.isascii() or not text.isdigit() or len(text) > 9:
        raise BadRequest(f"{name} is no whole number.")
    return int(text)


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
