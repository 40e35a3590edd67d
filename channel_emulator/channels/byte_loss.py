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
        data = np.frombuffer(transmission.data, dtype=np.uint8)
        kept = data[self.rng.random(len(data)) >= self.probability]
        self.counts["bytes"] += len(data)
        self.counts["lost"] += len(data) - len(kept)
        if not len(kept):
            return []
        transmission.data = kept.tobytes()
        return [transmission]
