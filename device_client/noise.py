"""Bit flips at the sender, for people without the link emulator."""

from __future__ import annotations

import numpy as np

from semantic_codec.errors import InvalidRequest


class BitFlips:
    """Binary symmetric channel: each bit flips with probability `ber`. Same seed and same calls, same flips."""

    def __init__(self, ber: float, seed: int = 0):
        if not 0 <= ber <= 0.5:
            raise InvalidRequest(f"the BER to flip with is {ber}", allowed="0 to 0.5", fix="give a share of wrong bits")
        if seed < 0:
            raise InvalidRequest(f"the seed of the flips is {seed}", allowed="0 or more", fix="leave it out for 0")
        self.ber = ber
        self._random = np.random.default_rng(seed)

    def __call__(self, data: bytes) -> bytes:
        if not self.ber:
            return data
        flips = np.packbits(self._random.random(len(data) * 8) < self.ber)
        return (np.frombuffer(data, np.uint8) ^ flips).tobytes()
