"""Frames that arrive twice."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from channel_emulator import checks
from channel_emulator.channels.base import Channel, Transmission
from channel_emulator.channels.registry import register


@register("duplication")
@dataclass
class Duplication(Channel):
    """With `probability`, sends a second copy `gap_ms` later. Channels behind this one damage each copy by itself."""

    probability: float
    gap_ms: float = 0.0

    carries: ClassVar[str] = "frames"

    def __post_init__(self) -> None:
        self.probability = checks.number("duplication probability", self.probability, 0.0, 1.0)
        self.gap_ms = checks.number("duplication gap_ms", self.gap_ms, 0.0, 600_000.0, unit="ms")

    def carry(self, transmission: Transmission) -> list[Transmission]:
        self.counts["frames"] += 1
        if self.rng.random() < self.probability:
            self.counts["duplicated"] += 1
            return [transmission, replace(transmission, time=transmission.time + self.gap_ms / 1e3)]
        return [transmission]
