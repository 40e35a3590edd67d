"""One bundle and its rivals at equal on-air bytes: which answers are right, on the same images and the same flips."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from benchmarks.rivals.channels import Condition
from benchmarks.rivals.codes import CODES, frame_error
from benchmarks.rivals.fec import receive, residual_ber
from edge_server.engine import Engine
from semantic_codec.bitstream import unpack_bits
from semantic_codec.bundle import Bundle, Recording

SHARES = (0.25, 0.5, 0.75)
"""Code rates: which part of a level's bytes the error-free codec gets, the rest being redundancy."""


@dataclass(frozen=True)
class Rival:
    """A prefix of ``info_bytes`` behind the code ``name`` in ``coded_bytes``; the name may be "normal-approximation"."""

    name: str
    info_bytes: int
    coded_bytes: int

    @property
    def variant(self) -> str:
        return f"{self.info_bytes} B in {self.coded_bytes} B"


def rivals(bundle: Bundle, names: tuple[str, ...]) -> list[Rival]:
    """All codes of all rates at each level's size, but those that would carry less than the shortest level.

    The convolutional code carries whole levels only: its rate 3/4 needs another puncturing pattern.
    """
    levels = [level.payload_bytes for level in bundle.manifest.levels]
    return [
        Rival(name, int(share * size), size)
        for size in levels
        for name in names
        for share in SHARES
        if share * size >= levels[0] and (name != "convolutional-k7" or share * size in levels)
    ]


class Contest:
    """Answers of one bundle to one recording. ``right(...)`` are float (draws, N): the probability where it was computed."""

    def __init__(self, bundle: Bundle, recording: Recording, draws: int, seed: int, threads: int):
        self.bundle, self.labels = bundle, recording.labels
        self.draws, self.seed = draws, seed
        self._engine = Engine([bundle], threads=threads)
        self._sent = unpack_bits(recording.bitstreams, bundle.manifest.bits)
        self._answers: dict[tuple, np.ndarray] = {}
        self._unhurt: dict[int, np.ndarray] = {}
        self._codes: dict[Rival, object] = {}

    @cached_property
    def images(self) -> int:
        return len(self.labels)

    def ours(self, payload_bytes: int, condition: Condition) -> np.ndarray:
        """A prefix as it is, with no code but its own."""
        key = (payload_bytes, condition)
        if key not in self._answers:
            held = min(8 * payload_bytes, self.bundle.manifest.bits)  # symbols need not fill their last byte
            self._answers[key] = self._each_draw(
                condition, 8 * payload_bytes,
                lambda flips, erased: (self._sent[:, :held] ^ flips[:, :held], condition.ber, erased[:, :held]),
            )  # fmt: skip
        return self._answers[key]

    def rival(self, rival: Rival, condition: Condition) -> tuple[np.ndarray, float | None]:
        """(right, share of words that decoded); right on a binary symmetric channel only for the normal approximation."""
        if rival.name == "normal-approximation":
            error = float(frame_error(8 * rival.info_bytes, 8 * rival.coded_bytes, condition.ber))
            clean, hurt = (self.ours(rival.info_bytes, at) for at in (Condition("bsc"), condition))
            return (1 - error) * clean + error * hurt, 1 - error
        code = self._code(rival)
        residual = residual_ber(code, condition, self.seed)
        decoded = []

        def through(flips, erased):
            received = receive(code, self._sent[:, : code.info_bits], flips, erased, condition.ber, residual)
            decoded.append(received.decoded.mean())
            return received.bits, received.ber, received.erased

        right = self._each_draw(condition, code.coded_bits, through)
        return right, float(np.mean(decoded))

    def _code(self, rival: Rival):
        if rival not in self._codes:
            self._codes[rival] = CODES[rival.name](8 * rival.info_bytes, 8 * rival.coded_bytes)
        return self._codes[rival]

    def _each_draw(self, condition: Condition, bits: int, through) -> np.ndarray:
        rights = []
        for draw in range(1 if condition.draws_alike else self.draws):
            flips, erased = condition.draw(self.images, bits, self.bundle.manifest.bits, self.seed, draw)
            rights.append(self.right(*through(flips, erased)))
        return np.stack(rights).astype(float)

    def right(self, bits: np.ndarray, ber: np.ndarray | float, erased: np.ndarray) -> np.ndarray:
        """Right answers to a prefix uint8 (N, k), bool (N,). What arrived as it was sent is answered once for all."""
        rates = np.full(self.images, ber, np.float32)
        whole = (rates == 0) & ~erased.any(axis=1) & (bits == self._sent[:, : bits.shape[1]]).all(axis=1)
        answers = np.empty(self.images, bool)
        answers[~whole] = self._ask(bits[~whole], rates[~whole], erased[~whole]) == self.labels[~whole]
        if whole.any():
            answers[whole] = self._clean(bits.shape[1])[whole]
        return answers

    def _clean(self, bits: int) -> np.ndarray:
        """Right answers to an unhurt prefix, bool (N,)."""
        if bits not in self._unhurt:
            sent = self._sent[:, :bits]
            self._unhurt[bits] = self._ask(sent, np.zeros(self.images, np.float32), np.zeros(sent.shape, bool)) == self.labels
        return self._unhurt[bits]

    def _ask(self, bits: np.ndarray, ber: np.ndarray, erased: np.ndarray) -> np.ndarray:
        """Classes int (N,) of a prefix uint8 (N, k): the shortest level that holds it, its other bits erased."""
        manifest = self.bundle.manifest
        if not len(bits):
            return np.empty(0, np.int64)
        level = next(level for level in manifest.levels if 8 * level.payload_bytes >= bits.shape[1])
        whole, missing = np.zeros((len(bits), manifest.bits), np.uint8), np.ones((len(bits), manifest.bits), bool)
        whole[:, : bits.shape[1]], missing[:, : bits.shape[1]] = bits, erased
        levels = np.full(len(bits), level.number)
        answer = self._engine.infer_arrays(manifest.name, whole, levels, ber, missing, manifest.version)
        return answer[manifest.tasks[0].name].argmax(1)
