"""Web pages that a browser would let ask a server of ours: the edge's HTTP API, the emulator's control API."""

from __future__ import annotations

import ipaddress
from collections.abc import Collection

from semantic_codec.errors import PermissionDenied

READING = ("GET", "HEAD")


def refuse_pages(method: str, host: str, origin: str, names: Collection[str] | None, fix: str) -> None:
    """PermissionDenied: a page of another site asks for a change, or one whose own name leads here (DNS rebinding).

    ``host`` and ``origin`` are the headers, empty where there is none. ``names``: what pages may call this server, beside its
    addresses; None: anything. ``fix``: for who calls it otherwise.
    """
    reading = method in READING
    if origin and not reading and origin.partition("://")[2] != host:  # browsers add it to all but GET and HEAD
        raise PermissionDenied(
            f"a web page of {origin[:80]!r} asks",
            allowed="programs, and pages of this server",
            fix="ask from a program, or from a server of your own",
        )
    if names is not None and (origin or reading) and not _is_own(host.lower(), names):
        raise PermissionDenied(f"the host is {host[:80]!r}", allowed=f"an address, or {' or '.join(sorted(names))}", fix=fix)


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
