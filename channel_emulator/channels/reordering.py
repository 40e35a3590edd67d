"""Frames that later ones overtake."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from channel_emulator import checks
from channel_emulator.channels.base import Channel, Transmission
from channel_emulator.channels.registry import register


@register("reordering")
@dataclass
class Reordering(Channel):
    """With `probability`, holds a frame back for `hold_ms`: whatever is sent within that time overtakes it."""

    probability: float
    hold_ms: float

    carries: ClassVar[str] = "frames"

    def __post_init__(self) -> None:
        self.probability = checks.number("reordering probability", self.probability, 0.0, 1.0)
        self.hold_ms = checks.number("reordering hold_ms", self.hold_ms, 0.0, 600_000.0, unit="ms")

    def carry(self, transmission: Transmission) -> list[Transmission]:
        self.counts["frames"] += 1
        if self.rng.random() < self.probability:
            self.counts["held"] += 1
            transmission.time += self.hold_ms / 1e3
        return [transmission]
