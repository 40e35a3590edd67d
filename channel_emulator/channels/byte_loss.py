"""Bytes that a serial line loses, as a damaged start bit makes it do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from channel_emulator import checks
from channel_emulator.channels.base import Channel, Transmission
from channel_emulator.channels.registry import register


@register("byte_loss")
@dataclass
class ByteLoss(Channel):
    """Drops every byte independently with `probability`; those behind it move up."""

    probability: float

    damages = True
    carries: ClassVar[str] = "bytes"

    def __post_init__(self) -> None:
        self.probability = checks.number("byte_loss probability", self.probability, 0.0, 1.0)

    def carry(self, transmission: Transmission) -> list[Transmission]:
        length = len(transmission.data)
        kept = self.rng.random(length) >= self.probability
        arriving = int(np.count_nonzero(kept))
        self.counts["bytes"] += length
        self.counts["lost"] += length - arriving
        if arriving == 0:
            return []
        if arriving < length:
            transmission.data, transmission.unflipped = (
                np.frombuffer(data, dtype=np.uint8)[kept].tobytes() for data in (transmission.data, transmission.unflipped)
            )
        return [transmission]
