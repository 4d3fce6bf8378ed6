"""The OpenAI API as its own Python package meets it, in front of servers that answer well and badly."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import openai
import pytest
from openai import OpenAI

from storage.audit import AuditAction, AuditOutcome
from tests.builders.models import PaperModels
from tests.builders.node import wait_until
from tests.builders.web import ADMIN_KEY
from tests.integration.chat.conftest import ChatNode, MakeNode

MESSAGES: Any = [{"role": "user", "content": "What is a lung?"}]
MODEL = "medgemma-4b-it"


def client_of(node: ChatNode, key: str = "anything", *, retries: int = 0) -> OpenAI:
    return OpenAI(base_url=f"{node.url}/v1", api_key=key, max_retries=retries, timeout=60)


def ask(client: OpenAI, **more: Any) -> Any:
    return client.chat.completions.create(**{"model": MODEL, "messages": MESSAGES, **more})


def said(chunks: Any) -> str:
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)


def test_without_a_model_the_list_is_empty_and_an_answer_is_503_with_what_to_do(make_node: MakeNode) -> None:
    client = client_of(make_node(), retries=2)
    assert list(client.models.list()) == []
    with pytest.raises(openai.APIStatusError) as refused:
        ask(client)
    assert refused.value.status_code == 503
    assert refused.value.type == "model_not_available"
    assert "chat.upstreams" in refused.value.message
    assert "MEDGEMMA_BASE_URL" in refused.value.message
    assert httpx.get(str(client.base_url).removesuffix("/v1/") + "/ready").status_code == 200


@pytest.mark.parametrize(
    ("chat", "named"), [({"enabled": False}, "MEDGEMMA_ENABLED"), ({"backend": "none"}, "chat.backend is none")]
)
def test_a_model_that_is_switched_off_is_none(make_node: MakeNode, chat: dict[str, Any], named: str) -> None:
    models = PaperModels()
    client = client_of(make_node(models, chat=chat))
    assert list(client.models.list()) == []
    with pytest.raises(openai.APIStatusError, match=named):
        ask(client)
    assert (models.asked, models.looked) == ([], 0)


def test_a_whole_answer_comes_as_the_server_gave_it_under_the_name_that_is_listed(make_node: MakeNode) -> None:
    node = make_node(PaperModels())
    client = client_of(node)
    assert [model.id for model in client.models.list()] == [MODEL]
    assert client.models.retrieve(MODEL).id == MODEL
    answer = ask(client, max_tokens=5, temperature=0.1, top_p=0.9, stop=["x"], seed=7)
    assert answer.choices[0].message.content == "One two three"
    assert (answer.model, answer.usage.total_tokens) == (MODEL, 10)
    (asked,) = node.models[0].asked
    assert asked == {
        "model": MODEL,
        "messages": MESSAGES,
        "max_tokens": 5,
        "temperature": 0.1,
        "top_p": 0.9,
        "stop": ["x"],
        "seed": 7,
    }


def test_schema_and_tools_reach_the_server_and_who_asks_does_not(make_node: MakeNode) -> None:
    node = make_node(PaperModels())
    schema = {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "object"}}}
    tools = [{"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}]
    call = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": "{}"}}
    messages = [
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "Look."}]},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": "seen"},
    ]
    ask(
        client_of(node),
        messages=messages,
        response_format=schema,
        tools=tools,
        tool_choice="auto",
        max_completion_tokens=9,
        user="Test^Quiet",
        metadata={"who": "Test^Quiet"},
    )
    (asked,) = node.models[0].asked
    assert (asked["response_format"], asked["tools"], asked["tool_choice"]) == (schema, tools, "auto")
    assert [message["role"] for message in asked["messages"]] == ["system", "user", "assistant", "tool"]
    assert asked["messages"][2]["tool_calls"] == [call]
    assert asked["max_tokens"] == 9
    assert "Test^Quiet" not in str(asked)


def test_a_stream_has_every_word_and_its_usage_where_that_is_asked_for(make_node: MakeNode) -> None:
    client = client_of(make_node(PaperModels()))
    plain = list(ask(client, stream=True))
    assert said(plain) == "One two three"
    assert all(chunk.choices and chunk.usage is None for chunk in plain)
    with_usage = list(ask(client, stream=True, stream_options={"include_usage": True}))
    assert said(with_usage) == "One two three"
    assert with_usage[-1].usage.completion_tokens == 3
    assert {chunk.model for chunk in with_usage} == {MODEL}


def test_a_text_is_gone_on_with_whole_and_as_a_stream(make_node: MakeNode) -> None:
    client = client_of(make_node(PaperModels()))
    assert client.completions.create(model=MODEL, prompt="One").choices[0].text == "One two three"
    chunks = client.completions.create(model=MODEL, prompt="One", stream=True)
    assert "".join(chunk.choices[0].text for chunk in chunks) == "One two three"


def test_a_name_of_medgemma_is_whichever_is_served_and_another_name_is_404(make_node: MakeNode) -> None:
    client = client_of(make_node(PaperModels()))
    assert {ask(client, model=name).model for name in ("medgemma-4b", "medgemma-1.5-4b")} == {MODEL}
    with pytest.raises(openai.NotFoundError) as refused:
        ask(client, model="gpt-4")
    assert refused.value.code == "model_not_found"
    assert MODEL in refused.value.message


@pytest.mark.parametrize(
    ("trouble", "status", "code"),
    [("error", 502, "model_failed"), ("garbage", 502, "model_failed"), ("busy", 429, "model_busy")],
)
@pytest.mark.parametrize("stream", [False, True])
def test_what_fails_before_the_first_word_has_a_status_of_its_own(
    make_node: MakeNode, trouble: Any, status: int, code: str, stream: bool
) -> None:
    node = make_node(PaperModels(trouble=trouble))
    with pytest.raises(openai.APIStatusError) as refused:
        ask(client_of(node), stream=stream)
    assert (refused.value.status_code, refused.value.code) == (status, code)
    assert "secret words" not in refused.value.message


def test_a_server_that_says_nothing_is_given_up_after_its_time(make_node: MakeNode) -> None:
    client = client_of(make_node(PaperModels(trouble="silent"), chat={"timeout_s": 0.5}))
    with pytest.raises(openai.APIStatusError) as refused:
        ask(client)
    assert (refused.value.status_code, refused.value.code) == (504, "model_timed_out")
    chunks = ask(client, stream=True)
    assert next(chunks).choices[0].delta.content == "One"
    with pytest.raises(openai.APIError, match="said nothing for"):
        list(chunks)


@pytest.mark.parametrize("trouble", ["cut", "garbage in the stream", "error in the stream"])
def test_a_stream_that_breaks_off_ends_with_an_error_and_never_as_if_it_were_whole(
    make_node: MakeNode, trouble: Any
) -> None:
    node = make_node(PaperModels(trouble=trouble))
    chunks = ask(client_of(node), stream=True)
    assert next(chunks).choices[0].delta.content == "One"
    with pytest.raises(openai.APIError) as broken:
        list(chunks)
    assert broken.value.code == "model_failed"
    assert "secret words" not in str(broken.value)
    body = {"model": MODEL, "messages": MESSAGES, "stream": True}
    assert "[DONE]" not in httpx.post(f"{node.url}/v1/chat/completions", json=body).text


def test_a_servers_word_on_the_request_is_passed_on(make_node: MakeNode) -> None:
    node = make_node(PaperModels(refusal={"error": {"message": "context of 4096 tokens exceeded"}}))
    with pytest.raises(openai.BadRequestError, match="context of 4096 tokens exceeded"):
        ask(client_of(node), stream=True)


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (b"{", None),
        (b"[]", None),
        (b"{}", "messages"),
        (b'{"messages": []}', "messages"),
        (b'{"messages": [{"role": "boss", "content": "x"}]}', "messages[0].role"),
        (b'{"messages": [{"role": "user", "content": [{"type": "audio"}]}]}', "messages[0].content[0]"),
        (b'{"messages": [{"role": "user", "content": "x"}], "temperature": 3}', "temperature"),
        (b'{"messages": [{"role": "user", "content": "x"}], "temperatur": 1}', "temperatur"),
        (b'{"messages": [{"role": "user", "content": "x"}], "max_tokens": 0}', "max_tokens"),
    ],
)
def test_a_request_that_is_none_is_refused_with_the_part_at_fault(
    make_node: MakeNode, body: bytes, param: str | None
) -> None:
    node = make_node(PaperModels())
    refused = httpx.post(f"{node.url}/v1/chat/completions", content=body)
    assert refused.status_code == 400
    error = refused.json()["error"]
    assert (error["type"], error["param"]) == ("invalid_request_error", param)
    assert node.models[0].asked == []


def test_a_request_larger_than_it_may_be_is_413(make_node: MakeNode) -> None:
    node = make_node(PaperModels(), chat={"request_mb": 0.01})
    refused = httpx.post(f"{node.url}/v1/chat/completions", content=b" " * 20_000)
    assert refused.status_code == 413
    assert refused.json()["error"]["type"] == "invalid_request_error"


def test_a_key_needs_the_permission_and_an_unknown_one_is_401_where_the_node_is_closed(make_node: MakeNode) -> None:
    node = make_node(PaperModels(), auth={"local": "closed"})
    reader, talker = node.web.key("viewer", "read"), node.web.key("assistant", "chat")
    with pytest.raises(openai.AuthenticationError) as unknown:
        ask(client_of(node))
    assert unknown.value.code == "invalid_api_key"
    with pytest.raises(openai.PermissionDeniedError):
        ask(client_of(node, reader))
    assert ask(client_of(node, talker)).choices[0].message.content == "One two three"
    assert list(client_of(node, ADMIN_KEY).models.list())


@pytest.mark.parametrize("stream", [False, True])
def test_generation_stops_when_the_caller_goes_away(make_node: MakeNode, stream: bool) -> None:
    models = PaperModels(hold=True)
    node = make_node(models)
    with httpx.Client(timeout=60) as client:
        body = {"messages": MESSAGES, "stream": stream}
        if stream:
            with client.stream("POST", f"{node.url}/v1/chat/completions", json=body) as answer:
                assert b"One" in next(answer.iter_raw())
        else:
            with pytest.raises(httpx.ReadTimeout):
                client.post(f"{node.url}/v1/chat/completions", json=body, timeout=1.0)
    assert models.ended_by_caller.wait(30), "the server went on for nobody"

    def noted() -> Any:
        return [event for event in node.web.audit.events() if event.action is AuditAction.CHAT]

    (event,) = wait_until(noted, within_s=30, what="the audit trail has it")
    assert (event.outcome, event.detail) == (AuditOutcome.FAILED, "/v1/chat/completions: caller_gone")


def test_the_audit_trail_has_who_asked_what_model_and_none_of_the_words(make_node: MakeNode) -> None:
    node = make_node(PaperModels())
    client = client_of(node, node.web.key("assistant", "chat"))
    ask(client)
    list(ask(client, stream=True))
    with pytest.raises(openai.NotFoundError):
        ask(client, model="gpt-4")

    def noted() -> Any:
        events = [event for event in node.web.audit.events() if event.action is AuditAction.CHAT]
        return events if len(events) == 3 else None

    events = wait_until(noted, within_s=30, what="all three are noted")
    assert {event.actor for event in events} == {"assistant"}
    took = f"/v1/chat/completions: {MODEL}, 7 tokens in, 3 out"
    assert [(event.outcome, event.detail) for event in reversed(events)] == [
        (AuditOutcome.DONE, took),
        (AuditOutcome.DONE, took),
        (AuditOutcome.REFUSED, "/v1/chat/completions: unknown_model"),
    ]


def test_thirty_two_streams_at_once_lose_nothing(make_node: MakeNode) -> None:
    models = PaperModels(words=tuple(f" {number}" for number in range(200)), hold=True)
    client = client_of(make_node(models))
    with ThreadPoolExecutor(32) as pool:
        answers = [
            pool.submit(lambda: list(ask(client, stream=True, stream_options={"include_usage": True})))
            for _ in range(32)
        ]
        wait_until(lambda: models.running == 32, within_s=60, what="all are open at once")
        models.go_on.set()
        for answer in answers:
            chunks = answer.result(60)
            assert said(chunks) == "".join(models.words)
            assert chunks[-1].usage.completion_tokens == 200


def test_more_answers_than_may_be_made_at_one_time_are_told_to_come_again(make_node: MakeNode) -> None:
    models = PaperModels(hold=True)
    client = client_of(make_node(models, chat={"concurrent": 1}))
    first = ask(client, stream=True)
    assert next(first).choices[0].delta.content == "One"
    with pytest.raises(openai.RateLimitError) as refused:
        ask(client)
    assert refused.value.response.headers["retry-after"] == "2"
    models.go_on.set()
    list(first)
    assert ask(client).choices[0].message.content == "One two three"
