"""Keys on disk: one device's own, and the edge's table of all of them. Secrets: only their owner may read them."""

from __future__ import annotations

import json
import os
import stat
import tomllib
from pathlib import Path

from semantic_codec.errors import ConfigError
from semantic_codec.keyed import DeviceKey

LARGEST_DEVICE = 0xFFFF


def read_key(path: Path) -> DeviceKey:
    """A device's key: a file with 64 hexadecimal digits. ConfigError: not that, or not the owner's alone."""
    return DeviceKey.from_hex(read_secret(path).strip())


def read_keys(path: Path) -> dict[int, DeviceKey]:
    """The edge's keys by device number, from TOML or, where the name ends in .json, a JSON object.

    ConfigError: not readable, others may read it, or an entry is not `number = "64 hexadecimal digits"`.
    """
    text = read_secret(path)
    try:
        entries = json.loads(text, object_pairs_hook=_each_once) if path.suffix == ".json" else tomllib.loads(text)
    except ValueError as error:
        raise _refused(path, f"is no {'JSON' if path.suffix == '.json' else 'TOML'} ({error})") from None
    if not isinstance(entries, dict):
        raise _refused(path, f"holds a {type(entries).__name__}")
    keys: dict[int, DeviceKey] = {}
    for name, value in entries.items():
        if not (name.isascii() and name.isdecimal() and int(name) <= LARGEST_DEVICE) or int(name) in keys:
            raise _refused(path, f"names the device {name!r}")
        try:
            keys[int(name)] = DeviceKey.from_hex(value)
        except ConfigError as error:
            raise _refused(path, f"device {name}: {error.problem}") from None
    return keys


def read_secret(path: Path, kind: str = "key file") -> str:
    """The text of a file that is nobody else's to read; ConfigError, which calls it ``kind``, where it is not so."""
    try:
        with open(path) as file:
            mode = os.fstat(file.fileno()).st_mode
            text = file.read()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"the {kind} {path} cannot be read ({getattr(error, 'strerror', error)})",
            allowed="a text file that this user may read",
            fix="correct the path or the file's owner",
        ) from None
    # As ssh has it for private keys. A group may read it: that is how containers and services get their secrets.
    if os.name == "posix" and mode & (stat.S_IWGRP | stat.S_IRWXO):
        raise ConfigError(
            f"the {kind} {path} has the mode {stat.S_IMODE(mode):04o}",
            allowed="0600, or 0640 for a service's group: nobody else may read it",
            fix=f"chmod 600 {path}",
        )
    return text


def _each_once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """As TOML has it; JSON by itself would keep the last."""
    entries: dict[str, object] = {}
    for name, value in pairs:
        if name in entries:
            raise ValueError(f"{name!r} stands there twice")
        entries[name] = value
    return entries


def _refused(path: Path, what: str) -> ConfigError:
    return ConfigError(
        f"the key file {path} {what}",
        allowed=f"device numbers from 0 to {LARGEST_DEVICE}, each once, with 64 hexadecimal digits",
        fix='write lines such as 7 = "..." (openssl rand -hex 32)',
    )
