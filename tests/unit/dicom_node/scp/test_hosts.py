from __future__ import annotations

import ipaddress

from dicom_node.scp.hosts import Address, HostNames


class Resolver:
    def __init__(self) -> None:
        self.answer: frozenset[Address] = frozenset({ipaddress.ip_address("10.0.0.1")})
        self.asked = 0
        self.now = 0.0

    def __call__(self, _name: str) -> frozenset[Address]:
        self.asked += 1
        return self.answer


def test_a_name_is_asked_for_once_a_minute() -> None:
    resolver = Resolver()
    names = HostNames(resolver, lambda: resolver.now)
    for resolver.now in (0.0, 30.0, 59.0):
        assert names.addresses("ct1") == resolver.answer
    assert resolver.asked == 1
    resolver.now = 61.0
    names.addresses("ct1")
    assert resolver.asked == 2


def test_a_name_that_did_not_resolve_is_asked_for_again_soon() -> None:
    resolver = Resolver()
    resolver.answer = frozenset()
    names = HostNames(resolver, lambda: resolver.now)
    names.addresses("ct1")
    resolver.now = 11.0
    names.addresses("ct1")
    assert resolver.asked == 2


def test_networks_and_addresses_ask_no_resolver() -> None:
    resolver = Resolver()
    names = HostNames(resolver, lambda: resolver.now)
    address = ipaddress.ip_address("10.0.0.1")
    assert names.closeness(address, "10.0.0.0/8") == 8
    assert names.closeness(address, "10.0.0.1") == 32
    assert names.closeness(address, "2001:db8::/32") is None
    assert resolver.asked == 0
