"""Who may ask what: every route of the application, by every kind of caller."""

from __future__ import annotations

import base64
from collections.abc import Callable
from datetime import timedelta

import pytest
from fastapi import FastAPI
from fastapi.routing import iter_route_contexts
from httpx import Client, Response
from sqlalchemy import update

from storage import tables
from storage.keys import PERMISSIONS
from storage.records import EVERYTHING, StudyFilter
from storage.reopening import TRIED_ANEW
from tests.builders.ct import make_ct_instance, uid
from tests.builders.web import ADMIN_KEY, PaperWeb

OPEN = "open to all"
KNOWN = "whoever is known"
STUDY = "/dicom-web/studies/{study}"
SERIES = f"{STUDY}/series/{{series}}"
INSTANCE = f"{SERIES}/instances/{{instance}}"
SUBSCRIBER = "/dicom-web/workitems/{workitem}/subscribers/{aetitle}"

#: Every route with what it needs. A route that is not listed here fails the first test below.
NEEDED: dict[tuple[str, str], str] = {
    ("GET", "/"): OPEN,  # leads to the console
    ("GET", "/live"): OPEN,
    ("GET", "/ready"): OPEN,
    ("GET", "/health"): OPEN,
    ("GET", "/console/login"): OPEN,
    ("POST", "/console/login"): OPEN,
    ("GET", "/console/style.css"): OPEN,
    ("GET", "/viewer"): OPEN,  # files without data
    ("GET", "/viewer/app-config.js"): OPEN,  # to the unknown it says where to log in
    ("GET", "/viewer/{path:path}"): OPEN,
    ("GET", "/info"): KNOWN,
    ("GET", "/docs"): KNOWN,
    **{(method, f"/dicom-web{slash}"): KNOWN for method in ("GET", "OPTIONS") for slash in ("", "/")},
    ("GET", "/openapi.json"): KNOWN,
    ("POST", "/console/logout"): "console",
    ("GET", "/console"): "console",
    ("GET", "/console/studies/{study_instance_uid}"): "console",
    ("GET", "/console/studies/{study_instance_uid}/rules"): "console",
    ("GET", "/console/peers"): "console",
    ("GET", "/console/ledger"): "console",
    ("GET", "/console/system"): "console",
    ("GET", "/api/jobs"): "console",
    ("GET", "/api/peers"): "console",
    ("GET", "/api/rules"): "console",
    ("GET", "/api/engines"): "console",
    ("GET", "/api/ledger"): "console",
    ("GET", "/api/studies"): "read",
    ("GET", "/api/studies/{study_instance_uid}"): "read",
    ("GET", "/api/studies/{study_instance_uid}/results"): "read",
    ("GET", "/api/studies/{study_instance_uid}/findings"): "read",
    ("GET", "/api/studies/{study_instance_uid}/rules"): "read",
    ("GET", "/api/studies/{study_instance_uid}/report.txt"): "read",
    ("GET", "/api/studies/{study_instance_uid}/results/{sop_instance_uid}/overlay/{plane}.png"): "read",
    ("GET", "/api/studies/{study_instance_uid}/instances/{sop_instance_uid}/overlay"): "read",
    ("POST", "/api/studies/{study_instance_uid}/rerun"): "operate",
    ("GET", "/api/studies/{study_instance_uid}/corrections"): "read",
    ("POST", "/api/studies/{study_instance_uid}/corrections/apply"): "operate",
    ("POST", "/api/studies/{study_instance_uid}/corrections/refuse"): "operate",
    ("POST", "/api/studies/{study_instance_uid}/identity"): "operate",
    ("POST", "/api/studies/{study_instance_uid}/retract"): "retract",
    ("POST", "/api/deliveries/{delivery_id}/retry"): "operate",
    ("POST", "/console/deliveries/{delivery_id}/retry"): "operate",
    ("POST", "/dicom-web/studies"): "store",
    ("POST", STUDY): "store",
    ("GET", "/wado"): "read",
    ("GET", "/dicom-web/studies"): "read",
    ("GET", "/dicom-web/series"): "read",
    ("GET", "/dicom-web/instances"): "read",
    ("GET", f"{STUDY}/series"): "read",
    ("GET", f"{STUDY}/instances"): "read",
    ("GET", f"{SERIES}/instances"): "read",
    **{
        ("GET", f"{level}{what}"): "read"
        for level in (STUDY, SERIES, INSTANCE)
        for what in ("", "/metadata", "/rendered", "/thumbnail", "/pixeldata", "/bulkdata")
    },
    ("GET", f"{INSTANCE}/frames/{{frames}}"): "read",
    ("GET", f"{INSTANCE}/frames/{{frames}}/rendered"): "read",
    ("GET", f"{INSTANCE}/frames/{{frames}}/thumbnail"): "read",
    ("GET", f"{INSTANCE}/bulkdata/{{path:path}}"): "read",
    ("GET", "/dicom-web/workitems"): "read",
    ("POST", "/dicom-web/workitems"): "predict",
    ("GET", "/dicom-web/workitems/{workitem}"): "read",
    ("POST", "/dicom-web/workitems/{workitem}"): "predict",
    ("PUT", "/dicom-web/workitems/{workitem}/state"): "predict",
    ("POST", "/dicom-web/workitems/{workitem}/cancelrequest"): "predict",
    ("GET", "/v1/models"): "chat",
    ("GET", "/v1/models/{name:path}"): "chat",
    ("POST", "/v1/chat/completions"): "chat",
    ("POST", "/v1/completions"): "chat",
    ("POST", SUBSCRIBER): "read",
    ("DELETE", SUBSCRIBER): "read",
    ("POST", f"{SUBSCRIBER}/suspend"): "read",
    **{("DELETE", level): "delete" for level in (STUDY, SERIES, INSTANCE)},
}
#: What the open loopback grants (never delete, keys, settings, retract, operate).
LOCAL = {OPEN, KNOWN, "read", "store", "predict", "chat", "console"}
ROWS = sorted(NEEDED)


