"""Addresses of senders, IPv4 and IPv6 in one form."""

from __future__ import annotations

import socket

_MAPPED = bytes(10) + b"\xff\xff"  # IPv4 addresses as a socket of both families shows them: ::ffff:10.0.0.1
IPV4_PREFIX = b"\xff" * 12
"""Before an IPv4 address: the beginning of a multicast address, which no sender of IPv6 has."""


def packed(host: str) -> bytes:
    """16 bytes, an IPv4 address's behind `IPV4_PREFIX`; the scope of a link-local one (``%eth0``) is left out."""
    if ":" not in host:
        return IPV4_PREFIX + socket.inet_pton(socket.AF_INET, host)
    address = socket.inet_pton(socket.AF_INET6, host.partition("%")[0])
    return IPV4_PREFIX + address[12:] if address.startswith(_MAPPED) else address


def network(host: str) -> str:
    """What one customer has at least: an IPv4 address, or of an IPv6 address its /64, as ``2001:db8::/64``."""
    if ":" not in host:
        return host
    address = packed(host)
    if address.startswith(IPV4_PREFIX):
        return socket.inet_ntop(socket.AF_INET, address[12:])
    return socket.inet_ntop(socket.AF_INET6, address[:8] + bytes(8)) + "/64"
