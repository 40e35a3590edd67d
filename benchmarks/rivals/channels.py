"""What happens to a payload on the air: the flips and erasures that all compared rows share.

Header and payload are interleaved over the whole frame, as `weaklink send` does it, and back; every rival gets that too.
Headers count as read: their loss is the same for all rows of a frame's length (`weaklink bench frames`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from channel_emulator.channels import create_channel
from semantic_codec.frame import HEADER_BITS
from semantic_codec.interleave import contiguous_layout, spread_layout

BERS = (0.0, 1e-3, 1e-2, 3e-2, 5e-2, 0.1, 0.2)
BURST_BITS = 16
"""Mean length of a burst, where nothing else is said."""


@dataclass(frozen=True)
class Condition:
    """One channel setting: ``channel`` "bsc", "bursts" or "erasures"; ``ber`` is the mean that both ends are told.

    ``erased`` is the share of the frame's bytes that are known to be lost. Half of the bits of a burst, of ``burst_bits`` on
    average, are wrong. Without ``interleaved`` the header is sent first and the payload after it, both in their own order.
    """

    channel: str
    ber: float = 0.0
    erased: float = 0.0
    burst_bits: int = BURST_BITS
    interleaved: bool = True

    @property
    def draws_alike(self) -> bool:
        """Nothing is random."""
        return self.ber == 0 and self.erased == 0

    def draw(self, images: int, bits: int, longest: int, seed: int, draw: int) -> tuple[np.ndarray, np.ndarray]:
        """Flips and erasures of the payload in its own order, both bool (images, bits).

        ``longest`` is the longest payload in bits: a shorter one has the flips of its prefix, as `weaklink evaluate` has it.
        """
        rng = np.random.default_rng([seed, draw])
        nothing = np.zeros((images, bits), bool)
        if self.draws_alike:
            return nothing, nothing
        if self.channel == "bsc":
            return rng.random((images, longest), dtype=np.float32)[:, :bits] < self.ber, nothing
        total = HEADER_BITS + bits
        if self.channel == "erasures":
            return nothing, self._payload(np.repeat(rng.random((images, total // 8)) < self.erased, 8, axis=1))
        return self._payload(create_channel("gilbert_elliott", **self._bursts()).flip_mask(images, total, rng)), nothing

    def _bursts(self) -> dict[str, Any]:
        share = 2 * self.ber
        return {"p": share / (1 - share) / self.burst_bits, "r": 1 / self.burst_bits, "one_minus_h": 0.5, "one_minus_k": 0.0}

    def _payload(self, on_air: np.ndarray) -> np.ndarray:
        """What hits the payload bits, of what hits the places on the air: bool (N, header + n) -> (N, n)."""
        layout = spread_layout if self.interleaved else contiguous_layout
        frame = np.empty_like(on_air)
        frame[:, layout(HEADER_BITS, on_air.shape[1] - HEADER_BITS)] = on_air
        return frame[:, HEADER_BITS:]


CONDITIONS = (
    *(Condition("bsc", ber) for ber in BERS),
    *(Condition("bursts", ber) for ber in (1e-2, 5e-2)),
    *(Condition("erasures", erased=share) for share in (0.01, 0.05, 0.2)),
)
