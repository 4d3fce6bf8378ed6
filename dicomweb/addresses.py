"""The address under which a caller reached the node: URLs in answers follow it.

Source: RFC 9110 7.2 (Host), RFC 7239 (Forwarded).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network

from starlette.requests import Request

from configs.settings import HttpSettings
from dicomweb.errors import BadRequest

#: Source: RFC 3986 3.2.2 (host), narrowed to what a URL of ours may hold.
_HOST = re.compile(r"(?:[A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?")
#: What this machine calls itself.
LOCAL_NAMES = frozenset({"localhost", "127.0.0.1", "[::1]"})
_PAIR = re.compile(r'([A-Za-z]+)=(?:"([^"]*)"|([^;,\s]*))')

BaseUrl = Callable[[Request], str]


def base_url_of(settings: HttpSettings) -> BaseUrl:
    """Give what finds the base URL of a request, without a slash at its end.

    A configured public URL goes before all; headers of proxies count only where the configured ones set them.
    """
    trusted = [ip_network(each, strict=False) for each in settings.trusted_proxies]
    public = settings.public_url.rstrip("/")

    def base_url(request: Request) -> str:
        if public:
            return public
        scheme, host = request.url.scheme, request.headers.get("host", "")
        if trusted and _is_trusted(request, trusted):
            scheme, host = _forwarded(request, scheme, host)
        if not _HOST.fullmatch(host):
            raise BadRequest("The Host header names no host.")
        if host.lower() in LOCAL_NAMES and (server := request.scope.get("server")) is not None and server[1] != 80:
            host = f"{host}:{server[1]}"  # a common client leaves it out of Host, and would then go elsewhere
        return f"{scheme}://{host}"

    return base_url


def _is_trusted(request: Request, trusted: Sequence[IPv4Network | IPv6Network]) -> bool:
    try:
        peer = ip_address(request.client.host if request.client else "")
    except ValueError:
        return False
    return any(peer in network for network in trusted)


def _forwarded(request: Request, scheme: str, host: str) -> tuple[str, str]:
    """Read what the nearest proxies say of the first caller's address."""
    said = {name.lower(): quoted or plain for name, quoted, plain in _PAIR.findall(_first(request, "forwarded"))}
    scheme = said.get("proto") or _first(request, "x-forwarded-proto") or scheme
    port = _first(request, "x-forwarded-port")
    host = said.get("host") or _first(request, "x-forwarded-host") or host
    if port and port not in ("80", "443") and ":" not in host.rpartition("]")[2]:
        host = f"{host}:{port}"
    if scheme not in ("http", "https"):
        raise BadRequest("The forwarded scheme is neither http nor https.")
    return scheme, host


def _first(request: Request, header: str) -> str:
    return request.headers.get(header, "").partition(",")[0].strip()
