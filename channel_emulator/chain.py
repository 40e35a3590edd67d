"""Channels one after another: what one direction of one device's link does to its frames."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Sequence

import numpy as np

from channel_emulator.channels import Channel, Transmission, create_channel
from semantic_codec.errors import ConfigError, WeaklinkError

DIRECTIONS = ("up", "down")
MAX_CHANNELS = 16


def channel_rng(seed: int, direction: str = "up", device: int = 0, position: int = 0) -> np.random.Generator:
    """The generator of one channel: a child of the link's seed, the same as SeedSequence.spawn gives at this place.

    `device` counts the devices of a link in the order in which they first appear, `position` the channels of a chain.
    With it, `flip_mask` repeats offline what a link does online.
    """
    key = (DIRECTIONS.index(direction), device, position)
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=key))


def build_channels(specs: object, where: str) -> list[Channel]:
    """Channels from their JSON form: a list of {"channel": name, setting: value, ...}. ConfigError names `where[i]`."""
    if not isinstance(specs, (list, tuple)) or len(specs) > MAX_CHANNELS:
        raise ConfigError(
            f"{where} is {type(specs).__name__}" if not isinstance(specs, (list, tuple)) else f"{where} is too long",
            allowed=f"a list of at most {MAX_CHANNELS} channels",
            fix='write it as [{"channel": "bsc", "ber": 0.01}]',
        )
    channels = []
    for index, spec in enumerate(specs):
        if not isinstance(spec, dict) or "channel" not in spec:
            raise ConfigError(
                f"{where}[{index}] is {spec!r}",
                allowed='an object with "channel" and its settings',
                fix='write it as {"channel": "bsc", "ber": 0.01}',
            )
        settings = {key: value for key, value in spec.items() if key != "channel"}
        try:
            channels.append(create_channel(spec["channel"], **settings))
        except WeaklinkError as error:
            raise ConfigError(f"{where}[{index}]: {error.problem}", allowed=error.allowed, fix=error.fix) from None
    return channels


class Chain:
    """A device's channels in one direction: copies of the link's, started with state and generators of their own."""

    def __init__(self, channels: Sequence[Channel], seed: int, direction: str, device: int, counts: Sequence[Counter]):
        self.channels = [copy.copy(channel) for channel in channels]
        for position, channel in enumerate(self.channels):
            channel.start(channel_rng(seed, direction, device, position), counts[position])

    def carry(self, data: bytes, now: float) -> tuple[list[Transmission], str]:
        """(what arrives, the outcome of a frame that does not): an empty list comes with "lost" or "queue_full"."""
        passing = [Transmission(data, now)]
        for channel in self.channels:
            if len(passing) == 1:
                passing = channel.carry(passing[0])
            else:
                passing = [result for transmission in passing for result in channel.carry(transmission)]
            if not passing:
                return passing, channel.drop_outcome
        return passing, ""

    def room_at(self) -> float:
        """From when on every channel has room."""
        return max((channel.room_at() for channel in self.channels), default=0.0)
