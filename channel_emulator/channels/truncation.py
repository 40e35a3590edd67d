"""Frames cut short."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from channel_emulator import checks
from channel_emulator.channels.base import Channel, Transmission
from channel_emulator.channels.registry import register
from semantic_codec.errors import ConfigError


@register("truncation")
@dataclass
class Truncation(Channel):
    """With `probability`, keeps only the beginning of a frame: `keep_bytes` bytes or `keep_fraction` of its length.

    Exactly one of the two is given. A fraction is rounded down to whole bytes; a frame that is already as short is
    left as it is. Over gRPC the bitstream keeps its length and the part cut off is marked as erased.
    """

    probability: float
    keep_fraction: float | None = None
    keep_bytes: int | None = None

    damages = True
    carries: ClassVar[str] = "frames"

    def __post_init__(self) -> None:
        self.probability = checks.number("truncation probability", self.probability, 0.0, 1.0)
        if (self.keep_fraction is None) == (self.keep_bytes is None):
            raise ConfigError(
                f"truncation keep_fraction is {self.keep_fraction!r} and keep_bytes is {self.keep_bytes!r}",
                allowed="exactly one of them",
                fix="say how much is kept, for example keep_fraction 0.5",
            )
        if self.keep_fraction is not None:
            self.keep_fraction = checks.number("truncation keep_fraction", self.keep_fraction, 0.0, 1.0)
        else:
            self.keep_bytes = checks.whole("truncation keep_bytes", self.keep_bytes, 0, 65_535)

    def carry(self, transmission: Transmission) -> list[Transmission]:
        self.counts["frames"] += 1
        if self.rng.random() < self.probability:
            length = len(transmission.data)
            keep = int(self.keep_fraction * length) if self.keep_bytes is None else self.keep_bytes
            if keep < length:
                self.counts["truncated"] += 1
                transmission.data = transmission.data[:keep]
        return [transmission]