@pytest.fixture
def make_web(make_web: Callable[..., PaperWeb]) -> Callable[..., PaperWeb]:
    """Make the application with every optional service."""
    return lambda **settings: make_web(**{"http": {"delete": True}, **settings})


def routes_of(app: FastAPI) -> set[tuple[str, str]]:
    return {
        (method, context.path)
        for context in iter_route_contexts(app.router.routes)
        for method in context.methods or ()
        if context.path is not None and method != "HEAD"
    }


def ask(client: Client, method: str, path: str) -> Response:
    for name, value in (
        ("study_instance_uid", uid(1)),
        ("sop_instance_uid", uid(1, 1, 1)),
        ("delivery_id", "none"),
        ("plane", "axial"),
        ("study", uid(1)),
        ("series", uid(1, 1)),
        ("instance", uid(1, 1, 1)),
        ("frames", "1"),
        ("path:path", "7FE00010"),
        ("workitem", uid(9)),
        ("aetitle", "WATCHER"),
    ):
        path = path.replace(f"{{{name}}}", value)
    named = {"requestType": "WADO", "studyUID": uid(1), "seriesUID": uid(1, 1), "objectUID": uid(1, 1, 1)}
    form = {"key": "wrong"} if path.endswith("/login") else None
    return client.request(method, path, data=form, params=named if path == "/wado" else None)


def is_let_in(answer: Response, path: str) -> bool:
    """Tell whether the handler itself was reached: it may still find nothing."""
    if path == "/console/login":
        return answer.status_code in (200, 401)  # its own word on a wrong key
    to_login = answer.headers.get("location") == "/console/login" and "set-cookie" not in answer.headers
    return answer.status_code not in (401, 403) and not to_login


def let_in(client: Client) -> set[tuple[str, str]]:
    """Give the routes that somebody is let in to."""
    return {(method, path) for method, path in ROWS if is_let_in(ask(client, method, path), path)}


def needing(*permissions: str) -> set[tuple[str, str]]:
    """Give the routes that need one of these."""
    return {row for row in ROWS if NEEDED[row] in permissions}


def test_every_route_says_whom_it_needs(web: PaperWeb) -> None:
    assert routes_of(web.app) == set(NEEDED)


def test_the_open_loopback_grants_what_a_reader_needs_and_no_more(web: PaperWeb) -> None:
    web.receive(make_ct_instance())
    assert let_in(web.client()) == needing(*LOCAL)


@pytest.mark.parametrize("authorization", ["", "Bearer placeholder", "Basic Og==", "Basic ?", "Digest x"])
def test_a_closed_node_lets_nobody_in_without_a_key(make_web: Callable[..., PaperWeb], authorization: str) -> None:
    web = make_web(auth={"local": "closed"})
    assert let_in(web.client(headers={"Authorization": authorization})) == needing(OPEN)


def test_each_permission_opens_its_routes_and_no_others(make_web: Callable[..., PaperWeb]) -> None:
    web = make_web(auth={"local": "closed"})
    web.receive(make_ct_instance())
    for permission in sorted(PERMISSIONS):
        client = web.client(key=web.key(permission, permission))
        assert let_in(client) == needing(OPEN, KNOWN, permission), permission
        refused = [ask(client, *row).status_code for row in needing(*PERMISSIONS - {permission})]
        assert set(refused) == {403}
    assert let_in(web.client(key=ADMIN_KEY)) == set(ROWS)


