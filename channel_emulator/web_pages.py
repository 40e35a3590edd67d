"""Web pages that a browser on this machine would let ask the control API, which asks nobody for a password."""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Mapping

from channel_emulator.address import Address
from semantic_codec.errors import PermissionDenied


def own_names(bound: Address, host: str) -> frozenset[str] | None:
    """What pages may call a control API that listens there, beside its addresses. None: anything, since it is open to a
    network that has its own names for it."""
    is_loopback = ipaddress.ip_address(bound.host.partition("%")[0]).is_loopback
    return frozenset(("localhost", host.lower())) if is_loopback else None


def refuse_pages(method: str, headers: Mapping[str, str], names: Collection[str] | None) -> None:
    """PermissionDenied: a page of another site asks for a change, or one whose own name leads here (DNS rebinding)."""
    host, origin, reading = headers.get("host", ""), headers.get("origin", ""), method in ("GET", "HEAD")
    if origin and not reading and origin.partition("://")[2] != host:
        raise PermissionDenied(
            f"a web page of {origin[:80]!r} asks", allowed="programs, and pages of this server", fix="ask from a program"
        )
    if names is not None and (origin or reading) and not _is_own(host.lower(), names):
        raise PermissionDenied(
            f"the host is {host[:80]!r}",
            allowed=f"an address, or {' or '.join(sorted(names))}",
            fix="use the address, or start the emulator with this name as --host",
        )


def _is_own(host: str, names: Collection[str]) -> bool:
    """Whether a Host header is of an address, or one of these names; or there is none, which browsers always send."""
    name = host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]
    if not name or name in names:
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
