"""A model that the node runs itself: a real llama.cpp, on weights that mean nothing."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from openai import OpenAI

from tests.builders.node import NodeProcess, wait_until
from tests.builders.tiny_gemma import write_model, write_projector
from tests.integration.chat.test_images import data_uri, picture

pytestmark = [pytest.mark.timeout(300), pytest.mark.xdist_group("llama")]

MODEL = "medgemma-tiny-Q8_0"
MESSAGES: Any = [{"role": "user", "content": "What is a lung?"}]
#: Never its end of turn: an answer that only its length or its caller ends.
ENDLESS: Any = {"max_tokens": 120_000, "extra_body": {"logit_bias": {"1": -100, "5": -100}}}


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeProcess]:
    """A node with a model in its data directory, which may answer one question at a time."""
    chat = {"llama_cpp": {"threads": 1, "gpu_layers": 0, "context_size": 131_072, "waiting": 0}}
    made = NodeProcess(tmp_path_factory.mktemp("llama"), peers={}, node={"chat": chat})
    models = made.data_dir / "models"
    models.mkdir(parents=True)
    write_model(models / f"{MODEL}.gguf", context_length=131_072)
    write_model(models / "medgemma-tiny-F16.gguf")
    write_projector(models / "mmproj-medgemma-tiny.gguf")
    made.start()
    yield made
    made.stop()


@pytest.fixture
def client(node: NodeProcess) -> OpenAI:
    made = OpenAI(base_url=f"{node.url}/v1", api_key="none", max_retries=0, timeout=120)
    wait_until(lambda: [each.id for each in made.models.list()] == [MODEL], within_s=120, what="the model is loaded")
    return made


def ask(client: OpenAI, **more: Any) -> Any:
    return client.chat.completions.create(
        **{"model": "medgemma-4b", "messages": MESSAGES, "max_tokens": 8, "temperature": 0, **more}
    )


def model_pid(node: NodeProcess) -> int:
    """Give the process that holds the model; 0: there is none now."""
    role = node.processes().get("chat", 0)
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            ours = int((entry / "stat").read_text().rpartition(")")[2].split()[1]) == role
            if ours and b"inference.chat.llama_child" in (entry / "cmdline").read_bytes():
                return int(entry.name)
    return 0


def sockets_of(pid: int) -> set[str]:
    """Give the inodes of a process's sockets."""
    held = set()
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            held.add(os.readlink(entry).removeprefix("socket:[").removesuffix("]"))
    return held


def test_a_question_is_answered_by_the_file_that_the_settings_choose(client: OpenAI) -> None:
    answer = ask(client)
    assert answer.model == MODEL
    assert answer.choices[0].finish_reason in ("stop", "length")
    assert answer.usage.prompt_tokens > 10
    assert 0 < answer.usage.completion_tokens <= 8


def test_the_same_seed_gives_the_same_words(client: OpenAI) -> None:
    said = [ask(client, temperature=1, seed=seed, max_tokens=24).choices[0].message.content for seed in (1, 1, 2)]
    assert said[0] == said[1] != said[2]


def test_an_image_takes_the_tokens_that_its_projector_gives_it(client: OpenAI) -> None:
    part = {"type": "image_url", "image_url": {"url": data_uri(picture("PNG"), "image/png")}}
    plain = ask(client, messages=[{"role": "user", "content": [{"type": "text", "text": "What?"}]}])
    seen = ask(client, messages=[{"role": "user", "content": [part, {"type": "text", "text": "What?"}]}])
    assert seen.usage.prompt_tokens - plain.usage.prompt_tokens >= 16


def test_a_stream_has_a_beginning_words_an_end_and_usage(client: OpenAI) -> None:
    chunks = list(ask(client, stream=True, stream_options={"include_usage": True}, max_tokens=16))
    assert chunks[-1].usage.completion_tokens <= 16
    assert [choice.finish_reason for chunk in chunks for choice in chunk.choices if choice.finish_reason]
    assert {chunk.model for chunk in chunks} == {MODEL}


