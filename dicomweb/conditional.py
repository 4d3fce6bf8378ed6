"""Answers that a caller may have already, or wants a piece of.

Source: RFC 9110 8.8 (validators), 13.1 (preconditions), 14 (ranges); PS3.18 8.4.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from datetime import datetime
from email.utils import format_datetime, parsedate_to_datetime
from typing import Self

from starlette.requests import Request
from starlette.responses import Response

from storage.records import InstanceRecord

_RANGE = re.compile(r"bytes=(\d{0,15})-(\d{0,15})")


class Validators:
    """Entity tag and time of one representation."""

    def __init__(self, records: Sequence[InstanceRecord], representation: str) -> None:
        """Take what it is made of; `representation`: what distinguishes it from others of the same instances."""
        digest = hashlib.sha256(representation.encode())
        for record in records:
            digest.update(f"{record.sop_instance_uid} {record.sha256} {record.transfer_syntax_uid}".encode())
        self.etag = f'"{digest.hexdigest()[:32]}"'
        self.modified: datetime | None = None
        if records:
            self.modified = max(record.received_at for record in records).replace(microsecond=0)

    @classmethod
    def of_content(cls, content: bytes, representation: str) -> Self:
        """Take the content itself, where it is at hand."""
        return cls((), f"{representation} {hashlib.blake2b(content, digest_size=16).hexdigest()}")

    @property
    def headers(self) -> dict[str, str]:
        """What the answer says; others than the caller keep nothing, and the caller asks before using it again."""
        said = {
            "ETag": self.etag,
            "Cache-Control": "private, no-cache",
            "Vary": "Accept, Authorization, Cookie",
        }
        if self.modified is not None:
            said["Last-Modified"] = format_datetime(self.modified, usegmt=True)
        return said

    def not_modified(self, request: Request) -> Response | None:
        """Give the 304 where the caller has this representation already."""
        known = request.headers.get("if-none-match")
        if known is not None:
            tags = {tag.strip().removeprefix("W/") for tag in known.split(",")}
            fresh = "*" in tags or self.etag in tags
        else:
            since = _time(request.headers.get("if-modified-since"))
            fresh = since is not None and self.modified is not None and self.modified <= since
        return Response(status_code=304, headers=self.headers) if fresh else None

    def range_of(self, request: Request, size: int) -> tuple[int, int] | None:
        """Give the first byte and the byte after the last that are asked for; None: all.

        Raises
        ------
        ValueError
            There is nothing there.
        """
        asked = _RANGE.fullmatch(request.headers.get("range", ""))
        unless = request.headers.get("if-range")
        if asked is None or not any(asked.groups()) or (unless is not None and unless != self.etag):
            return None
        first, last = asked.groups()
        if not first:
            start, stop = max(0, size - int(last)), size
        else:
            start, stop = int(first), min(size, int(last) + 1) if last else size
        if start >= stop:
            raise ValueError
        return start, stop


def _time(text: str | None) -> datetime | None:
    try:
        at = parsedate_to_datetime(text or "")
    except (TypeError, ValueError):
        return None
    return at if at.tzinfo else None
