"""Access: the open loopback with its conditions, else a key."""

from __future__ import annotations

import base64
import binascii
import hmac
import secrets
import threading
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from ipaddress import ip_address
from urllib.parse import urlsplit

from anyio import to_thread
from starlette.requests import Request

from configs.settings import AuthSettings, HttpSettings
from dicomweb.addresses import LOCAL_NAMES
from dicomweb.caller import ADMIN, LOCAL, Caller
from dicomweb.errors import NotAllowed, NotAuthenticated
from storage.keys import Keys

SESSION_COOKIE = "dicom_node_session"
SESSION_LASTS_S = 12 * 3600
#: Set by proxies; who comes through one is not on this machine, whatever the socket says.
_FORWARDING = frozenset({"forwarded", "via", "x-real-ip", "x-client-ip", "x-cluster-client-ip", "true-client-ip"})
_FORWARDING_BEGINS = ("x-forwarded", "x-original-", "cf-connecting")
_UNSAFE = frozenset({"POST", "PUT", "PATCH", "DELETE"})


class Access:
    """Tells callers apart."""

    def __init__(
        self,
        settings: AuthSettings,
        http: HttpSettings,
        *,
        keys: Keys,
        admin_key: str | None,
        now: Callable[[], datetime],
    ) -> None:
        self._local_is_open = settings.local == "open" and not http.listens_beyond_this_machine
        self._http = http
        self._keys = keys
        self._admin_key = admin_key
        self._now = now
        # The key itself is kept with its session and looked at again each time: a revoked one ends its sessions.
        self._sessions: dict[str, tuple[str, datetime]] = {}
        self._lock = threading.Lock()

    def requires(self, permission: str) -> Callable[[Request], Awaitable[Caller]]:
        """Give a dependency that lets pass who has a permission; an empty one: whoever is known.

        Raises
        ------
        NotAuthenticated, NotAllowed
            By the dependency.
        """

        async def dependency(request: Request) -> Caller:
            # A key is looked up in the database, which takes a thread; the open loopback needs none.
            names_somebody = "authorization" in request.headers or SESSION_COOKIE in request.cookies
            caller = await to_thread.run_sync(self.caller_of, request) if names_somebody else self.caller_of(request)
            if permission and permission not in caller.permissions:
                raise NotAllowed(f"This needs the permission {permission}.", caller=caller.name)
            return caller

        return dependency

    def caller_of(self, request: Request) -> Caller:
        """Find out who asks; a key goes before the open loopback, which an unknown key does not close."""
        by_key = self._by_header(request) or self._by_session(request)
        if by_key is not None:
            return by_key
        if self._local_is_open and _is_plainly_local(request):
            return LOCAL
        raise NotAuthenticated

    def log_in(self, secret: str) -> str:
        """Begin a console session for a key; give the cookie's value."""
        if self._by_secret(secret) is None:
            raise NotAuthenticated("This key opens nothing.")
        token = secrets.token_urlsafe(32)
        with self._lock:
            now = self._now()
            self._sessions = {each: held for each, held in self._sessions.items() if held[1] > now}
            self._sessions[token] = (secret, now + timedelta(seconds=SESSION_LASTS_S))
        return token

    def log_out(self, token: str) -> None:
        """End a console session."""
        with self._lock:
            self._sessions.pop(token, None)

    def _by_header(self, request: Request) -> Caller | None:
        scheme, _, value = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            return self._by_secret(value.strip())
        if scheme.lower() == "basic":
            try:
                name, _, secret = base64.b64decode(value.strip(), validate=True).decode("utf-8").partition(":")
            except (binascii.Error, UnicodeDecodeError):
                return None
            return self._by_secret(secret, name=name)
        return None

    def _by_secret(self, secret: str, *, name: str | None = None) -> Caller | None:
        is_admin = self._admin_key and hmac.compare_digest(secret.encode(), self._admin_key.encode())
        if is_admin and name in (None, "admin"):
            return ADMIN
        key = self._keys.recognise(secret)
        if key is None or (name is not None and name != key.name):
            return None
        if key.revoked_at is not None:
            raise NotAuthenticated("This key was revoked.")
        if key.expires_at is not None and key.expires_at <= self._now():
            raise NotAuthenticated("This key has expired.")
        return Caller(key.name, key.permissions, key.visible)

    def _by_session(self, request: Request) -> Caller | None:
        token = request.cookies.get(SESSION_COOKIE, "")
        with self._lock:
            secret, ends = self._sessions.get(token, (None, None))
        if secret is None or ends is None or ends <= self._now():
            return None
        try:
            caller = self._by_secret(secret)
        except NotAuthenticated:
            self.log_out(token)
            return None
        if request.method in _UNSAFE and not is_own_origin(request, required=True):
            raise NotAllowed("A page of another site may not act for a console session.")
        return caller


def _is_plainly_local(request: Request) -> bool:
    """Tell whether a request was surely made on this machine, by nobody's web page and through no proxy."""
    if request.client is None or not _is_loopback_address(request.client.host):
        return False
    if any(name in _FORWARDING or name.startswith(_FORWARDING_BEGINS) for name in request.headers):
        return False
    return _is_local_host(request) and is_own_origin(request, required=False) and not _is_embedded(request)


def _is_embedded(request: Request) -> bool:
    """Tell whether a page of another site asks for a picture, script or frame of ours: such requests name no Origin.

    Source: Fetch Metadata (Sec-Fetch-Site, Sec-Fetch-Mode, Sec-Fetch-Dest).
    """
    if request.headers.get("sec-fetch-site", "none") in ("none", "same-origin"):
        return False
    followed_a_link = request.headers.get("sec-fetch-mode") == "navigate" and request.method == "GET"
    return not (followed_a_link and request.headers.get("sec-fetch-dest", "document") == "document")


def _is_loopback_address(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _is_local_host(request: Request) -> bool:
    """Host names this machine, and no other port than the one that was really called: no rebound name.

    A common DICOMweb client leaves the port out; a foreign page cannot: browsers always send it.
    """
    server = request.scope.get("server")
    hosts = request.headers.getlist("host")
    if len(hosts) != 1 or server is None:
        return False
    name, colon, port = hosts[0].rpartition(":") if not hosts[0].endswith("]") else (hosts[0], "", "")
    if not colon:
        name, port = hosts[0], str(server[1])
    return name.lower() in LOCAL_NAMES and port == str(server[1])


def is_own_origin(request: Request, *, required: bool) -> bool:
    """Tell whether the page that asks is one of this node's; `required`: it must say so."""
    origin = request.headers.get("origin")
    if origin is None:
        return not required or request.headers.get("sec-fetch-site") in ("same-origin", "none")
    try:
        named = urlsplit(origin)
    except ValueError:
        return False
    own = named.scheme in ("http", "https") and named.netloc.lower() == request.headers.get("host", "").lower()
    return own and not named.path and len(request.headers.getlist("origin")) == 1
