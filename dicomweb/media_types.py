"""What a caller accepts. Source: PS3.18 8.7 (content negotiation), RFC 9110 12.5.1, RFC 2387."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from starlette.requests import Request

from dicomweb.errors import NotAcceptable

DICOM = "application/dicom"
DICOM_JSON = "application/dicom+json"
DICOM_XML = "application/dicom+xml"
JSON = "application/json"
OCTETS = "application/octet-stream"
MULTIPART = "multipart/related"
ZIP = "application/zip"
ANY = "*/*"
#: More ranges in one request are a mistake or an attack.
_MOST_RANGES = 100
#: A plus sign that a query does not percent-encode is read as a space, which no media type has.
_LOST_PLUS = re.compile(r"(?<=\w) (?=(?:json|xml)\b)")
_LONGEST_REMEMBERED = 1024


@dataclass(frozen=True)
class MediaRange:
    """One thing that a caller accepts."""

    name: str
    """`type/subtype`, in lower case; `*` stands for any."""
    parameters: Mapping[str, str]
    quality: float

    @property
    def wanted(self) -> str:
        """What is to be given: the parts' type where several are asked for, `*/*` where it is not said."""
        return self.parameters.get("type", ANY).lower() if self.name == MULTIPART else self.name

    @property
    def transfer_syntax(self) -> str | None:
        """Transfer syntax that is asked for; `*`: as stored; None: it is not said."""
        return self.parameters.get("transfer-syntax")

    @property
    def takes_multipart(self) -> bool:
        """Whether an answer in parts falls under this range."""
        return matches(self.name, MULTIPART)

    def takes(self, name: str) -> bool:
        """Tell whether a media type falls under this range."""
        return matches(self.name, name)


def matches(pattern: str, name: str) -> bool:
    """Tell whether a media type falls under a pattern such as `image/*`."""
    kind, _, sub = pattern.partition("/")
    wanted_kind, _, wanted_sub = name.partition("/")
    return kind in ("*", wanted_kind) and sub in ("*", wanted_sub)


def accepted_by(request: Request) -> list[MediaRange]:
    """Read what a request accepts, best first."""
    query = ", ".join(_LOST_PLUS.sub("+", each) for each in request.query_params.getlist("accept"))
    return parse_accept(", ".join(request.headers.getlist("accept")), query)


def parse_accept(header: str, query: str = "") -> list[MediaRange]:
    """Read what is accepted, best first; `accept` in the query goes before the header (PS3.18 8.3.3.1)."""
    text = query or header or ANY
    return list(_known_ranges(text) if len(text) <= _LONGEST_REMEMBERED else _ranges(text))


def choose(accepted: Sequence[MediaRange], available: Sequence[str]) -> str:
    """Give the best available media type: by quality, then in the caller's order, then in ours.

    Of several ranges that take a type the narrowest says how much it is wanted (RFC 9110 12.5.1).

    Raises
    ------
    NotAcceptable
        None is accepted; the message names what there is.
    """
    best: tuple[float, int] | None = None
    chosen = ""
    for name in available:
        taking = [(place, media) for place, media in enumerate(accepted) if matches(media.wanted, name)]
        if not taking:
            continue
        place, media = min(taking, key=lambda each: (each[1].wanted.count("*"), each[0]))
        if media.quality > 0 and (best is None or (-media.quality, place) < best):
            best, chosen = (-media.quality, place), name
    if best is None:
        raise NotAcceptable(f"Available: {', '.join(available)}.")
    return chosen


def accepts_in_order(accepted: Sequence[MediaRange]) -> list[MediaRange]:
    """Leave out what is expressly not wanted."""
    return [media for media in accepted if media.quality > 0]


def _ranges(text: str) -> tuple[MediaRange, ...]:
    texts = _split(text, ",")[:_MOST_RANGES]
    ranges = [media for each in texts if (media := _parse_one(each)) is not None]
    return tuple(sorted(ranges, key=lambda media: -media.quality))


#: A viewer asks with the same few headers again and again.
_known_ranges = lru_cache(maxsize=256)(_ranges)


def _parse_one(text: str) -> MediaRange | None:
    name, *rest = _split(text, ";")
    name = name.strip().lower()
    if "/" not in name:
        return None
    parameters: dict[str, str] = {}
    quality = 1.0
    for each in rest:
        key, _, value = each.partition("=")
        key, value = key.strip().lower(), value.strip().strip('"').strip()
        if key == "q":
            try:
                quality = min(1.0, max(0.0, float(value)))
            except ValueError:
                quality = 0.0
        elif key:
            parameters[key] = value
    return MediaRange(name, parameters, quality)


def _split(text: str, separator: str) -> list[str]:
    """Split outside of quotation marks."""
    parts: list[str] = []
    start, quoted = 0, False
    for place, letter in enumerate(text):
        if letter == '"':
            quoted = not quoted
        elif letter == separator and not quoted:
            parts.append(text[start:place])
            start = place + 1
    return [*parts, text[start:]]
