"""Whether an address is one of those from which a peer may call."""

from __future__ import annotations

import ipaddress
import socket
import threading
import time
from collections.abc import Callable

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

#: Seconds for which an answer about a host name holds; a failure holds shorter.
_HOLDS_S = 60.0
_FAILURE_HOLDS_S = 10.0


def address_of(host: str) -> Address | None:
    """Read an address as sockets give it: zone identifiers go, IPv4 inside IPv6 becomes IPv4."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


def look_up(name: str) -> frozenset[Address]:
    """Ask the system's resolver for the addresses of a host name; empty where there are none."""
    try:
        answers = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return frozenset()
    found = (address_of(str(answer[4][0])) for answer in answers)
    return frozenset(address for address in found if address is not None)


class HostNames:
    """Addresses of host names, asked for at most once a minute each."""

    def __init__(
        self,
        resolve: Callable[[str], frozenset[Address]] = look_up,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._resolve = resolve
        self._monotonic = monotonic
        self._known: dict[str, tuple[float, frozenset[Address]]] = {}
        self._lock = threading.Lock()

    def addresses(self, name: str) -> frozenset[Address]:
        """Give the addresses of a host name."""
        now = self._monotonic()
        with self._lock:
            until, addresses = self._known.get(name, (now, frozenset()))
        if now < until:
            return addresses
        addresses = self._resolve(name)  # unlocked: a slow resolver holds up nobody else
        with self._lock:
            self._known[name] = (now + (_HOLDS_S if addresses else _FAILURE_HOLDS_S), addresses)
        return addresses

    def closeness(self, address: Address, source: str) -> int | None:
        """Tell how narrowly a source of a peer names the address: bits of the network; None: not at all."""
        try:
            network = ipaddress.ip_network(source, strict=False)
        except ValueError:
            return address.max_prefixlen if address in self.addresses(source) else None
        return network.prefixlen if address.version == network.version and address in network else None
