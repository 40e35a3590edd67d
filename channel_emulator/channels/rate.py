"""A bit-rate limit."""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass

import numpy as np

from channel_emulator import checks
from channel_emulator.channels.base import Channel, Transmission
from channel_emulator.channels.registry import register


@register("rate")
@dataclass
class Rate(Channel):
    """Sends one frame after the other at `bits_per_s`; frames that find `queue_frames` others unsent are dropped, the
    bytes of a serial line wait.

    A frame takes 8 * (its length + overhead_bytes) / bits_per_s seconds, where `overhead_bytes` stands for preamble
    and sync word. Put this channel before any delay: it serves frames in the order in which they enter it.
    """

    bits_per_s: float
    queue_frames: int = 64
    overhead_bytes: int = 0

    drop_outcome = "queue_full"

    def __post_init__(self) -> None:
        self.bits_per_s = checks.number("rate bits_per_s", self.bits_per_s, 1.0, 1e12, unit="bit/s")
        self.queue_frames = checks.whole("rate queue_frames", self.queue_frames, 1, 65_536)
        self.overhead_bytes = checks.whole("rate overhead_bytes", self.overhead_bytes, 0, 65_535)

    def start(self, rng: np.random.Generator, counts: Counter[str] | None = None) -> None:
        super().start(rng, counts)
        self._departures: deque[float] = deque()

    def carry(self, transmission: Transmission) -> list[Transmission]:
        self.counts["frames"] += 1
        unsent = self._departures
        while unsent and unsent[0] <= transmission.time:
            unsent.popleft()
        if len(unsent) >= self.queue_frames:
            self.counts["queue_full"] += 1
            return []
        begins = unsent[-1] if unsent else transmission.time
        transmission.time = begins + 8 * (len(transmission.data) + self.overhead_bytes) / self.bits_per_s
        unsent.append(transmission.time)
        return [transmission]

    def room_at(self) -> float:
        return self._departures[0] if len(self._departures) >= self.queue_frames else 0.0
