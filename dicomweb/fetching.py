"""Ask a DICOMweb service what it has, and fetch instances from it: blocking, no redirects, bounded in size and time.

Source: PS3.18 10.6 (QIDO-RS), 10.4 (WADO-RS).
"""

from __future__ import annotations

import json
import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast
from urllib.parse import quote

import httpx

from dicomweb.errors import RequestError, ServiceUnreachable
from dicomweb.uploads import media_type, parts_in, single

_LONGEST_LIST = 16 << 20
_MOST_MATCHES = 5000
_CHUNK = 1 << 20
_DICOM = "application/dicom"


@dataclass(frozen=True)
class Fetching:
    """A DICOMweb service that is asked, and with what right."""

    url: str
    """Base URL."""
    bearer: str = ""
    user: str = ""
    password: str = ""
    ca: Path | None = None
    """Certificates of whoever signs the service's; None: the system's."""
    idle_s: float = 30.0
    """Seconds in which something more must come."""
    within_s: float = 600.0
    """Seconds for one answer in all."""
    most_bytes: int = 4 << 30
    """Bytes of one instance."""


def search(service: Fetching, path: str, query: Mapping[str, str]) -> list[dict[str, Any]]:
    """Give matches as DICOM JSON, at most 5000.

    Raises
    ------
    ServiceUnreachable
        The service does not answer, refuses, or answers what is no DICOM JSON.
    """
    asked = {**query, "limit": str(_MOST_MATCHES)}
    with _answer(service, path, {"Accept": "application/dicom+json"}, asked) as answer:
        if answer.status_code == 204:
            return []
        content = bytearray()
        for chunk in _chunks(service, answer):
            content += chunk
            if len(content) > _LONGEST_LIST:
                raise ServiceUnreachable(f"{service.url} answers with a list without end.")
    try:
        found = json.loads(bytes(content))
    except ValueError as error:
        raise ServiceUnreachable(f"{service.url} answered the search with what is no JSON.") from error
    if not isinstance(found, list) or not all(isinstance(each, dict) for each in found):
        raise ServiceUnreachable(f"{service.url} answered the search with what is no DICOM JSON.")
    return found[:_MOST_MATCHES]


def retrieve(service: Fetching, study: str, series: str, instance: str, take: Callable[[BinaryIO], None]) -> None:
    """Fetch one instance, as it is kept there; `take` reads its Part 10 file as it comes.

    Raises
    ------
    ServiceUnreachable
        The service does not answer, refuses, or answers with another number of instances than one.
    """
    path = f"/studies/{quote(study)}/series/{quote(series)}/instances/{quote(instance)}"
    accept = f'multipart/related; type="{_DICOM}"; transfer-syntax=*, {_DICOM}; transfer-syntax=*'
    with _answer(service, path, {"Accept": accept}, {}) as answer:
        chunks = _chunks(service, answer)

        def pull() -> bytes:
            return next(chunks, b"")

        taken = 0
        try:
            kind = media_type(answer.headers.get("content-type", ""))
            parts = (
                parts_in(pull, kind.parameters.get("boundary", ""), service.most_bytes)
                if kind.name.startswith("multipart/")
                else iter([single(pull, kind, service.most_bytes)])
            )
            for part in parts:
                take(cast(BinaryIO, part.content))
                taken += 1
        except RequestError as error:
            raise ServiceUnreachable(f"{service.url} answered with what is no instance: {error}") from error
    if taken != 1:
        raise ServiceUnreachable(f"{service.url} answered with {taken} instances in place of one.")


def first(match: Mapping[str, Any], tag: str) -> str:
    """Give the first value of an attribute of a match as text; empty: it has none."""
    values = every(match, tag)
    return values[0] if values else ""


def every(match: Mapping[str, Any], tag: str) -> tuple[str, ...]:
    """Give the values of an attribute of a match as text."""
    element = match.get(tag)
    values = element.get("Value") if isinstance(element, dict) else None
    return tuple(str(value) for value in values if value is not None) if isinstance(values, list) else ()


@contextmanager
def _answer(
    service: Fetching, path: str, headers: Mapping[str, str], query: Mapping[str, str]
) -> Iterator[httpx.Response]:
    url = f"{service.url.rstrip('/')}{path}"
    try:
        with (
            httpx.Client(
                verify=_trust(service),
                auth=(service.user, service.password) if service.user else None,
                headers={"Authorization": f"Bearer {service.bearer}"} if service.bearer else {},
                timeout=httpx.Timeout(service.idle_s, connect=10.0),
                follow_redirects=False,
                trust_env=False,
            ) as client,
            client.stream("GET", url, headers=dict(headers), params=dict(query) or None) as answer,
        ):
            if answer.status_code not in (200, 204):
                raise ServiceUnreachable(f"{service.url} answered {answer.status_code}.")
            yield answer
    except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
        raise ServiceUnreachable(f"{service.url} gave no whole answer ({type(error).__name__}).") from error


def _trust(service: Fetching) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=None if service.ca is None else str(service.ca))


def _chunks(service: Fetching, answer: httpx.Response) -> Iterator[bytes]:
    deadline = time.monotonic() + service.within_s
    for chunk in answer.iter_bytes(_CHUNK):
        if time.monotonic() > deadline:
            raise ServiceUnreachable(f"{service.url} gave no whole answer within {service.within_s:g} s.")
        yield chunk
