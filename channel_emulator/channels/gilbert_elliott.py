"""Bursts: a Gilbert-Elliott channel with the words of netem's `gemodel`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from channel_emulator import checks
from channel_emulator.channels.base import BitChannel
from channel_emulator.channels.registry import register
from semantic_codec.errors import ConfigError


@register("gilbert_elliott")
@dataclass
class GilbertElliott(BitChannel):
    """Two states, good and bad, that may change after every bit; the state carries over from frame to frame.

    p: probability of good -> bad.  r: probability of bad -> good, so a bad spell lasts 1/r bits on average.
    one_minus_h: error probability in the bad state (netem's 1-h).  one_minus_k: the same in the good state (1-k).
    Mean BER = (p * one_minus_h + r * one_minus_k) / (p + r). The first state is drawn from the long-run shares.
    E. N. Gilbert, BSTJ 39 (1960); E. O. Elliott, BSTJ 42 (1963).
    """

    p: float
    r: float
    one_minus_h: float = 1.0
    one_minus_k: float = 0.0

    def __post_init__(self) -> None:
        for setting in ("p", "r", "one_minus_h", "one_minus_k"):
            where = f"gilbert_elliott {setting}"
            fix = "give a probability, not a percentage"
            setattr(self, setting, checks.number(where, getattr(self, setting), 0.0, 1.0, fix=fix))
        if self.p + self.r == 0.0:
            raise ConfigError(
                "gilbert_elliott p and r are both 0",
                allowed="p + r above 0",
                fix="use bsc for a channel that never changes its state",
            )
        self._bad: bool | None = None

    def start(self, rng: np.random.Generator, counts: Counter[str] | None = None) -> None:
        super().start(rng, counts)
        self._bad = None

    @property
    def expected_ber(self) -> float:
        return (self.p * self.one_minus_h + self.r * self.one_minus_k) / (self.p + self.r)

    def flip_mask(
        self, n_frames: int, n_bits: int, rng: np.random.Generator, times_s: Sequence[float] | None = None
    ) -> np.ndarray:
        if self._bad is None:
            self._bad = bool(rng.random() < self.p / (self.p + self.r))
        draws = rng.random((n_frames, 2, n_bits))
        bad = self._states(draws[:, 0].reshape(-1)).reshape(n_frames, n_bits)
        return draws[:, 1] < np.where(bad, self.one_minus_h, self.one_minus_k)

    def _states(self, draws: np.ndarray) -> np.ndarray:
        """The state of each bit, bool True for bad, and the state after the last one kept for the next call.

        Every step is one of: go to bad, go to good, change, stay. With the share of "change" at max(0, p + r - 1), the
        first two set the state whatever it was, so a state is the last one set, changed as often as counted since.
        """
        n = draws.size
        if n == 0:
            return np.zeros(0, dtype=bool)
        change = max(0.0, self.p + self.r - 1.0)
        to_bad, to_good = self.p - change, self.r - change
        sets_bad = draws < to_bad
        sets = draws < to_bad + to_good
        # last[i]: 1 + the index of the latest step before or at i that set the state, 0 where there was none.
        last = np.maximum.accumulate(np.where(sets, np.arange(1, n + 1), 0))
        values = np.concatenate(([self._bad], sets_bad))
        after = values[last]
        if change > 0.0:
            changes = np.concatenate(([0], np.cumsum(~sets & (draws < self.p + self.r - change))))
            after ^= ((changes[1:] - changes[last]) & 1).astype(bool)
        before = np.concatenate(([self._bad], after[:-1]))
        self._bad = bool(after[-1])
        return before
