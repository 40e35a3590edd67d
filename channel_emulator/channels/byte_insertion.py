"""Bytes that nobody sent, as noise that looks like a start bit makes them appear on a serial line."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from channel_emulator import checks
from channel_emulator.channels.base import Channel, Transmission
from channel_emulator.channels.registry import register


@register("byte_insertion")
@dataclass
class ByteInsertion(Channel):
    """Puts a random byte in front of every byte with `probability`, each independently."""

    probability: float

    damages = True
    carries: ClassVar[str] = "bytes"

    def __post_init__(self) -> None:
        self.probability = checks.number("byte_insertion probability", self.probability, 0.0, 1.0)

    def carry(self, transmission: Transmission) -> list[Transmission]:
        length = len(transmission.data)
        # Drawn for every byte, whether it is used or not: how the line is cut into pieces then changes nothing.
        draws = self.rng.random((length, 2))
        places = np.flatnonzero(draws[:, 0] < self.probability)
        self.counts["bytes"] += length
        self.counts["added"] += len(places)
        if len(places):
            noise = (256 * draws[places, 1]).astype(np.uint8)
            transmission.data, transmission.unflipped = (
                np.insert(np.frombuffer(data, dtype=np.uint8), places, noise).tobytes()
                for data in (transmission.data, transmission.unflipped)
            )
        return [transmission]