@pytest.mark.parametrize("local", ["open", "closed"])
def test_a_revoked_or_expired_key_opens_nothing_even_on_the_machine_itself(
    make_web: Callable[..., PaperWeb], local: str
) -> None:
    web = make_web(auth={"local": local})
    revoked = web.key("revoked", *PERMISSIONS)
    web.keys.revoke("revoked", web.time)
    expired = web.keys.create("expired", PERMISSIONS, EVERYTHING, web.time, expires_at=web.time)
    for name, key in (("revoked", revoked), ("expired", expired)):
        assert let_in(web.client(key=key)) == needing(OPEN)
        basic = base64.b64encode(f"{name}:{key}".encode()).decode()
        assert let_in(web.client(headers={"Authorization": f"Basic {basic}"})) == needing(OPEN)
        said = web.client(key=key).get("/dicom-web/studies").json()["detail"]
        assert said == {"revoked": "This key was revoked.", "expired": "This key has expired."}[name]


@pytest.mark.parametrize(
    ("peer", "headers"),
    [
        ("10.1.2.3", {}),
        ("not an address", {}),
        ("127.0.0.1", {"Host": "node.example:8080"}),
        ("127.0.0.1", {"Host": "127.0.0.1:9999"}),
        ("127.0.0.1", {"Host": "127.0.0.1:80"}),
        ("127.0.0.1", {"Host": "node.example"}),
        ("127.0.0.1", {"Host": "localhost.evil.example:8080"}),
        ("127.0.0.1", {"Host": ""}),
        ("127.0.0.1", {"Origin": "http://evil.example"}),
        ("127.0.0.1", {"Origin": "null"}),
        ("127.0.0.1", {"Origin": ""}),
        ("127.0.0.1", {"Origin": "http://localhost:3000"}),
        ("127.0.0.1", {"Origin": "ftp://127.0.0.1:8080"}),
        ("127.0.0.1", {"Origin": "http://["}),
        ("127.0.0.1", {"Forwarded": "for=127.0.0.1"}),
        ("127.0.0.1", {"X-Forwarded-For": "127.0.0.1"}),
        ("127.0.0.1", {"X-Forwarded-Port": "8080"}),
        ("127.0.0.1", {"X-Real-IP": "127.0.0.1"}),
        ("127.0.0.1", {"Via": "1.1 proxy"}),
        ("127.0.0.1", {"CF-Connecting-IP": "10.1.2.3"}),
        ("127.0.0.1", {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "image"}),
        ("127.0.0.1", {"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "script"}),
        ("127.0.0.1", {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "iframe"}),
    ],
)
def test_the_open_loopback_is_shut_to_whatever_may_not_be_this_machine(
    web: PaperWeb, peer: str, headers: dict[str, str]
) -> None:
    answer = web.client(peer=peer, headers=headers).get("/dicom-web/studies")
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == 'Bearer realm="dicom-node", Basic realm="dicom-node"'
    assert "dicom-node keys show-admin" in answer.json()["detail"]


@pytest.mark.parametrize(
    ("peer", "headers"),
    [
        ("127.0.0.1", {}),
        ("127.1.2.3", {}),
        ("::1", {"Host": "[::1]:8080"}),
        ("127.0.0.1", {"Host": "localhost:8080"}),
        ("127.0.0.1", {"Host": "LOCALHOST:8080"}),
        ("127.0.0.1", {"Host": "127.0.0.1"}),
        ("127.0.0.1", {"Origin": "http://127.0.0.1:8080"}),
        ("127.0.0.1", {"Authorization": "Bearer sk-placeholder"}),
        ("127.0.0.1", {"Authorization": "Bearer dn_viewer_" + "A" * 43}),
        ("127.0.0.1", {"Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "image"}),
        ("127.0.0.1", {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}),
    ],
)
def test_the_open_loopback_lets_in_what_is_plainly_local(web: PaperWeb, peer: str, headers: dict[str, str]) -> None:
    assert web.client(peer=peer, headers=headers).get("/dicom-web/studies").status_code == 200


@pytest.mark.parametrize("host", ["0.0.0.0", "10.1.2.3", "::"])  # noqa: S104 (nothing is bound)
def test_a_node_that_others_can_reach_is_closed(make_web: Callable[..., PaperWeb], host: str) -> None:
    web = make_web(http={"host": host}, auth={"local": "open"})
    assert web.client().get("/dicom-web/studies").status_code == 401


def test_basic_takes_the_name_of_a_key_and_the_key(make_web: Callable[..., PaperWeb]) -> None:
    web = make_web(auth={"local": "closed"})
    key = web.key("viewer", "read")
    for name, secret, status in (
        ("viewer", key, 200),
        ("admin", ADMIN_KEY, 200),
        ("other", key, 401),
        ("admin", key, 401),
        ("viewer", ADMIN_KEY, 401),
        ("viewer", "", 401),
    ):
        assert web.client().get("/dicom-web/studies", auth=(name, secret)).status_code == status


def test_a_console_session_opens_pages_and_what_their_pictures_need(make_web: Callable[..., PaperWeb]) -> None:
    web = make_web(auth={"local": "closed"})
    client = web.client()
    assert client.get("/console").headers["location"] == "/console/login"
    assert client.post("/console/login", data={"key": "wrong"}).status_code == 401
    answer = client.post("/console/login", data={"key": f" {ADMIN_KEY} "})
    assert answer.headers["location"] == "/console"
    cookie = answer.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    assert ADMIN_KEY.lower() not in cookie
    assert client.get("/console").status_code == 200
    assert client.get("/dicom-web/studies").status_code == 200
    client.post("/console/logout", headers={"Origin": "http://127.0.0.1:8080"})
    assert client.get("/dicom-web/studies").status_code == 401


@pytest.mark.parametrize("origin", ["http://evil.example", "null", None])
def test_a_foreign_page_cannot_act_for_a_console_session(make_web: Callable[..., PaperWeb], origin: str | None) -> None:
    client = make_web(auth={"local": "closed"}).client()
    client.post("/console/login", data={"key": ADMIN_KEY})
    path = f"/api/studies/{uid(1)}/rerun"
    assert client.post(path, headers={"Origin": origin} if origin else {}).status_code == 403
    assert client.post(path, headers={"Origin": "http://127.0.0.1:8080"}).status_code == 404


def test_a_study_that_no_rule_matched_is_decided_on_anew_when_it_is_to_be_done_again(
    make_web: Callable[..., PaperWeb],
) -> None:
    web = make_web()
    web.receive(make_ct_instance())
    with web.database.write() as connection:
        connection.execute(
            update(tables.studies).values(state="unmatched", reason="No rule matched.", decision_number=1)
        )
    before = web.index.study(uid(1)).input_version
    client = web.client(key=ADMIN_KEY)
    answer = client.post(f"/api/studies/{uid(1)}/rerun").json()
    assert (answer["jobs"], answer["said"]) == ([], TRIED_ANEW)
    study = web.index.study(uid(1))
    assert (study.state.value, study.input_version) == ("gathering", before + 1)
    assert study.reason == "decided on anew: asked for by admin"
    again = client.post(f"/api/studies/{uid(1)}/rerun")
    assert (again.status_code, "it is gathering" in again.json()["detail"]) == (400, True)


def test_a_session_ends_with_its_time_and_with_its_key(make_web: Callable[..., PaperWeb]) -> None:
    web = make_web(auth={"local": "closed"})
    key = web.key("reader", "read", "console")
    one, other = web.client(), web.client()
    for client in (one, other):
        client.post("/console/login", data={"key": key})
        assert client.get("/dicom-web/studies").status_code == 200
    web.keys.revoke("reader", web.time)
    assert one.get("/dicom-web/studies").status_code == 401
    third = web.client()
    third.post("/console/login", data={"key": ADMIN_KEY})
    web.time += timedelta(hours=12, seconds=1)
    assert third.get("/dicom-web/studies").status_code == 401


def test_a_filtered_key_sees_its_studies_alone_wherever_it_asks(web: PaperWeb) -> None:
    web.receive(make_ct_instance(study=1))
    key = web.key("ct2-reader", "read", "console", visible=StudyFilter(frozenset({"ct2"})))
    client = web.client(key=key)
    assert client.get("/dicom-web/studies").json() == []
    assert client.get("/dicom-web/instances").json() == []
    assert client.get("/api/studies").json() == {"studies": []}
    assert client.get("/api/jobs").json() == {"jobs": []}
    assert client.get("/api/ledger").status_code == 403
    assert client.get("/console/ledger").status_code == 403
    for page in ("/console", "/console/system"):
        assert uid(1) not in client.get(page).text
        assert "Quiet" not in client.get(page).text
    hidden = [
        (method, path)
        for method, path in ROWS
        if any(name in path for name in ("{study}", "{study_instance_uid}", "/wado"))
        and NEEDED[method, path] not in ("operate", "store", "delete", "retract")
    ]
    assert len(hidden) > 20
    for method, path in hidden:
        answer = ask(client, method, path)
        nothing = answer.status_code == 404 or (answer.status_code == 200 and answer.json() == [])
        assert nothing, (method, path, answer.status_code)
