"""Settings of the language model behind the chat API."""

from __future__ import annotations

import socket
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    SecretStr,
    StringConstraints,
)

from configs.section import Section

Address = IPv4Address | IPv6Address


def _base_url(url: str) -> str:
    """Take the URL of a server, with or without the `/v1` that clients are given."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise ValueError("must be the base URL of a server, such as http://10.1.2.3:8000")
    if "@" in parts.netloc:
        raise ValueError("holds a name or password; the key goes into `key`")
    return url.rstrip("/").removesuffix("/v1").rstrip("/")


class Upstream(Section):
    """One server that speaks the OpenAI API: vLLM, llama-server, LocalAI and their like."""

    url: Annotated[str, AfterValidator(_base_url)]
    """Its base URL."""
    key: SecretStr | None = None
    """Sent as Bearer."""


def _several(value: Any) -> Any:
    """Take one URL, or several joined by commas, for upstreams without keys."""
    urls = value.split(",") if isinstance(value, str) else value
    if not isinstance(urls, list | tuple):
        return value
    return [{"url": each.strip()} if isinstance(each, str) else each for each in urls if each != ""]


def _words(value: Any) -> Any:
    return [each.strip() for each in value.split(",")] if isinstance(value, str) else value


def _same_form(value: Any) -> Any:
    return "jpg" if value == "jpeg" else value


#: Forms of picture that may be allowed, as files are named.
ImageForm = Literal["jpg", "png", "gif", "bmp", "webp", "dcm"]


class LlamaSettings(Section):
    """A model that the node runs itself, by llama.cpp."""

    model_path: Path | None = None
    """GGUF file of the model; None: found in `models` of the data directory."""
    projector_path: Path | None = None
    """GGUF file of its vision projector; None: found beside, if it is there."""
    quantization: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_]{2,16}$")] = "Q8_0"
    """Which of several files is taken: the one with this in its name."""
    gpu_layers: NonNegativeInt | Literal["auto"] = "auto"
    """Layers that go to a GPU; 0: none."""
    threads: PositiveInt = 4
    context_size: Annotated[int, Field(ge=512)] = 8192
    """Tokens that a question and its answer may have together, images included."""
    waiting: NonNegativeInt = 8
    """Questions that may wait while one is answered."""


class ChatSettings(Section):
    """The language model, and what may be asked of it."""

    enabled: bool = True
    """False: as if there were no model."""
    backend: Literal["auto", "upstream", "llama_cpp", "none"] = "auto"
    """`auto`: the upstreams where there are any, else a model in the data directory, else none."""
    upstreams: Annotated[tuple[Upstream, ...], BeforeValidator(_several)] = ()
    llama_cpp: LlamaSettings = LlamaSettings()
    model: Annotated[str, StringConstraints(min_length=1, max_length=128)] = "medgemma-4b"
    """Which model is asked where the caller names none."""
    timeout_s: PositiveFloat = 60.0
    """Seconds that a server may take to answer, and to go on with a stream."""
    concurrent: PositiveInt = 64
    """Answers that are made at one time; who asks beyond is told to come again."""
    request_mb: PositiveFloat = 64.0
    """Megabytes (10^6 bytes) that one request may have, with its images."""
    max_image_bytes: PositiveInt = 10 << 20
    """Bytes that one image in a request may have."""
    max_images: PositiveInt = 16
    """Images that one request may show."""
    allowed_formats: Annotated[
        tuple[Annotated[ImageForm, BeforeValidator(_same_form)], ...], BeforeValidator(_words)
    ] = ("jpg", "png", "gif", "bmp", "webp", "dcm")
    """Forms that images in requests may have."""


def is_this_node(url: str, *, host: str, port: int, public_url: str = "") -> bool:
    """Tell whether a URL leads to the node that listens at `host` and `port`.

    A name that cannot be resolved leads nowhere.
    """
    parts, public = urlsplit(url), urlsplit(public_url)
    theirs = parts.port or (443 if parts.scheme == "https" else 80)
    if public.hostname and public.hostname == parts.hostname:
        return theirs == (public.port or (443 if public.scheme == "https" else 80))
    if theirs != port:
        return False
    bound = _addresses(host)
    return any(address in bound or (_is_any(bound) and _is_ours(address)) for address in _addresses(parts.hostname))


def _addresses(host: str | None) -> set[Address]:
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError:
        return set()
    return {_plain(ip_address(str(each[4][0]).partition("%")[0])) for each in found}


def _plain(address: Address) -> Address:
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address


def _is_any(addresses: set[Address]) -> bool:
    return any(address.is_unspecified for address in addresses)


def _is_ours(address: Address) -> bool:
    """Tell whether this machine has an address: only then can a socket be bound to it."""
    family = socket.AF_INET6 if address.version == 6 else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((str(address), 0))
    except OSError:
        return False
    return True
