"""What a channel is: it takes one transmission and gives zero or more back."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np


@dataclass(slots=True)
class Transmission:
    """Bytes on their way. `time` is in seconds on the link's clock: now on entry, that of arrival behind a delay.

    `unflipped` is what `data` would be if no bit had been flipped: channels that take bytes out or put some in do so in both.
    """

    data: bytes
    time: float
    unflipped: bytes | None = None

    def __post_init__(self) -> None:
        if self.unflipped is None:
            self.unflipped = self.data


class Channel(ABC):
    """One effect of the link. Subclasses are dataclasses whose fields are the settings, checked in `__post_init__`.

    A channel that loses a transmission returns an empty list; `drop_outcome` is the frame outcome that this counts as.
    `counts` is what the channel did so far for all devices of a link, by its own words ("bits", "flipped", "lost").
    """

    name: ClassVar[str]
    drop_outcome: ClassVar[str] = "lost"
    # Channels that change the bytes; replies over gRPC refuse them.
    damages: ClassVar[bool] = False
    # What it makes sense for: "frames" that stay apart (UDP, gRPC), the "bytes" of a serial line, or "both".
    carries: ClassVar[str] = "both"

    rng: np.random.Generator
    counts: Counter[str]

    def start(self, rng: np.random.Generator, counts: Counter[str] | None = None) -> None:
        """Forget all state; draw from `rng` and count into `counts` from here on. Needed before `carry`.

        A link starts copies of one instance for its devices: state that changes is made new here, never shared.
        """
        self.rng = rng
        self.counts = Counter() if counts is None else counts

    @abstractmethod
    def carry(self, transmission: Transmission) -> list[Transmission]:
        """What leaves the channel for what entered it."""

    def room_at(self) -> float:
        """From when on another transmission finds room. Frames come when they come; a serial line's bytes wait for it."""
        return 0.0


class BitChannel(Channel):
    """A channel that flips bits and leaves length and time alone.

    `flip_mask` is the whole model. Frame after frame online draws the same numbers in the same order as one call
    for all frames, so a generator of the same seed gives the same flips online and offline.
    """

    damages = True

    @property
    @abstractmethod
    def expected_ber(self) -> float:
        """Long-run probability that one bit is flipped."""

    @abstractmethod
    def flip_mask(
        self, n_frames: int, n_bits: int, rng: np.random.Generator, times_s: Sequence[float] | None = None
    ) -> np.ndarray:
        """The flips of `n_frames` frames of `n_bits` bits that follow each other.

        `times_s` gives the frames' times in seconds from the start (only trace replay looks at them).
        Returns bool (n_frames, n_bits), True where a bit is flipped. Channels with memory go on from where the last
        call of this instance ended; a new instance starts afresh.
        """

    def carry(self, transmission: Transmission) -> list[Transmission]:
        data = transmission.data
        mask = self.flip_mask(1, 8 * len(data), self.rng, (transmission.time,))
        flipped = int(np.count_nonzero(mask))
        self.counts["bits"] += 8 * len(data)
        self.counts["flipped"] += flipped
        if flipped:
            # Whole-number XOR costs a tenth of two array conversions on frames of this size.
            flips = int.from_bytes(np.packbits(mask).tobytes(), "big")
            transmission.data = (int.from_bytes(data, "big") ^ flips).to_bytes(len(data), "big")
        return [transmission]


def independent_flips(ber: float, n_frames: int, n_bits: int, rng: np.random.Generator) -> np.ndarray:
    """Bernoulli flips, bool (n_frames, n_bits). With one seed, the flips at a lower BER are a subset of those above."""
    if ber == 0.0:
        return np.zeros((n_frames, n_bits), dtype=bool)
    return rng.random((n_frames, n_bits)) < ber
