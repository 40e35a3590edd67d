"""Bit flips for evaluation: one set of random numbers per draw, shared by every BER and level of a codec, and by codecs of as many bits."""

from __future__ import annotations

import numpy as np


def flipped(bits: np.ndarray, ber: float, seed: int, draw: int) -> np.ndarray:
    """``bits`` uint8 (N, n) of 0 and 1 through a binary symmetric channel.

    The same ``seed`` and ``draw`` give the same random numbers, so the flips of a lower BER are among those of a higher one.
    """
    if ber == 0:
        return bits
    return bits ^ (np.random.default_rng([seed, draw]).random(bits.shape, dtype=np.float32) < ber)
