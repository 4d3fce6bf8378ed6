"""What every answer has in common."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from httpx import Client

from storage.errors import IndexUnavailable
from tests.builders.ct import make_ct_instance, uid
from tests.builders.web import PaperWeb

STUDIES = "/dicom-web/studies"


@pytest.mark.parametrize("path", ["/live", "/console", STUDIES, "/nothing", "/dicom-web/studies/1.2.3", "/api/studies"])
def test_every_answer_forbids_guessing_framing_and_foreign_pages(client: Client, path: str) -> None:
    headers = client.get(path).headers
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["x-frame-options"] == "SAMEORIGIN"
    assert headers["cross-origin-opener-policy"] == "same-origin"
    assert headers["cross-origin-embedder-policy"] == "require-corp"
    assert headers["cross-origin-resource-policy"] == "same-origin"
    assert "server" not in headers


def test_failures_are_problems(client: Client) -> None:
    for path, status, title in (
        ("/nothing", 404, "http_error"),
        ("/dicom-web/studies/1.2.3", 404, "not_kept"),
        ("/api/studies?limit=x", 400, "bad_request"),
        ("/api/studies?state=none", 400, "bad_request"),
        ("/api/studies/1.2.3/results", 404, "not_kept"),
    ):
        answer = client.get(path)
        assert answer.status_code == status
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["status"] == status
        assert answer.json()["title"] == title
    assert client.delete(STUDIES).status_code == 405


def test_failures_in_the_console_are_pages(client: Client) -> None:
    for path, status in (("/console/studies/1.2.3", 404), ("/console?state=none", 400), ("/console/nothing", 404)):
        answer = client.get(path)
        assert answer.status_code == status
        assert answer.headers["content-type"].startswith("text/html")
        assert "All studies" in answer.text


def test_head_is_get_without_its_body(web: PaperWeb, client: Client) -> None:
    web.receive(make_ct_instance())
    for path in ("/live", STUDIES, f"{STUDIES}/{uid(1)}/metadata", f"{STUDIES}/{uid(1)}"):
        got, head = client.get(path), client.head(path)
        assert head.status_code == 200
        assert head.content == b""
        assert head.headers["content-type"].split("boundary")[0] == got.headers["content-type"].split("boundary")[0]


def test_options_names_the_methods_of_a_path(client: Client) -> None:
    assert client.options(STUDIES).headers["allow"] == "GET, HEAD, OPTIONS, POST"
    assert client.options(f"{STUDIES}/1.2/metadata").headers["allow"] == "GET, HEAD, OPTIONS"
    assert client.options("/console/login").headers["allow"] == "GET, HEAD, OPTIONS, POST"
    assert client.options("/nothing").status_code == 404


def test_json_is_compressed_for_who_asks(web: PaperWeb, client: Client) -> None:
    for number in range(1, 8):
        web.receive(make_ct_instance(number))
    path = f"{STUDIES}/{uid(1)}/metadata"
    packed = client.get(path, headers={"Accept-Encoding": "gzip"})
    plain = client.get(path, headers={"Accept-Encoding": "identity"})
    assert packed.headers["content-encoding"] == "gzip"
    assert "content-encoding" not in plain.headers
    assert packed.json() == plain.json()
    assert int(packed.headers["content-length"]) < int(plain.headers["content-length"]) / 4
    whole = client.get(f"{STUDIES}/{uid(1)}", headers={"Accept-Encoding": "gzip"})
    assert "content-encoding" not in whole.headers


def test_no_other_origin_is_let_in_unless_configured(client: Client) -> None:
    asked = {"Origin": "https://viewer.example", "Access-Control-Request-Method": "GET"}
    assert "access-control-allow-origin" not in client.options(STUDIES, headers=asked).headers


def test_a_configured_origin_may_ask_with_a_key(make_web: Callable[..., PaperWeb]) -> None:
    web = make_web(http={"cors_origins": ["https://viewer.example"]})
    asked = {
        "Origin": "https://viewer.example",
        "Access-Control-Request-Method": "GET",
        "Access-Control-Request-Headers": "accept,authorization",
    }
    preflight = web.client().options(STUDIES, headers=asked)
    assert preflight.status_code == 200
    assert preflight.headers["access-control-allow-origin"] == "https://viewer.example"
    assert {"accept", "authorization"} <= set(preflight.headers["access-control-allow-headers"].lower().split(", "))
    answer = web.client(key=web.key("viewer", "read")).get(STUDIES, headers={"Origin": "https://viewer.example"})
    assert answer.headers["access-control-allow-origin"] == "https://viewer.example"
    assert answer.headers["cross-origin-resource-policy"] == "cross-origin"
    other = web.client(key=web.key("other", "read")).get(STUDIES, headers={"Origin": "https://evil.example"})
    assert "access-control-allow-origin" not in other.headers
    assert web.client().get(STUDIES, headers={"Origin": "https://viewer.example"}).status_code == 401


def url_of(client: Client, **headers: str) -> str:
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    return str(client.get(STUDIES, headers=sent).json()[0]["00081190"]["Value"][0]).removesuffix(f"{STUDIES}/{uid(1)}")


def test_urls_follow_the_address_that_the_caller_used(make_web: Callable[..., PaperWeb]) -> None:
    web = make_web(auth={"local": "closed"})
    web.receive(make_ct_instance())
    client = web.client(key=web.key("viewer", "read"))
    assert url_of(client) == "http://127.0.0.1:8080"
    assert url_of(client, host="node.example:9000") == "http://node.example:9000"
    assert url_of(client, host="[::1]:8080") == "http://[::1]:8080"
    assert url_of(client, host="localhost") == "http://localhost:8080"
    assert url_of(client, host="node.example") == "http://node.example"
    # Nobody said that this peer is a proxy.
    assert url_of(client, x_forwarded_host="evil.example", x_forwarded_proto="https") == "http://127.0.0.1:8080"
    assert url_of(client, forwarded="host=evil.example;proto=https") == "http://127.0.0.1:8080"


def test_urls_follow_what_a_trusted_proxy_says(make_web: Callable[..., PaperWeb]) -> None:
    web = make_web(auth={"local": "closed"}, http={"trusted_proxies": ["127.0.0.0/8"]})
    web.receive(make_ct_instance())
    client = web.client(key=web.key("viewer", "read"))
    assert url_of(client, x_forwarded_host="pacs.example", x_forwarded_proto="https") == "https://pacs.example"
    assert url_of(client, forwarded='for=1.2.3.4;proto=https;host="pacs.example:8443"') == "https://pacs.example:8443"
    assert url_of(client, x_forwarded_host="a.example, b.example", x_forwarded_port="8443") == "http://a.example:8443"
    assert client.get(STUDIES, headers={"X-Forwarded-Host": "a b"}).status_code == 400
    assert client.get(STUDIES, headers={"X-Forwarded-Proto": "javascript"}).status_code == 400
    elsewhere = web.client(key=web.key("other", "read"), peer="10.1.2.3")
    assert url_of(elsewhere, x_forwarded_host="pacs.example") == "http://127.0.0.1:8080"


def test_a_configured_public_url_goes_before_all(make_web: Callable[..., PaperWeb]) -> None:
    web = make_web(http={"public_url": "https://node.hospital.example/"})
    web.receive(make_ct_instance())
    assert url_of(web.client(), host="localhost:8080") == "https://node.hospital.example"


def test_probes_need_no_key_and_name_no_patient(make_web: Callable[..., PaperWeb]) -> None:
    web = make_web(auth={"local": "closed"}, http={"host": "0.0.0.0"})  # noqa: S104 (nothing is bound)
    client = web.client(peer="10.1.2.3")
    assert client.get("/live").json() == {"status": "alive"}
    assert client.get("/ready").json() == {"status": "ready", "lacks": []}
    assert client.get("/health").json() == {"status": "healthy", "model_loaded": False}
    info = web.client(key=web.key("any", "predict")).get("/info").json()
    assert info["name"] == "classical"
    assert info["supported_modalities"] == ["ct"]
    assert info["engines"] == [{"name": "classical-lung", "version": "1.0", "kind": "classical", "enabled": True}]


def test_a_node_that_cannot_keep_is_not_ready(make_web: Callable[..., PaperWeb]) -> None:
    full = make_web(disk={"reserve_mb": 1e12}).client()
    assert full.get("/live").status_code == 200
    answer = full.get("/ready")
    assert answer.status_code == 503
    assert answer.json()["lacks"][0].startswith("disk: ")
    assert full.get("/health").json()["status"] == "degraded"


def test_a_database_that_does_not_answer_is_a_503_that_asks_to_come_back(web: PaperWeb, client: Client) -> None:
    def unavailable(*_: object, **__: object) -> None:
        raise IndexUnavailable

    web.database.check = unavailable  # type: ignore[method-assign]
    web.parts.index.search = unavailable  # type: ignore[method-assign]
    assert client.get("/ready").status_code == 503
    answer = client.get(STUDIES)
    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "5"
