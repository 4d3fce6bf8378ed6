"""Several servers as one: the one with the least to do, and none that is not well."""

from __future__ import annotations

from typing import Any

import httpx
from openai import OpenAI

from tests.builders.models import PaperModels
from tests.builders.node import free_ports, wait_until
from tests.builders.serving import served
from tests.integration.chat.conftest import ChatNode, MakeNode

MESSAGES: Any = [{"role": "user", "content": "What is a lung?"}]


def ask(node: ChatNode, **more: Any) -> httpx.Response:
    return httpx.post(f"{node.url}/v1/chat/completions", json={"messages": MESSAGES, **more}, timeout=60)


def test_the_server_with_the_least_to_do_is_asked(make_node: MakeNode) -> None:
    models = PaperModels(hold=True), PaperModels(hold=True)
    node = make_node(*models)
    client = OpenAI(base_url=f"{node.url}/v1", api_key="none", max_retries=0, timeout=60)
    streams = [client.chat.completions.create(model="medgemma-4b", messages=MESSAGES, stream=True) for _ in range(4)]
    assert [each.running for each in models] == [2, 2]
    models[0].go_on.set()
    wait_until(lambda: models[0].running == 0, within_s=30, what="the first server is done")
    later = client.chat.completions.create(model="medgemma-4b", messages=MESSAGES, stream=True)
    assert len(models[0].asked) == 3
    models[1].go_on.set()
    for stream in (*streams, later):
        list(stream)


def test_a_server_is_asked_for_the_models_that_it_has(make_node: MakeNode) -> None:
    node = make_node(PaperModels(models=("medgemma-4b-it",)), PaperModels(models=("medgemma-27b", "other")))
    listed = httpx.get(f"{node.url}/v1/models").json()["data"]
    assert [each["id"] for each in listed] == ["medgemma-4b-it", "medgemma-27b", "other"]
    assert {ask(node, model="other").json()["model"] for _ in range(3)} == {"other"}
    assert [len(each.asked) for each in node.models] == [0, 3]


def test_a_server_that_is_down_is_passed_over_and_taken_again_when_it_is_back(make_node: MakeNode) -> None:
    (port,) = free_ports(1)
    down = {"url": f"http://127.0.0.1:{port}"}
    well = PaperModels()
    with served(well) as url:
        node = make_node(chat={"upstreams": [down, {"url": url}]})
        assert [ask(node).status_code for _ in range(3)] == [200] * 3
        assert len(well.asked) == 3
    back = PaperModels(models=("medgemma-27b",))
    refused = ask(node)
    assert refused.status_code == 503
    assert refused.json()["error"]["type"] == "model_not_available"
    assert f"http://127.0.0.1:{port} does not answer" in refused.json()["error"]["message"]
    with served(back, port=port):
        wait_until(lambda: ask(node).status_code == 200, within_s=30, what="the server that is back is asked")
        assert ask(node).json()["model"] == "medgemma-27b"


def test_a_busy_server_is_passed_over(make_node: MakeNode) -> None:
    node = make_node(PaperModels(trouble="busy"), PaperModels())
    assert [ask(node).status_code for _ in range(3)] == [200] * 3


def test_a_server_gets_its_own_key_and_never_the_callers(make_node: MakeNode) -> None:
    node = make_node(PaperModels(key="site-secret"))
    key = node.web.key("assistant", "chat")
    asked = httpx.post(
        f"{node.url}/v1/chat/completions", json={"messages": MESSAGES}, headers={"Authorization": f"Bearer {key}"}
    )
    assert asked.status_code == 200
    wrong = make_node(chat={"upstreams": [{"url": node.web.parts.settings.chat.upstreams[0].url, "key": "other"}]})
    refused = ask(wrong)
    assert refused.status_code == 503
    assert "site-secret" not in refused.text
