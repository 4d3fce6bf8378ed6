"""One signed POST to a webhook, to an address that is allowed, and nowhere else."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import socket
from collections.abc import Callable, Sequence
from datetime import datetime

import httpx

from dicomweb.errors import RequestError

#: Seconds for connecting, and for each wait for bytes.
_TIMEOUT_S = 10.0

Resolve = Callable[[str, int], Sequence[str]]


class NotTold(RequestError):
    """The webhook did not take it; trying again may help."""


class ForbiddenTarget(RequestError):
    """The webhook's address is none that may be called."""


def resolve(host: str, port: int) -> Sequence[str]:
    """Give the addresses of a host name.

    Raises
    ------
    NotTold
        It has none now.
    """
    try:
        return [str(found[4][0]) for found in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]
    except OSError as error:
        raise NotTold(f"The host name {host} has no address.") from error


def allowed_address(url: httpx.URL, allow: Sequence[str], resolve: Resolve) -> str:
    """Choose the address to call: looked up once, judged, and then used, so that a name cannot change in between.

    Parameters
    ----------
    allow
        Networks that may be called though they are not public; only there may the scheme be http.

    Raises
    ------
    ForbiddenTarget
        An address of the name is private, local, reserved or the like, and not allowed.
    """
    networks = [ipaddress.ip_network(each, strict=False) for each in allow]
    addresses = resolve(url.host, url.port or (443 if url.scheme == "https" else 80))
    for text in addresses:
        address = ipaddress.ip_address(text.partition("%")[0])
        mapped = getattr(address, "ipv4_mapped", None)
        address = mapped or address
        listed = any(address in network for network in networks if network.version == address.version)
        if not listed and (not address.is_global or address.is_multicast):
            raise ForbiddenTarget(f"The webhook at {url.host} is not public; list its network under allow.")
        if not listed and url.scheme != "https":
            raise ForbiddenTarget(f"The webhook at {url.host} must be https.")
    if not addresses:
        raise NotTold(f"The host name {url.host} has no address.")
    return addresses[0]


def signature(secret: str, timestamp: int, body: bytes) -> str:
    """Sign a body: HMAC-SHA256 over `{timestamp}.{body}`, in hex. Source: RFC 2104."""
    return hmac.new(secret.encode(), f"{timestamp}.".encode() + body, hashlib.sha256).hexdigest()


def tell(
    url: str,
    body: str,
    *,
    secret: str,
    event: str,
    at: datetime,
    allow: Sequence[str] = (),
    resolve: Resolve = resolve,
    transport: httpx.BaseTransport | None = None,
) -> None:
    """Post one event; redirects are not followed.

    Raises
    ------
    NotTold
        It was not taken.
    ForbiddenTarget
        It must not be sent there.
    """
    target = httpx.URL(url)
    address = allowed_address(target, allow, resolve)
    content, timestamp = body.encode(), int(at.timestamp())
    headers = {
        "Host": target.netloc.decode("ascii"),
        "Content-Type": "application/json",
        "User-Agent": "dicom-node",
        "X-Dicom-Node-Event": event,
        "X-Dicom-Node-Signature": f"t={timestamp},v1={signature(secret, timestamp, content)}",
    }
    pinned = target.copy_with(host=address)
    try:
        with (
            httpx.Client(timeout=_TIMEOUT_S, follow_redirects=False, trust_env=False, transport=transport) as client,
            client.stream(
                "POST", pinned, content=content, headers=headers, extensions={"sni_hostname": target.host}
            ) as answer,
        ):
            status = answer.status_code
    except httpx.HTTPError as error:
        raise NotTold(f"The webhook at {target.host} cannot be reached ({type(error).__name__}).") from error
    if not 200 <= status < 300:
        raise NotTold(f"The webhook at {target.host} answered {status}.")
