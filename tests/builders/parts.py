"""Multipart answers taken apart, strictly: tests read what a viewer would."""

from __future__ import annotations

import re
from dataclasses import dataclass

import httpx


@dataclass(frozen=True)
class ReadPart:
    """One part of an answer."""

    headers: dict[str, str]
    """By lower-case name."""
    content: bytes

    @property
    def kind(self) -> str:
        return self.headers["content-type"]


def parts_of(answer: httpx.Response) -> list[ReadPart]:
    """Give the parts of a multipart/related answer. Source: RFC 2046 5.1.1, RFC 2387."""
    kind = answer.headers["content-type"]
    boundary = re.search(r"boundary=([0-9a-f]+)", kind)
    assert kind.startswith("multipart/related; type="), kind
    assert boundary is not None
    delimiter = f"--{boundary.group(1)}".encode()
    first, *sections, last = answer.content.split(delimiter)
    assert first == b""
    assert last == b"--\r\n"
    return [_read(section) for section in sections]


def _read(section: bytes) -> ReadPart:
    assert section.startswith(b"\r\n")
    assert section.endswith(b"\r\n")
    head, _, content = section[2:-2].partition(b"\r\n\r\n")
    headers = dict(line.split(": ", 1) for line in head.decode("ascii").split("\r\n"))
    return ReadPart({name.lower(): value for name, value in headers.items()}, content)
