"""What may be asked of a language model: the OpenAI API's requests, checked before a model sees them.

Source: the OpenAI API reference (create chat completion, create completion).
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeVar

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from dicomweb.errors import BadRequest

#: What says who asks, or means nothing here, is taken and passed on to no model.
_KEPT_BACK = {
    "user",
    "metadata",
    "store",
    "service_tier",
    "safety_identifier",
    "prompt_cache_key",
    "modalities",
    "reasoning_effort",
    "verbosity",
}
_LONGEST = 10_000_000
Name = Annotated[str, Field(max_length=256)]
Text = Annotated[str, Field(max_length=_LONGEST)]
Temperature = Annotated[float, Field(ge=0, le=2, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Penalty = Annotated[float, Field(ge=-2, le=2, allow_inf_nan=False)]
Stop = Name | Annotated[list[Name], Field(max_length=16)]


class _Form(BaseModel):
    model_config = ConfigDict(extra="forbid")


class StreamOptions(_Form):
    """How an answer is streamed."""

    include_usage: bool = False
    include_obfuscation: bool | None = None


class TextPart(_Form):
    """Text of a message."""

    type: Literal["text"]
    text: Text


class ImageUrl(_Form):
    """Where an image is."""

    url: str
    detail: Literal["auto", "low", "high"] | None = None


class ImagePart(_Form):
    """Image of a message."""

    type: Literal["image_url"]
    image_url: ImageUrl


Part = Annotated[TextPart | ImagePart, Field(discriminator="type")]


class Message(_Form):
    """One message of a conversation."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: Text | Annotated[list[Part], Field(max_length=1000)] | None = None
    name: Name | None = None
    tool_calls: Annotated[list[dict[str, Any]], Field(max_length=128)] | None = None
    tool_call_id: Name | None = None
    refusal: Text | None = None


class ResponseFormat(_Form):
    """What form an answer must have."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: dict[str, Any] | None = None


class _Asked(_Form):
    model: Annotated[str, Field(max_length=128)] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    temperature: Temperature | None = None
    top_p: Share | None = None
    top_k: Annotated[int, Field(ge=-1)] | None = None
    min_p: Share | None = None
    stop: Stop | None = None
    seed: int | None = None
    n: Annotated[int, Field(ge=1, le=8)] | None = None
    frequency_penalty: Penalty | None = None
    presence_penalty: Penalty | None = None
    logit_bias: dict[str, float] | None = None
    response_format: ResponseFormat | None = None
    user: Name | None = None

    @property
    def wants_usage(self) -> bool:
        """Whether a stream is to end with what it took."""
        return self.stream_options is not None and self.stream_options.include_usage

    def body(self) -> dict[str, Any]:
        """Give the request as a model's server gets it."""
        body = self.model_dump(mode="json", exclude_none=True, exclude=_KEPT_BACK | {"stream", "stream_options"})
        if self.stream:
            body["stream_options"] = {"include_usage": True}  # the audit trail has it in any case
        return body


class ChatRequest(_Asked):
    """A request to go on with a conversation."""

    messages: Annotated[list[Message], Field(min_length=1, max_length=10_000)]
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    tools: Annotated[list[dict[str, Any]], Field(max_length=128)] | None = None
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    metadata: dict[str, Any] | None = None
    store: bool | None = None
    service_tier: Name | None = None
    safety_identifier: Name | None = None
    prompt_cache_key: Name | None = None
    modalities: list[Literal["text"]] | None = None
    reasoning_effort: Name | None = None
    verbosity: Name | None = None

    def body(self) -> dict[str, Any]:
        """Give the request as a model's server gets it: in the words that all of them know."""
        body = super().body()
        most = body.pop("max_completion_tokens", None)
        if most is not None:
            body["max_tokens"] = most
        for message in body["messages"]:
            if message["role"] == "developer":
                message["role"] = "system"
        return body


class TextRequest(_Asked):
    """A request to go on with a text."""

    prompt: Text | Annotated[list[Text], Field(min_length=1, max_length=64)]
    suffix: Text | None = None
    echo: bool | None = None
    logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    best_of: Annotated[int, Field(ge=1, le=8)] | None = None


Asked = TypeVar("Asked", bound=_Asked)


def read_form(kind: type[Asked], content: bytes) -> Asked:
    """Read a request.

    Raises
    ------
    BadRequest
        It is none; the message and `param` name the part at fault, and quote nothing of it.
    """
    try:
        said = orjson.loads(content)
    except ValueError as error:
        raise BadRequest("The request is no JSON.") from error
    if not isinstance(said, dict):
        raise BadRequest("The request is no JSON object.")
    try:
        return kind.model_validate(said)
    except ValidationError as error:
        # Of what may have one of several forms, the one that was meant fails deepest.
        details = error.errors(include_url=False, include_input=False, include_context=False)
        first = max(details, key=lambda each: len(each["loc"]))
        param = _path_of(first["loc"])
        what = "is not known here" if first["type"] == "extra_forbidden" else first["msg"].lower()
        raise BadRequest(f"{param}: {what}.", param=param) from error


def _path_of(places: tuple[int | str, ...]) -> str:
    """Name a place as callers write it; names of forms, which stand in between, are left out."""
    text = ""
    for before, place in zip((None, *places), places, strict=False):
        if isinstance(place, int):
            text += f"[{place}]"
        elif place.isidentifier() and place.islower() and place != "str" and not isinstance(before, int):
            text += f".{place}" if text else place
        elif isinstance(before, int) and place not in ("text", "image_url"):
            text += f".{place}"
    return text[:200]
