"""BPSK over additive white Gaussian noise, decided bit by bit."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from channel_emulator import checks
from channel_emulator.channels.base import BitChannel, independent_flips
from channel_emulator.channels.registry import register


def bpsk_ber(snr_db: float) -> float:
    """BER of BPSK with hard decisions at Eb/N0 = `snr_db`: Q(sqrt(2 snr)) = erfc(sqrt(snr)) / 2 (Proakis, 4.3-13)."""
    return 0.5 * math.erfc(math.sqrt(10.0 ** (snr_db / 10.0)))


@register("awgn")
@dataclass
class WhiteNoise(BitChannel):
    """Independent flips at the BER that BPSK has at `snr_db` (Eb/N0 in dB, -30 to 30)."""

    snr_db: float

    def __post_init__(self) -> None:
        self.snr_db = checks.number("awgn snr_db", self.snr_db, -30.0, 30.0, unit="dB")

    @property
    def expected_ber(self) -> float:
        return bpsk_ber(self.snr_db)

    def flip_mask(
        self, n_frames: int, n_bits: int, rng: np.random.Generator, times_s: Sequence[float] | None = None
    ) -> np.ndarray:
        return independent_flips(self.expected_ber, n_frames, n_bits, rng)