def test_an_answer_fits_the_schema_that_is_asked_for(client: OpenAI) -> None:
    schema = {
        "type": "object",
        "properties": {"seen": {"type": "boolean"}},
        "required": ["seen"],
        "additionalProperties": False,
    }
    form = {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}
    answer = ask(client, response_format=form, max_tokens=400)
    assert answer.choices[0].finish_reason == "stop"
    assert set(json.loads(answer.choices[0].message.content)) == {"seen"}


def test_a_text_is_gone_on_with(client: OpenAI) -> None:
    answer = client.completions.create(model="medgemma-4b", prompt="The lung", max_tokens=4)
    assert answer.usage is not None
    assert answer.usage.completion_tokens <= 4


def test_a_question_longer_than_the_window_is_400(client: OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="context size"):
        ask(client, messages=[{"role": "user", "content": "lung " * 100_000}])


def test_the_next_is_answered_as_soon_as_a_caller_has_gone(client: OpenAI) -> None:
    stream = ask(client, stream=True, **ENDLESS)
    for _ in range(5):
        next(stream)
    with pytest.raises(openai.RateLimitError):  # one at a time, and none may wait here
        ask(client)
    stream.close()

    def answered() -> bool:
        try:
            return bool(ask(client).choices)
        except openai.RateLimitError:
            return False

    wait_until(answered, within_s=60, what="the model is free again: the rest would take minutes")


def test_a_model_that_dies_breaks_its_answer_only_and_comes_back(node: NodeProcess, client: OpenAI) -> None:
    stream = ask(client, stream=True, **ENDLESS)
    for _ in range(5):
        next(stream)
    before, roles = model_pid(node), node.role_pids()
    assert before
    os.kill(before, signal.SIGABRT)  # what llama.cpp does when something is wrong
    with pytest.raises(openai.APIError, match="connection to the model's server broke"):
        list(stream)
    assert httpx.get(f"{node.url}/ready").status_code == 200

    def answered() -> bool:
        try:
            return bool(ask(client).choices)
        except (openai.RateLimitError, openai.InternalServerError):
            return False

    wait_until(answered, within_s=120, what="the model is back")
    assert model_pid(node) not in (0, before)
    assert node.role_pids() == roles
    assert "the language model ended unexpectedly" in node.log()
    assert "Traceback" not in node.log()


def test_the_model_listens_on_its_owners_socket_and_on_no_port(node: NodeProcess, client: OpenAI) -> None:
    assert ask(client).choices
    pid = model_pid(node)
    held = sockets_of(pid)
    ports = [
        line.split() for name in ("tcp", "tcp6") for line in Path(f"/proc/{pid}/net/{name}").read_text().splitlines()
    ]
    assert [fields for fields in ports if fields[3] == "0A" and fields[9] in held] == []  # 0A: listening
    unix = [line.split() for line in Path(f"/proc/{pid}/net/unix").read_text().splitlines()]
    (socket,) = {Path(fields[7]) for fields in unix if fields[6] in held and len(fields) > 7}
    assert stat.S_IMODE(socket.stat().st_mode) & 0o077 == 0
    environ = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    assert {name.partition(b"=")[0] for name in environ if name} <= {b"LC_ALL", b"OMP_WAIT_POLICY"}


def test_the_model_ends_with_the_node(tmp_path: Path) -> None:
    made = NodeProcess(tmp_path, peers={}, node={"chat": {"llama_cpp": {"gpu_layers": 0}}})
    models = made.data_dir / "models"
    models.mkdir(parents=True)
    write_model(models / "medgemma.gguf")
    made.start()
    try:
        pid = wait_until(lambda: model_pid(made), within_s=60, what="the model's process is there")
        assert made.process is not None
        made.process.kill()
        made.process.wait()
        wait_until(lambda: not Path(f"/proc/{pid}").exists(), within_s=30, what="it ends with the node")
    finally:
        made.stop()
