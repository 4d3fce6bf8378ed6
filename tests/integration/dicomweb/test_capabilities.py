"""What the services say of themselves. Source: PS3.18 8.9."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest
from httpx import Client

ROOT = "/dicom-web"
WADL = "{http://wadl.dev.java.net/2009/02}"


@pytest.mark.parametrize(("method", "path"), [("OPTIONS", ROOT), ("OPTIONS", f"{ROOT}/"), ("GET", ROOT)])
def test_8_9_the_root_describes_all_services_as_wadl(client: Client, method: str, path: str) -> None:
    answer = client.request(method, path)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/vnd.sun.wadl+xml"
    root = ElementTree.fromstring(answer.content)  # noqa: S314 (it is ours)
    (resources,) = root
    assert resources.get("base") == "http://127.0.0.1:8080"
    studies = resources.find(f"{WADL}resource[@path='dicom-web']/{WADL}resource[@path='studies']")
    assert studies is not None
    methods = {each.get("name"): each for each in studies.findall(f"{WADL}method")}
    assert set(methods) == {"GET", "POST"}
    asked = {each.get("name") for each in methods["GET"].findall(f"{WADL}request/{WADL}param")}
    assert {"limit", "fuzzymatching", "PatientName", "ModalitiesInStudy"} <= asked
    taken = {each.get("mediaType") for each in methods["POST"].findall(f"{WADL}request/{WADL}representation")}
    assert {"application/dicom", 'multipart/related; type="application/dicom+json"'} <= taken
    steps = {each.get("path") for each in root.iter(f"{WADL}resource")}
    assert {"metadata", "rendered", "thumbnail", "{frames}", "bulkdata", "pixeldata", "workitems", "wado"} <= steps


def test_8_9_or_as_json_on_request(client: Client) -> None:
    said = client.get(ROOT, headers={"Accept": "application/json"}).json()
    assert "UPS-RS" in {each["service"] for methods in said["resources"].values() for each in methods.values()}
    deleted = [path for path, methods in said["resources"].items() if "DELETE" in methods]
    assert deleted == ["/dicom-web/workitems/{workitem}/subscribers/{aetitle}"]  # nothing that is kept
    subscribe = said["resources"][deleted[0]]["POST"]
    assert subscribe["parameters"] == ["deletionlock", "filter"]
    assert (subscribe["takes"], subscribe["gives"]) == ([], [])
    assert client.get(ROOT, headers={"Accept": "image/png"}).status_code == 406


def test_every_described_resource_answers(client: Client) -> None:
    said = client.get(ROOT, headers={"Accept": "application/json"}).json()
    for path, methods in said["resources"].items():
        plain = path.replace("{frames}", "1").replace("{path}", "7FE00010")
        for name in ("study", "series", "instance", "workitem"):
            plain = plain.replace(f"{{{name}}}", "1.2.3")
        allowed = client.options(plain).headers["allow"]
        assert set(methods) <= set(allowed.split(", ")), path
