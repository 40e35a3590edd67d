"""Delay and jitter."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np

from channel_emulator import checks
from channel_emulator.channels.base import Channel, Transmission
from channel_emulator.channels.registry import register

DISTRIBUTIONS = ("uniform", "normal", "exponential")


@register("delay")
@dataclass
class Delay(Channel):
    """Delays every frame by `delay_ms`, give or take `jitter_ms`.

    uniform: delay_ms - jitter_ms to delay_ms + jitter_ms.  normal: mean delay_ms, standard deviation jitter_ms.
    exponential: delay_ms plus a tail of mean jitter_ms. No delay is ever below 0.
    Jitter larger than the gap between frames reorders them; `keep_order` true holds each one behind the last instead.
    """

    delay_ms: float
    jitter_ms: float = 0.0
    distribution: str = "uniform"
    keep_order: bool = False

    def __post_init__(self) -> None:
        self.delay_ms = checks.number("delay delay_ms", self.delay_ms, 0.0, 600_000.0, unit="ms")
        self.jitter_ms = checks.number("delay jitter_ms", self.jitter_ms, 0.0, 600_000.0, unit="ms")
        self.distribution = checks.one_of("delay distribution", self.distribution, DISTRIBUTIONS)
        self.keep_order = checks.truth("delay keep_order", self.keep_order)

    def start(self, rng: np.random.Generator, counts: Counter[str] | None = None) -> None:
        super().start(rng, counts)
        self._last = -np.inf

    def _draw_ms(self) -> float:
        if self.jitter_ms == 0.0:
            return self.delay_ms
        if self.distribution == "uniform":
            return self.rng.uniform(self.delay_ms - self.jitter_ms, self.delay_ms + self.jitter_ms)
        if self.distribution == "normal":
            return self.rng.normal(self.delay_ms, self.jitter_ms)
        return self.delay_ms + self.rng.exponential(self.jitter_ms)

    def carry(self, transmission: Transmission) -> list[Transmission]:
        self.counts["frames"] += 1
        transmission.time += max(0.0, self._draw_ms()) / 1e3
        if self.keep_order:
            self._last = transmission.time = max(self._last, transmission.time)
        return [transmission]
