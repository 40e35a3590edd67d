"""The table of channels by name."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from channel_emulator.channels.base import Channel
from semantic_codec.errors import ConfigError

CHANNELS: dict[str, type[Channel]] = {}


def register(name: str) -> Callable[[type[Channel]], type[Channel]]:
    """Class decorator: makes the dataclass below it a channel, known by `name` in JSON and on the command line."""

    def add(cls: type[Channel]) -> type[Channel]:
        cls.name = name
        CHANNELS[name] = cls
        return cls

    return add


def create_channel(name: str, /, **settings: object) -> Channel:
    """A channel by name. ConfigError: unknown name, unknown or missing setting, value out of range.

    >>> create_channel("bsc", ber=0.01).expected_ber
    0.01
    """
    cls = CHANNELS.get(name) if isinstance(name, str) else None
    if cls is None:
        raise ConfigError(f"channel is {name!r}", allowed=", ".join(sorted(CHANNELS)), fix="use one of these names")
    fields = dataclasses.fields(cls)
    known = ", ".join(field.name for field in fields)
    for given in settings:
        if given not in {field.name for field in fields}:
            raise ConfigError(f"{name} has no setting {given!r}", allowed=known, fix="use one of these settings")
    for field in fields:
        if field.default is dataclasses.MISSING and field.name not in settings:
            raise ConfigError(f"{name} lacks its setting {field.name!r}", allowed=known, fix=f"add {field.name!r}")
    return cls(**settings)


def channel_settings(channel: Channel) -> dict[str, object]:
    """The JSON object that `create_channel` builds this channel from: its name under "channel", then its settings."""
    values = {field.name: getattr(channel, field.name) for field in dataclasses.fields(channel)}
    return {"channel": channel.name} | {key: value for key, value in values.items() if value is not None}
