"""Binary symmetric channel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from channel_emulator import checks
from channel_emulator.channels.base import BitChannel, independent_flips
from channel_emulator.channels.registry import register


@register("bsc")
@dataclass
class BinarySymmetric(BitChannel):
    """Flips every bit independently with probability `ber`, 0 to 0.5."""

    ber: float

    def __post_init__(self) -> None:
        fix = "a BER above 0.5 is the same link with its bits inverted"
        self.ber = checks.number("bsc ber", self.ber, 0.0, 0.5, fix=fix)

    @property
    def expected_ber(self) -> float:
        return self.ber

    def flip_mask(
        self, n_frames: int, n_bits: int, rng: np.random.Generator, times_s: Sequence[float] | None = None
    ) -> np.ndarray:
        return independent_flips(self.ber, n_frames, n_bits, rng)
