"""``weaklink keys``: make what an edge and its devices need to know of each other, and strike it.

    DIR/edge/keys.toml, tokens.toml     for `weaklink serve --keys --tokens`
    DIR/devices/7.key, 7.token          for device 7 (`weaklink send --key-file --token-file`)
    DIR/metrics/metrics.token           for Prometheus
    DIR/admin/admin.token               for an operator's browser or curl

An owner's file is written as ``.new``, and has its name only when the edge knows the secret. So one that has its name and
is unknown to the edge is of a struck owner, never of a call that was cut short.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import secrets
import stat
import sys
import tempfile
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from edge_server.tokens import Role, make_token, read_token_tables, token_hash
from semantic_codec.errors import ConfigError, WeaklinkError
from semantic_codec.key_file import LARGEST_DEVICE, read_keys, read_secret

KEY_BYTES = 32
MOST_DEVICES = 10_000  # in one call: a mistyped range would fill the disk
_LINE = re.compile(r"""\s*["']?(\d+)["']?\s*=""", re.ASCII)


class Owners(NamedTuple):
    """Files of keys and tokens for their owners: those made, and those left alone because the edge struck what they hold."""

    made: list[Path]
    struck: list[Path]


def init(folder: Path, devices: Sequence[int]) -> Owners:
    """Make what is not there yet and leave the rest; a call that was cut short may be repeated.

    Who was struck stays so while there is a file of theirs. ConfigError: a file cannot be read or written.
    """
    owners = Owners([], [])
    with _writing(folder):
        for name in ("edge", "devices", "metrics", "admin"):
            (folder / name).mkdir(mode=0o700, parents=True, exist_ok=True)
        _add_keys(folder, devices, owners)
        _add_tokens(folder, devices, owners)
        # Prometheus runs as a user of its own, and is given this folder only.
        (folder / "metrics").chmod(0o755)
        if (token := folder / "metrics/metrics.token").exists():
            token.chmod(0o644)
    return owners


def strike(folder: Path, devices: Sequence[int]) -> list[Path]:
    """Have the edge forget the keys and tokens of these devices, and remove their files; returns those removed.

    ConfigError: a device has neither, which may be a slip; or a file cannot be read or written.
    """
    keys, tokens = folder / "edge/keys.toml", folder / "edge/tokens.toml"
    known, tables = read_keys(keys), read_token_tables(tokens)
    own = tables.setdefault(Role.DEVICES, {})
    files = {device: _files_of(folder, device) for device in devices}
    for device in devices:
        if not (device in known or str(device) in own or files[device]):
            raise ConfigError(
                f"device {device} has neither key nor token in {folder}",
                allowed=", ".join(map(str, sorted(known)))[:200] or "none has any",
                fix="correct --devices; nothing was struck",
            )
        own.pop(str(device), None)
    left = _without(keys, devices)
    # The edge first: a call that is cut short leaves files that open nothing.
    with _writing(folder):
        _replace(keys, left)
        _replace(tokens, _tables_text(tables))
        removed = [file for of_one in files.values() for file in of_one]
        for file in removed:
            file.unlink()
    return removed


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ConfigError(
            f"{error.filename or folder} cannot be written ({error.strerror})",
            allowed="a folder of this user's",
            fix="choose another, or correct its owner",
        ) from error


def _add_keys(folder: Path, devices: Sequence[int], owners: Owners) -> None:
    path = folder / "edge/keys.toml"
    known, text = (read_keys(path), read_secret(path)) if path.exists() else ({}, "")
    if text and not text.endswith("\n"):
        text += "\n"
    files = {device: folder / f"devices/{device}.key" for device in devices}
    for device, file in files.items():
        if device not in known and (key := _offered(file, secrets.token_hex(KEY_BYTES), owners)):
            text += f'{device} = "{key}"\n'
    _replace(path, text)
    _hand_out(files.values(), owners)


def _add_tokens(folder: Path, devices: Sequence[int], owners: Owners) -> None:
    path = folder / "edge/tokens.toml"
    tables = read_token_tables(path) if path.exists() else {}
    wanted = [(Role.DEVICES, str(device), folder / f"devices/{device}.token") for device in devices]
    wanted += [(role, role.value, folder / f"{role.value}/{role.value}.token") for role in (Role.METRICS, Role.ADMIN)]
    for role, name, file in wanted:
        hashes = tables.setdefault(role, {})
        if name not in hashes and (token := _offered(file, make_token(name), owners)):
            hashes[name] = [token_hash(token)]
    _replace(path, _tables_text(tables))
    _hand_out([file for _, _, file in wanted], owners)


def _tables_text(tables: Mapping[Role, Mapping[str, list[str]]]) -> str:
    lines = []
    for role, hashes in tables.items():
        lines += [f"[{role.value}]", *(f'"{name}" = {json.dumps(own)}' for name, own in hashes.items()), ""]
    return "\n".join(lines)


def _without(path: Path, devices: Sequence[int]) -> str:
    """The text of a keys file less the lines of these devices; comments and what an operator wrote by hand stay."""
    lines = read_secret(path).splitlines(keepends=True)
    named = [int(found[1]) if (found := _LINE.match(line)) else None for line in lines]
    text = "".join(line for line, device in zip(lines, named) if device not in devices)
    try:
        left = {int(name) for name in tomllib.loads(text)}
    except ValueError:
        left = None
    if left != read_keys(path).keys() - set(devices):
        raise ConfigError(
            f"{path} has another form than a line for each device", allowed='lines such as 7 = "..."', fix="edit it by hand"
        )
    return text


def _files_of(folder: Path, device: int) -> list[Path]:
    """The sequences that it used stay: they must never be set back."""
    names = [f"{device}.{kind}{end}" for kind in ("key", "token") for end in ("", ".new")]
    return [path for name in names if (path := folder / "devices" / name).exists()]


def _pending(path: Path) -> Path:
    return path.with_name(f"{path.name}.new")


def _offered(path: Path, secret: str, owners: Owners) -> str:
    """The secret, ready for its owner; empty where the owner's file is there, whose secret the edge must not learn again."""
    if path.exists():
        owners.struck.append(path)
        return ""
    (pending := _pending(path)).unlink(missing_ok=True)
    with open(os.open(pending, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(f"{secret}\n")
        file.flush()
        os.fsync(file.fileno())
    return secret


def _hand_out(paths: Iterable[Path], owners: Owners) -> None:
    """What the edge knows now, and what an earlier call had no time for."""
    for path in paths:
        if (pending := _pending(path)).exists():
            pending.rename(path)
            owners.made.append(path)


def _replace(path: Path, text: str) -> None:
    """In one step: the edge may be reading. Owner, group and mode stay as they are: a service's group may read it."""
    handle, temporary = tempfile.mkstemp(prefix=f"{path.stem}-", suffix=".new", dir=path.parent)
    try:
        with open(handle, "w") as file:
            if path.exists():
                _take_after(handle, path)
            file.write(text)
            file.flush()
            os.fsync(handle)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def _take_after(handle: int, path: Path) -> None:
    """Only root can give a file to another owner; without its group, though, who reads it by that would be shut out."""
    old, new = path.stat(), os.fstat(handle)
    try:
        if (old.st_uid, old.st_gid) != (new.st_uid, new.st_gid):
            os.fchown(handle, old.st_uid if os.geteuid() == 0 else -1, old.st_gid)
    except PermissionError as error:
        raise ConfigError(
            f"{path} is of the group {old.st_gid}, which this user may not give to a file",
            allowed="root, or a member of that group",
            fix="call it as one of these, or chgrp the file",
        ) from error
    os.fchmod(handle, stat.S_IMODE(old.st_mode))


def device_list(text: str) -> list[int]:
    """"1,2,10-12" -> [1, 2, 10, 11, 12]. ConfigError: no such numbers, or too many at once."""
    devices: set[int] = set()
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        ends = [first, last] if dash else [first]
        if not all(end.isdecimal() and int(end) <= LARGEST_DEVICE for end in ends):
            raise _no_list(text)
        devices.update(range(int(ends[0]), int(ends[-1]) + 1))
    if not 0 < len(devices) <= MOST_DEVICES:
        raise _no_list(text)
    return sorted(devices)


def _no_list(text: str) -> ConfigError:
    return ConfigError(
        f"--devices is {text!r}",
        allowed=f"numbers from 0 to {LARGEST_DEVICE} and ranges of them, such as 1,2,10-19, at most {MOST_DEVICES} at once",
        fix="correct it",
    )


def main(argv: Sequence[str] | None = None) -> int:
    """0: everything is there, or struck; 2: that cannot be done."""
    parser = argparse.ArgumentParser(prog="weaklink keys", description="Keys and tokens of an edge and its devices.")
    verbs = parser.add_subparsers(dest="verb", required=True)
    making = verbs.add_parser("init", help="make what is missing in a folder; call it again for more devices")
    striking = verbs.add_parser("strike", help="have the edge refuse devices from now on, and remove their files")
    for each in (making, striking):
        each.add_argument("folder", metavar="DIR", type=Path)
    making.add_argument("--devices", default="1", metavar="LIST", help="such as 1,2,10-19 (default: 1)")
    striking.add_argument("--devices", required=True, metavar="LIST", help="such as 1,2,10-19")
    options = parser.parse_args(argv)
    try:
        devices = device_list(options.devices)
        if options.verb == "strike":
            for path in strike(options.folder, devices):
                print(f"removed {path}")
            return 0
        owners = init(options.folder, devices)
    except WeaklinkError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for path in owners.made:
        print(path)
    for path in owners.struck:
        print(f"{path}: the edge does not know it, so it was struck and stays so; remove it for a new one", file=sys.stderr)
    edge = options.folder / "edge"
    print(f"weaklink serve --keys {edge / 'keys.toml'} --tokens {edge / 'tokens.toml'}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
