"""Addresses of both families in one form."""

from __future__ import annotations

import ipaddress

from hypothesis import given
from hypothesis import strategies as st

from edge_server.addresses import network, packed


@given(st.ip_addresses(v=4))
def test_an_ipv4_address_is_one_host_in_both_of_its_forms(address: ipaddress.IPv4Address):
    mapped = f"::ffff:{address}"
    assert packed(str(address)) == packed(mapped) and packed(mapped)[12:] == address.packed
    assert ipaddress.IPv6Address(packed(mapped)).is_multicast, "no sender's"
    assert network(str(address)) == network(mapped) == str(address)


@given(st.ip_addresses(v=6).filter(lambda address: address.ipv4_mapped is None))
def test_an_ipv6_address_belongs_to_its_network(address: ipaddress.IPv6Address):
    assert packed(str(address)) == packed(f"{address}%eth0") == address.packed
    assert ipaddress.IPv6Network(network(f"{address}%2")) == ipaddress.IPv6Network((address, 64), strict=False)
