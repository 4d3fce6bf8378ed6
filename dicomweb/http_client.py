"""One request to a DICOMweb service: blocking, no redirects, and over by a set moment, whatever the service does."""

from __future__ import annotations

import base64
import contextlib
import http.client
import os
import socket
import ssl
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from dicomweb.errors import ServiceUnreachable

#: Bytes of an answer that are read.
_LONGEST_ANSWER = 16 << 20


@dataclass(frozen=True)
class Service:
    """A DICOMweb service that the node calls."""

    url: str
    """Base URL."""
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    """What shows who we are."""
    tls: Callable[[], ssl.SSLContext] = ssl.create_default_context
    """Makes what an `https` connection is secured with."""
    server_name: str | None = None
    """Name in its certificate; None: the host of the URL."""
    connect_s: float = 10.0
    """Seconds for the connection and its handshake."""


@dataclass(frozen=True)
class Answer:
    """What a service answered."""

    status: int
    content: bytes


def basic(user: str, password: str) -> str:
    """Give the value of `Authorization` for a name and password. Source: RFC 7617."""
    return f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode('ascii')}"


def ask(
    service: Service,
    method: str,
    path: str,
    *,
    headers: Mapping[str, str],
    body: Iterable[bytes] = (),
    length: int | None = None,
    within_s: float,
) -> Answer:
    """Make one request.

    Parameters
    ----------
    path
        What comes after the base URL, encoded, with its query.
    length
        Bytes of the body; None: there is none.
    within_s
        Seconds for all of it after the connection. A service that takes or gives a byte now and then gains nothing.

    Raises
    ------
    ServiceUnreachable
        No connection, no answer in time, or what came is none.
    """
    parts = urlsplit(service.url)
    host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
    raw = _connected(service, host, port)
    # The watchdog ends the connection beneath TLS: whatever waits on it wakes up.
    beneath = socket.socket(fileno=os.dup(raw.fileno()))
    overdue = threading.Event()

    def cut() -> None:
        overdue.set()
        with contextlib.suppress(OSError):
            beneath.shutdown(socket.SHUT_RDWR)

    watchdog = threading.Timer(within_s, cut)
    watchdog.daemon = True
    watchdog.start()
    try:
        raw.settimeout(within_s)
        connection = http.client.HTTPConnection(host, port)
        connection.sock = raw
        _send(connection, method, f"{parts.path.rstrip('/')}{path}", {**service.headers, **headers}, body, length)
        answer = _answer(connection)
        if overdue.is_set():  # what was cut may look whole
            raise TimeoutError
        return answer
    except (OSError, http.client.HTTPException) as error:
        # One wait may end by its own time limit a moment before the watchdog has its turn.
        late = overdue.is_set() or isinstance(error, TimeoutError)
        what = f"gave no whole answer within {within_s:g} s" if late else "went away before it answered"
        raise ServiceUnreachable(f"{service.url} {what}.") from error
    finally:
        watchdog.cancel()
        raw.close()
        beneath.close()


def _connected(service: Service, host: str, port: int) -> socket.socket:
    try:
        raw = socket.create_connection((host, port), timeout=service.connect_s)
    except OSError as error:
        raise ServiceUnreachable(f"{service.url} cannot be reached: {error.strerror or error}.") from error
    if not service.url.startswith("https:"):
        return raw
    try:
        return service.tls().wrap_socket(raw, server_hostname=service.server_name or host)
    except OSError as error:
        raw.close()
        reason = getattr(error, "verify_message", "") or getattr(error, "reason", None) or "no handshake in time"
        why = str(reason).replace("_", " ").lower()
        raise ServiceUnreachable(f"{service.url} cannot be reached: TLS failed, {why}.") from error
    except BaseException:
        raw.close()
        raise


def _send(
    connection: http.client.HTTPConnection,
    method: str,
    path: str,
    headers: Mapping[str, str],
    body: Iterable[bytes],
    length: int | None,
) -> None:
    connection.putrequest(method, path, skip_accept_encoding=True)
    for name, value in headers.items():
        connection.putheader(name, value)
    connection.putheader("Connection", "close")
    if length is not None:
        connection.putheader("Content-Length", str(length))
    connection.endheaders()
    try:
        for chunk in body:
            connection.send(chunk)
    except (BrokenPipeError, ConnectionResetError):
        return  # a service may refuse, and say so, before it has read all


def _answer(connection: http.client.HTTPConnection) -> Answer:
    response = connection.getresponse()
    try:
        content = response.read(_LONGEST_ANSWER + 1)
    finally:
        response.close()
    if len(content) > _LONGEST_ANSWER or response.length:
        raise http.client.HTTPException("an answer without an end, or one that broke off")
    return Answer(response.status, content)
