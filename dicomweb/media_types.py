"""What a caller accepts. Source: PS3.18 8.7 (content negotiation), RFC 9110 12.5.1, RFC 2387."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dicomweb.errors import NotAcceptable

DICOM = "application/dicom"
DICOM_JSON = "application/dicom+json"
OCTETS = "application/octet-stream"
MULTIPART = "multipart/related"


@dataclass(frozen=True)
class MediaRange:
    """One thing that a caller accepts."""

    name: str
    """`type/subtype`, in lower case; `*` stands for any."""
    parameters: Mapping[str, str]
    quality: float

    @property
    def part(self) -> str:
        """What the parts of a multipart answer are to be; `*/*` where it is not said."""
        return self.parameters.get("type", "*/*").lower()

    @property
    def transfer_syntax(self) -> str | None:
        """Transfer syntax that is asked for; `*`: as stored; None: it is not said."""
        return self.parameters.get("transfer-syntax")

    def takes(self, name: str) -> bool:
        """Tell whether a media type falls under this range."""
        return matches(self.name, name)


def matches(pattern: str, name: str) -> bool:
    """Tell whether a media type falls under a pattern such as `image/*`."""
    kind, _, sub = pattern.partition("/")
    wanted_kind, _, wanted_sub = name.partition("/")
    return kind in ("*", wanted_kind) and sub in ("*", wanted_sub)


def parse_accept(header: str | None, query: str | None = None) -> list[MediaRange]:
    """Read what is accepted, best first; `accept` in the query goes before the header (PS3.18 8.7.3)."""
    text = query if query else (header or "*/*")
    ranges = [media for each in _split(text, ",") if (media := _parse_one(each)) is not None]
    return sorted(ranges, key=lambda media: -media.quality)


def choose(accepted: Sequence[MediaRange], available: Sequence[str]) -> str:
    """Give the best available media type.

    Raises
    ------
    NotAcceptable
        None is accepted; the message names what there is.
    """
    for media in accepted:
        for name in available:
            if media.quality > 0 and media.takes(name):
                return name
    raise NotAcceptable(f"Available: {', '.join(available)}.")


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
    parts, quoted = [""], False
    for letter in text:
        if letter == '"':
            quoted = not quoted
        if letter == separator and not quoted:
            parts.append("")
        else:
            parts[-1] += letter
    return parts
