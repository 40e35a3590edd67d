"""Loss of whole frames."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from channel_emulator import checks
from channel_emulator.channels.base import Channel, Transmission
from channel_emulator.channels.registry import register


@register("erasure")
@dataclass
class Erasure(Channel):
    """Loses a whole frame with `probability`, each independently."""

    probability: float

    carries: ClassVar[str] = "frames"

    def __post_init__(self) -> None:
        self.probability = checks.number("erasure probability", self.probability, 0.0, 1.0)

    def carry(self, transmission: Transmission) -> list[Transmission]:
        self.counts["frames"] += 1
        if self.rng.random() < self.probability:
            self.counts["lost"] += 1
            return []
        return [transmission]
