"""Tokens: who calls over gRPC and HTTP. The edge's file holds names and hashes only; the tokens are with their owners.

A token is ``NAME.SECRET``: the name finds the hash to compare with, the secret has 256 random bits, so a plain SHA-256
of the whole is as hard to undo as any.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from edge_server.watched_file import WatchedFile
from semantic_codec.errors import ConfigError
from semantic_codec.key_file import read_secret

ANY_DEVICE = "*"
_NAME = re.compile(r"[\w*-]{1,64}", re.ASCII)
_HASH = re.compile(r"[0-9a-f]{64}")


class Role(Enum):
    """The tables of the tokens file. ``devices`` may send and give feedback, ``metrics`` may scrape, ``admin`` may do
    all but speak for a device."""

    DEVICES = "devices"
    METRICS = "metrics"
    ADMIN = "admin"


@dataclass(frozen=True, slots=True)
class Caller:
    """Whose token it was. Of a device, ``name`` is the device it may speak for; "*": any."""

    name: str
    role: Role

    def may_speak_for(self, device: str) -> bool:
        """An empty ``device`` is nobody in particular."""
        return self.role is Role.DEVICES and (not device or self.name in (device, ANY_DEVICE))


class Tokens:
    """Callers by the hashes of their tokens."""

    def __init__(self, entries: Iterable[tuple[Caller, str]]):
        self._by_name: dict[str, list[tuple[Caller, bytes]]] = {}
        for caller, sha256 in entries:
            self._by_name.setdefault(caller.name, []).append((caller, bytes.fromhex(sha256)))

    def caller(self, token: str) -> Caller | None:
        """Whose it is; None where it is nobody's."""
        digest = hashlib.sha256(token.encode()).digest()
        found = None
        for caller, expected in self._by_name.get(token.rpartition(".")[0], ()):
            if hmac.compare_digest(digest, expected):
                found = caller
        return found


class TokenFile(WatchedFile[Tokens]):
    """The tokens file, read again when it changes."""

    def __init__(self, path: Path):
        super().__init__("tokens", (path,), lambda: read_tokens(path))


def read_tokens(path: Path) -> Tokens:
    """As :func:`read_token_tables`, to look callers up in."""
    tables = read_token_tables(path)
    return Tokens(
        (Caller(name, role), one) for role, names in tables.items() for name, hashes in names.items() for one in hashes
    )


def read_token_tables(path: Path) -> dict[Role, dict[str, list[str]]]:
    """Hashes by role and name, from TOML: tables ``[devices]``, ``[metrics]``, ``[admin]`` of ``name = "SHA-256 in
    hex"``, or a list of them.

    ConfigError: not that, or others may read the file.
    """
    try:
        tables = tomllib.loads(read_secret(path, "tokens file"))
    except ValueError as error:
        raise _refused(path, f"is no TOML ({error})") from None
    read: dict[Role, dict[str, list[str]]] = {}
    for table, names in tables.items():
        if table not in (role.value for role in Role) or not isinstance(names, dict):
            raise _refused(path, f"has {table!r}")
        own = read[Role(table)] = {}
        for name, hashes in names.items():
            own[name] = [hashes] if isinstance(hashes, str) else hashes
            usable = isinstance(own[name], list) and all(isinstance(one, str) and _HASH.fullmatch(one) for one in own[name])
            if not (usable and _NAME.fullmatch(name)):
                raise _refused(path, f"has an unusable entry {name!r} in [{table}]")
    return read


def make_token(name: str) -> str:
    return f"{name}.{secrets.token_urlsafe(32)}"


def token_hash(token: str) -> str:
    """What the tokens file holds of it."""
    return hashlib.sha256(token.encode()).hexdigest()


def _refused(path: Path, what: str) -> ConfigError:
    return ConfigError(
        f"the tokens file {path} {what}",
        allowed="tables devices, metrics and admin of names (letters, digits, _, -, or * for any device) with SHA-256 "
        "hashes of 64 hexadecimal digits",
        fix="have `weaklink keys init DIR` write one",
    )
