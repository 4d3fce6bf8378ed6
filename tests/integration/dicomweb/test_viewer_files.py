"""The viewer's page, configuration and files, as the node serves them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from dicomweb.viewer import serving
from dicomweb.viewer.package import VERSION, lay_out
from storage.findings_store import FindingsStore
from tests.builders.ct import make_ct_instance, uid
from tests.builders.viewer import SCRIPT, WORKER, make_package
from tests.builders.web import ADMIN_KEY, PaperWeb
from tests.builders.work import put_findings, results_of

MakeWeb = Callable[..., PaperWeb]


@pytest.fixture
def with_viewer(make_web: MakeWeb, tmp_path: Path) -> MakeWeb:
    """Make the application with a viewer in its data directory."""

    def make(**settings: object) -> PaperWeb:
        lay_out(make_package(tmp_path / "viewer.tgz"), tmp_path / "data" / "viewer")
        return make_web(data_dir=str(tmp_path / "data"), **settings)

    return make


def test_without_a_viewer_the_node_says_how_to_add_one(make_web: MakeWeb, tmp_path: Path) -> None:
    web = make_web(data_dir=str(tmp_path))
    web.receive(make_ct_instance())
    for path in ("/viewer", "/viewer/viewer?StudyInstanceUIDs=1.2.3"):
        answer = web.client().get(path)
        assert answer.status_code == 404
        assert "make viewer" in answer.text
        assert VERSION in answer.text
    assert "how to add it" in web.client().get(f"/console/studies/{uid(1)}").text
    lay_out(make_package(tmp_path / "viewer.tgz"), tmp_path / "viewer")  # the node goes on meanwhile
    assert web.client().get("/viewer").status_code == 200


def test_every_page_of_the_viewer_is_the_same_and_runs_nothing_of_its_own(with_viewer: MakeWeb) -> None:
    client = with_viewer().client()
    pages = [client.get(path) for path in ("/viewer", "/viewer/", "/viewer/viewer?StudyInstanceUIDs=1.2.3")]
    assert {page.text for page in pages} == {pages[0].text}
    assert f'<script defer src="/viewer/{SCRIPT}"></script>' in pages[0].text
    assert "<script>" not in pages[0].text
    policy = pages[0].headers["content-security-policy"]
    assert policy.startswith("default-src 'none';")
    assert "http" not in policy
    assert "*" not in policy
    assert "script-src 'self' 'wasm-unsafe-eval' 'unsafe-eval';" in policy
    for name in ("cross-origin-opener-policy", "cross-origin-embedder-policy", "cross-origin-resource-policy"):
        assert pages[0].headers[name] in ("same-origin", "require-corp")


def test_files_come_packed_and_are_kept_by_browsers(with_viewer: MakeWeb) -> None:
    client = with_viewer().client()
    packed = client.get(f"/viewer/{SCRIPT}", headers={"Accept-Encoding": "gzip"})
    plain = client.get(f"/viewer/{SCRIPT}", headers={"Accept-Encoding": "identity"})
    assert packed.headers["content-encoding"] == "gzip"
    assert packed.content == plain.content
    assert int(packed.headers["content-length"]) < len(plain.content) / 4
    assert packed.headers["content-type"].startswith("text/javascript")
    assert packed.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert "'unsafe-eval'" in client.get(f"/viewer/{WORKER}").headers["content-security-policy"]
    style = client.get("/viewer/app.bundle.css")
    assert style.headers["cache-control"] == "no-cache"
    assert client.get("/viewer/app.bundle.css", headers={"If-None-Match": style.headers["etag"]}).status_code == 304


@pytest.mark.parametrize(
    "path",
    ["nothing.js", f"{SCRIPT}.gz", "contents.json", "../viewer.tgz", "%2e%2e/viewer.tgz", "..%2fviewer.tgz", "sw.js"],
)
def test_nothing_but_the_viewers_files_is_given(with_viewer: MakeWeb, path: str) -> None:
    assert with_viewer().client().get(f"/viewer/{path}").status_code == 404


def test_the_configuration_names_this_node_alone(with_viewer: MakeWeb) -> None:
    web = with_viewer(node={"name": 'Node "7" </script>'})
    answer = web.client().get("/viewer/app-config.js")
    assert answer.headers["content-type"].startswith("text/javascript")
    assert answer.headers["cache-control"] == "no-store"
    assert "http" not in answer.text.replace("httpErrorHandler", "")
    start = answer.text.index("window.config = ") + len("window.config = ")
    config, _ = json.JSONDecoder().raw_decode(answer.text[start:])
    assert config["disableConfirmationPrompts"] is True
    assert config["routerBasename"] == "/viewer"
    (source,) = config["dataSources"]
    assert source["configuration"]["qidoRoot"] == source["configuration"]["wadoRoot"] == "/dicom-web"
    assert source["configuration"]["friendlyName"] == 'Node "7" </script>'


def test_who_is_not_known_logs_in_first_and_comes_back(with_viewer: MakeWeb) -> None:
    web = with_viewer(auth={"local": "closed"})
    client = web.client()
    assert client.get("/viewer/viewer?StudyInstanceUIDs=1.2.3").status_code == 200  # it holds no data
    said = client.get("/viewer/app-config.js").text
    assert "/console/login?next=" in said
    assert "dataSources" not in said
    wanted = "/viewer/viewer?StudyInstanceUIDs=1.2.3"
    page = client.get("/console/login", params={"next": wanted}).text
    assert f'name="next" value="{wanted}"' in page
    answer = client.post("/console/login", data={"key": ADMIN_KEY, "next": wanted})
    assert answer.status_code == 303
    assert answer.headers["location"] == wanted
    cookie = answer.headers["set-cookie"].partition(";")[0]
    assert "dataSources" in client.get("/viewer/app-config.js", headers={"Cookie": cookie}).text


@pytest.mark.parametrize(
    "next_page",
    ["https://elsewhere.example/", "//elsewhere.example", "/viewer//x\r\nSet-Cookie: a=b", "/viewerx", "/\\x"],
)
def test_logging_in_leads_to_no_other_site(with_viewer: MakeWeb, next_page: str) -> None:
    client = with_viewer(auth={"local": "closed"}).client()
    answer = client.post("/console/login", data={"key": ADMIN_KEY, "next": next_page})
    assert answer.headers["location"] == "/console"


def test_a_page_that_asks_without_a_key_gets_no_window_of_the_browser(make_web: MakeWeb) -> None:
    client = make_web(auth={"local": "closed"}).client()
    within = client.get("/dicom-web/studies", headers={"Sec-Fetch-Dest": "empty"})
    assert (within.status_code, within.headers["www-authenticate"]) == (401, 'Bearer realm="dicom-node"')
    assert "Basic" in client.get("/dicom-web/studies").headers["www-authenticate"]


def test_who_may_not_store_is_offered_no_upload(with_viewer: MakeWeb) -> None:
    web = with_viewer()
    reader = web.client(key=web.key("reader", "read"))
    assert '"dicomUploadEnabled": false' in reader.get("/viewer/app-config.js").text
    assert '"dicomUploadEnabled": true' in web.client().get("/viewer/app-config.js").text


def test_the_console_leads_to_the_study_with_its_outlines(with_viewer: MakeWeb) -> None:
    web = with_viewer()
    web.receive(make_ct_instance())
    client = web.client()
    opened = f"/viewer/viewer?StudyInstanceUIDs={uid(1)}"
    assert f'href="{opened}"' in client.get(f"/console/studies/{uid(1)}").text
    findings = put_findings(FindingsStore(web.database, web.blobs), uid(1), "a1b2c3d4e5f6")
    web.parts.results.reserve(results_of(findings))
    seg = results_of(findings)[0]
    page = client.get(f"/console/studies/{uid(1)}").text
    assert f'href="{opened}&amp;initialSeriesInstanceUID={seg.series_instance_uid}"' in page


def test_a_viewer_of_another_version_is_as_good_as_none(with_viewer: MakeWeb, tmp_path: Path) -> None:
    web = with_viewer()
    contents = tmp_path / "data" / "viewer" / "contents.json"
    contents.write_text(contents.read_text().replace(VERSION, "1.0.0"))
    assert web.client().get("/viewer").status_code == 404
    assert serving.Viewer(tmp_path / "data" / "viewer").installed() is None
