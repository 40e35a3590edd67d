"""``weaklink keys``: make what an edge and its devices need to know of each other.

    DIR/edge/keys.toml, tokens.toml     for `weaklink serve --keys --tokens`
    DIR/devices/7.key, 7.token          for device 7 (`weaklink send --key-file --token-file`)
    DIR/metrics/metrics.token           for Prometheus
    DIR/admin/admin.token               for an operator's browser or curl
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import stat
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from edge_server.tokens import Role, make_token, read_token_tables, token_hash
from semantic_codec.errors import ConfigError, WeaklinkError
from semantic_codec.key_file import LARGEST_DEVICE, read_keys, read_secret
from semantic_codec.keyed import DeviceKey

KEY_BYTES = 32
MOST_DEVICES = 10_000  # in one call: a mistyped range would fill the disk


def init(folder: Path, devices: Sequence[int]) -> list[Path]:
    """Make what is not there yet and leave the rest; returns the files made for their owners.

    A file of a device that the edge does not know yet is kept and made known, so a call that was cut short may be
    repeated. ConfigError: a file cannot be read or written.
    """
    try:
        for name in ("edge", "devices", "metrics", "admin"):
            (folder / name).mkdir(mode=0o700, parents=True, exist_ok=True)
        made = _add_keys(folder, devices) + _add_tokens(folder, devices)
        # Prometheus runs as a user of its own, and is given this folder only.
        (folder / "metrics").chmod(0o755)
        (folder / "metrics/metrics.token").chmod(0o644)
    except OSError as error:
        raise ConfigError(
            f"{error.filename or folder} cannot be written ({error.strerror})",
            allowed="a folder of this user's",
            fix="choose another, or correct its owner",
        ) from error
    return made


def _add_keys(folder: Path, devices: Sequence[int]) -> list[Path]:
    path, made = folder / "edge/keys.toml", []
    known, text = (read_keys(path), read_secret(path)) if path.exists() else ({}, "")
    if text and not text.endswith("\n"):
        text += "\n"
    for device in devices:
        if device not in known:
            key = _handed_out(folder / f"devices/{device}.key", secrets.token_hex(KEY_BYTES), made)
            DeviceKey.from_hex(key)
            text += f'{device} = "{key}"\n'
    _replace(path, text)
    return made


def _add_tokens(folder: Path, devices: Sequence[int]) -> list[Path]:
    path, made = folder / "edge/tokens.toml", []
    tables = read_token_tables(path) if path.exists() else {}
    wanted = [(Role.DEVICES, str(device), folder / f"devices/{device}.token") for device in devices]
    wanted += [(role, role.value, folder / f"{role.value}/{role.value}.token") for role in (Role.METRICS, Role.ADMIN)]
    for role, name, file in wanted:
        hashes = tables.setdefault(role, {})
        if name not in hashes:
            hashes[name] = [token_hash(_handed_out(file, make_token(name), made))]
    lines = []
    for role, hashes in tables.items():
        lines += [f"[{role.value}]", *(f'"{name}" = {json.dumps(own)}' for name, own in hashes.items()), ""]
    _replace(path, "\n".join(lines))
    return made


def _handed_out(path: Path, secret: str, made: list[Path]) -> str:
    """The secret in its owner's file: this one, or the one that is there already."""
    if path.exists():
        return path.read_text().strip()
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(f"{secret}\n")
    made.append(path)
    return secret


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
    """0: everything is there; 2: it cannot be made."""
    parser = argparse.ArgumentParser(prog="weaklink keys", description="Keys and tokens of an edge and its devices.")
    making = parser.add_subparsers(dest="verb", required=True).add_parser(
        "init", help="make what is missing in a folder; call it again for more devices"
    )
    making.add_argument("folder", metavar="DIR", type=Path)
    making.add_argument("--devices", default="1", metavar="LIST", help="such as 1,2,10-19 (default: 1)")
    options = parser.parse_args(argv)
    try:
        made = init(options.folder, device_list(options.devices))
    except WeaklinkError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for path in made:
        print(path)
    edge = options.folder / "edge"
    print(f"weaklink serve --keys {edge / 'keys.toml'} --tokens {edge / 'tokens.toml'}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
