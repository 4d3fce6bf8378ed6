"""What is answered ahead of the framework is answered as the framework would answer it."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.routing import APIRoute, iter_route_contexts
from httpx import Client
from starlette.responses import Response

from dicomweb.direct import plain_route
from storage.audit import AuditAction
from storage.records import StudyFilter
from tests.builders.ct import make_ct_instance, make_ct_series, uid
from tests.builders.file_systems import tells_what_is_in_memory
from tests.builders.parts import parts_of
from tests.builders.web import PaperWeb

SERIES = f"/dicom-web/studies/{uid(1)}/series/{uid(1, 1)}"
INSTANCE = f"{SERIES}/instances/{uid(1, 1, 1)}"
FRAME = f"{INSTANCE}/frames/1"
PIXELS = np.arange(256, dtype=np.uint16).tobytes()


@pytest.fixture
def asking(web: PaperWeb, tmp_path: Path) -> Client:
    """Somebody who looked at a frame already: that is noted, so that the next needs no thread."""
    if not tells_what_is_in_memory(tmp_path):
        pytest.skip("this file system cannot tell what is in memory")
    for each in make_ct_series(3):
        each.PixelData = PIXELS
        web.receive(each)
    client = web.client()
    client.get(FRAME)
    return client


def in_no_thread(*_: object, **__: object) -> Any:
    raise AssertionError("this asks in a thread")


def test_every_service_that_a_viewer_asks_often_is_plain(web: PaperWeb) -> None:
    routes = [context.original_route for context in iter_route_contexts(web.app.router.routes)]
    plain = {
        route.path
        for route in routes
        if isinstance(route, APIRoute) and route.path.startswith("/dicom-web") and plain_route(route)
    }
    studies, series = "/dicom-web/studies/{study}", "/dicom-web/studies/{study}/series/{series}"
    instance = f"{series}/instances/{{instance}}"
    assert {"/dicom-web/studies", f"{studies}/series", f"{series}/instances", f"{studies}/instances"} <= plain
    assert {f"{level}/metadata" for level in (studies, series, instance)} <= plain
    assert {f"{instance}/frames/{{frames}}", instance, series, studies, f"{instance}/rendered"} <= plain


def test_a_frame_asked_for_again_is_the_same_and_needs_no_thread(web: PaperWeb, asking: Client) -> None:
    by_thread = asking.get(FRAME.replace("/frames/1", "/frames/1,1"))
    web.parts.index.instance = in_no_thread  # type: ignore[method-assign]
    at_once = asking.get(FRAME)
    assert at_once.status_code == 200
    assert int(at_once.headers["content-length"]) == len(at_once.content)
    (part,) = parts_of(at_once)
    assert part.content == PIXELS
    assert (part.kind, part.headers["content-location"]) == (
        parts_of(by_thread)[0].kind,
        parts_of(by_thread)[0].headers["content-location"],
    )


def test_another_slice_that_nobody_asked_for_yet_needs_none_either(web: PaperWeb, asking: Client) -> None:
    web.parts.index.instance = in_no_thread  # type: ignore[method-assign]
    (part,) = parts_of(asking.get(f"{SERIES}/instances/{uid(1, 1, 2)}/frames/1"))
    assert part.content == PIXELS


def test_what_the_system_has_not_in_memory_is_read_in_a_thread(web: PaperWeb, asking: Client) -> None:
    web.blobs.at_hand = lambda *_, **__: None  # type: ignore[method-assign]
    (part,) = parts_of(asking.get(FRAME))
    assert part.content == PIXELS


def test_a_look_is_on_record_before_anything_is_given(web: PaperWeb, asking: Client) -> None:
    def looks() -> int:
        return sum(each.action is AuditAction.ACCESS for each in web.audit.events())

    before = looks()
    assert asking.get(FRAME).status_code == 200
    assert looks() == before
    web.time += timedelta(hours=1)
    assert asking.get(FRAME).status_code == 200
    assert looks() == before + 1


def test_validators_ranges_and_head_are_as_ever(asking: Client) -> None:
    got = asking.get(FRAME)
    assert asking.get(FRAME, headers={"If-None-Match": got.headers["etag"]}).status_code == 304
    head = asking.head(FRAME)
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == got.headers["content-length"]
    piece = asking.get(FRAME, headers={"Accept": "application/octet-stream", "Range": "bytes=2-5"})
    assert (piece.status_code, piece.content) == (206, PIXELS[2:6])


def test_failures_are_the_framework_s_failures(asking: Client) -> None:
    for path, status, title in (
        (f"{INSTANCE}/frames/2", 404, "no_such_frame"),
        (f"{INSTANCE}/frames/0", 400, "bad_request"),
        (f"{INSTANCE}/frames/x", 400, "bad_request"),
        (f"{SERIES}/instances/{uid(1, 1, 9)}/frames/1", 404, "not_kept"),
        (f"/dicom-web/studies/{uid(2)}/series/{uid(1, 1)}/instances/{uid(1, 1, 1)}/frames/1", 404, "not_kept"),
        ("/dicom-web/studies/1.2.x/metadata", 400, "bad_request"),
    ):
        answer = asking.get(path)
        assert (answer.status_code, answer.json()["title"]) == (status, title)
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.headers["x-content-type-options"] == "nosniff"
    assert asking.get(FRAME, headers={"Accept": "video/mp4"}).status_code == 406


def test_who_sees_some_studies_alone_sees_no_others(web: PaperWeb, asking: Client) -> None:
    web.receive(make_ct_instance(study=2))
    assert asking.get(FRAME).status_code == 200
    stranger = web.client(key=web.key("stranger", "read", visible=StudyFilter(frozenset({"mr1"}))))
    friend = web.client(key=web.key("friend", "read", visible=StudyFilter(frozenset({"ct1"}))))
    for _ in range(2):
        assert stranger.get(FRAME).status_code == 404
        assert friend.get(FRAME).status_code == 200
    assert web.client(key=web.key("sender", "store")).get(FRAME).status_code == 403


@pytest.mark.parametrize("known", ["all", "some", "none"])
def test_a_large_study_is_the_same_from_memory_and_from_threads(web: PaperWeb, known: str) -> None:
    large = np.random.default_rng(1).integers(0, 4096, (1024, 1024), dtype=np.uint16)
    for number in (1, 2):
        web.receive(make_ct_instance(number, Rows=1024, Columns=1024, PixelData=np.roll(large, number).tobytes()))
    asked = iter(range(100))
    from_memory = web.blobs.at_hand

    def at_hand(*place: Any, **around: bytes) -> Any:
        turn = next(asked)
        return from_memory(*place, **around) if known == "all" or (known == "some" and turn % 2 == 0) else None

    web.blobs.at_hand = at_hand  # type: ignore[method-assign]
    accept = {"Accept": 'multipart/related; type="application/dicom"; transfer-syntax=*'}
    answer = web.client().get(f"/dicom-web/studies/{uid(1)}", headers=accept)
    assert next(asked) > 0
    assert int(answer.headers["content-length"]) == len(answer.content)
    kept = web.index.instances_of(uid(1))
    for part, record in zip(parts_of(answer), kept, strict=True):
        with web.blobs.open(record.path) as file:
            assert part.content == file.read()


def test_a_response_that_is_no_plain_function_s_stays_with_the_framework() -> None:
    async def slow() -> Response:
        return Response()

    def by_query(number: int) -> Response:
        return Response(str(number))

    for endpoint in (slow, by_query):
        assert plain_route(APIRoute("/x", endpoint, methods=["GET"], response_model=None)) is None
