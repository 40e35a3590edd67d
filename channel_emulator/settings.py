"""What a link is made from, in JSON and checked."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from channel_emulator import checks
from channel_emulator.chain import DIRECTIONS, build_channels
from channel_emulator.channels import Channel
from semantic_codec.address import Address, parse_address
from semantic_codec.errors import ConfigError

KINDS = ("udp", "serial", "grpc")
MAX_SEED = 2**63 - 1
FIELDS = ("name", "kind", "listen", "upstream", "seed", "up", "down")
CHANGEABLE = ("seed", "up", "down")


@dataclass
class LinkSettings:
    """One link. `up` leads from devices to the edge, `down` back; `listen` with port 0 takes any free port."""

    name: str
    kind: str
    listen: Address
    upstream: Address
    seed: int = 0
    up: list[Channel] = field(default_factory=list)
    down: list[Channel] = field(default_factory=list)


def _refuse_unknown(body: object, allowed: tuple[str, ...], fix: str) -> dict:
    if not isinstance(body, dict):
        raise ConfigError(f"the link is {type(body).__name__}", allowed="a JSON object", fix="write {...}")
    for key in body:
        if key not in allowed:
            raise ConfigError(f"field {key!r} is not possible here", allowed=", ".join(allowed), fix=fix)
    return body


def _channels(specs: object, direction: str, kind: str) -> list[Channel]:
    """The channels of one direction, each of a sort that a link of this kind can have."""
    channels = build_channels(specs, direction)
    carried = "bytes" if kind == "serial" else "frames"
    for index, channel in enumerate(channels):
        if channel.carries not in (carried, "both"):
            raise ConfigError(
                f"{direction}[{index}]: {channel.name} is for {channel.carries}, and a {kind} link carries {carried}",
                allowed="channels that flip, lose, add or delay bytes"
                if kind == "serial"
                else "channels that flip bits, or lose, cut, repeat or delay frames",
                fix="use byte_loss and byte_insertion on a serial line, and erasure, truncation and the like elsewhere",
            )
        if direction == "down" and kind == "grpc" and channel.damages:
            raise ConfigError(
                f"down[{index}]: {channel.name} would damage a gRPC reply",
                allowed="channels that lose, repeat or delay",
                fix="put it in 'up', where it damages the request's bitstream",
            )
    return channels


def parse_link(body: object) -> LinkSettings:
    """A link from its JSON object. ConfigError: unknown or missing field, or a value that cannot work."""
    body = _refuse_unknown(body, FIELDS, "leave it out")
    for key in ("name", "kind", "upstream"):
        if key not in body:
            raise ConfigError(f"the link lacks {key!r}", allowed=", ".join(FIELDS), fix=f"add {key!r}")
    name = body["name"]
    if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z0-9._-]{1,64}", name):
        raise ConfigError(
            f"name is {name!r}", allowed="1 to 64 of A-Z a-z 0-9 . _ -", fix="choose a name such as 'radio'"
        )
    kind = checks.one_of("kind", body["kind"], KINDS)
    return LinkSettings(
        name,
        kind,
        parse_address("listen", body.get("listen", "127.0.0.1:0"), lowest_port=0),
        parse_address("upstream", body["upstream"]),
        checks.whole("seed", body.get("seed", 0), 0, MAX_SEED),
        _channels(body.get("up", []), "up", kind),
        _channels(body.get("down", []), "down", kind),
    )


def parse_change(body: object, kind: str) -> dict[str, object]:
    """The changes of a PATCH body for a link of `kind`: any of seed, up, down, checked. ConfigError otherwise."""
    body = _refuse_unknown(body, CHANGEABLE, "delete the link and create it anew to change anything else")
    change: dict[str, object] = {}
    if "seed" in body:
        change["seed"] = checks.whole("seed", body["seed"], 0, MAX_SEED)
    for direction in DIRECTIONS:
        if direction in body:
            change[direction] = _channels(body[direction], direction, kind)
    return change
