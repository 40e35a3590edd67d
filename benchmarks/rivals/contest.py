"""One bundle and its rivals at equal on-air bytes: which answers are right, on the same images and the same flips."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from benchmarks.rivals.channels import Condition
from benchmarks.rivals.codes import CLASSES, CODES, Repetition, TailBiting, frame_error
from benchmarks.rivals.fec import DECIDED, READINGS, SYSTEMATIC, Received, receive, residual_ber
from edge_server.engine import CHUNK, CodecEngine
from edge_server.runtimes import DEFAULT_RUNTIME
from semantic_codec.bitstream import posterior_mean, unpack_bits
from semantic_codec.bundle import Bundle, Recording

SHARES = (0.25, 0.5, 0.75)
"""Code rates: which part of a level's bytes the error-free codec gets, the rest being redundancy."""
WHOLE_LEVELS = (TailBiting.name, Repetition.name)


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

    The LDPC code alone carries prefixes between two levels: at the rate of 3/4 the convolutional one needs another puncturing
    pattern, and a word that is sent again in part is two codes.
    """
    levels = [level.payload_bytes for level in bundle.manifest.levels]
    return [
        Rival(name, int(share * size), size)
        for size in levels
        for name in names
        for share in SHARES
        if share * size >= levels[0] and (name not in WHOLE_LEVELS or share * size in levels)
    ]


@dataclass(frozen=True)
class Tried:
    """What is best for a rival: the reading (fec.py) for words of each degree of trust, and the accuracy with these."""

    readings: tuple[str, ...]
    accuracy: float


class Contest:
    """Answers of one bundle to one recording. Right ones are float (draws, N): the probability where it was computed."""

    def __init__(self, bundle: Bundle, recording: Recording, draws: int, seed: int, threads: int):
        self.bundle, self.labels = bundle, recording.labels
        self.draws, self.seed = draws, seed
        self._engine = CodecEngine(bundle, DEFAULT_RUNTIME, threads)
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
            told = np.full(self.images, condition.ber)

            def answer(flips: np.ndarray, erased: np.ndarray) -> np.ndarray:
                return self.right(posterior_mean(self._sent[:, :held] ^ flips[:, :held], told, erased[:, :held]), told)

            self._answers[key] = np.stack([answer(*hit) for hit in self._hits(condition, 8 * payload_bytes)]).astype(float)
        return self._answers[key]

    def bound(self, rival: Rival, condition: Condition) -> tuple[np.ndarray, float]:
        """What the best code of that length would do on a binary symmetric channel: (right, share of words that decode)."""
        error = float(frame_error(8 * rival.info_bytes, 8 * rival.coded_bytes, condition.ber))
        clean, hurt = (self.ours(rival.info_bytes, at) for at in (Condition("bsc"), condition))
        return (1 - error) * clean + error * hurt, 1 - error

    def tried(self, rival: Rival, condition: Condition) -> Tried:
        """Every reading of every word of the first draw. Bits that are certain are read as decided: another reading could be
        better by luck alone. What no word is trusted as is read by its systematic bits."""
        received = next(self._received(rival, condition))
        right = {name: self.right(reading.soft, reading.ber) for name, reading in received.readings.items()}
        best, count = [], 0
        for trust in range(CLASSES):
            rows = received.trust == trust
            names = [DECIDED] if received.certain[rows].any() else [name for name in READINGS if name in right]
            found = {name: int(right[name][rows].sum()) for name in names}
            best.append(max(found, key=found.get) if rows.any() else SYSTEMATIC)
            count += found[best[-1]]
        return Tried(tuple(best), count / self.images)

    def rival(self, rival: Rival, condition: Condition, readings: Sequence[str]) -> tuple[np.ndarray, float]:
        """(right, share of words that decoded), words read as ``readings`` has it for each degree of trust."""
        rights, decoded = [], []
        for received in self._received(rival, condition):
            read = received.read(readings)
            rights.append(self.right(read.soft, read.ber))
            decoded.append(received.decoded.mean())
        return np.stack(rights).astype(float), float(np.mean(decoded))

    def right(self, soft: np.ndarray, ber: np.ndarray | float) -> np.ndarray:
        """Right answers to prefixes as posterior means float32 (N, k), 0 where nothing arrived: bool (N,).

        ``ber`` float (N,) is told along. What arrived as it was sent, and is known to, is answered once for all.
        """
        rates, sent = np.full(self.images, ber, np.float32), self._as_sent(soft.shape[1])
        whole = (rates == 0) & (soft == sent).all(axis=1)
        answers = np.empty(self.images, bool)
        answers[~whole] = self._ask(soft[~whole], rates[~whole]) == self.labels[~whole]
        if whole.any():
            answers[whole] = self._clean(soft.shape[1])[whole]
        return answers

    def _received(self, rival: Rival, condition: Condition) -> Iterator[Received]:
        """What comes of each draw."""
        if rival not in self._codes:
            self._codes[rival] = CODES[rival.name](8 * rival.info_bytes, 8 * rival.coded_bytes)
        code = self._codes[rival]
        residual = residual_ber(code, condition, self.seed)
        for flips, erased in self._hits(condition, code.coded_bits):
            yield receive(code, self._sent[:, : code.info_bits], flips, erased, condition.ber, residual)

    def _hits(self, condition: Condition, bits: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Flips and erasures of each draw, both bool (N, bits)."""
        for draw in range(1 if condition.draws_alike else self.draws):
            yield condition.draw(self.images, bits, 8 * self.bundle.manifest.levels[-1].payload_bytes, self.seed, draw)

    def _as_sent(self, bits: int) -> np.ndarray:
        return posterior_mean(self._sent[:, :bits], np.zeros(self.images))

    def _clean(self, bits: int) -> np.ndarray:
        """Right answers to an unhurt prefix, bool (N,)."""
        if bits not in self._unhurt:
            self._unhurt[bits] = self._ask(self._as_sent(bits), np.zeros(self.images, np.float32)) == self.labels
        return self._unhurt[bits]

    def _ask(self, soft: np.ndarray, ber: np.ndarray) -> np.ndarray:
        """Classes int (N,) of a prefix's posterior means (N, k): the shortest level that holds it, as if the rest had not arrived."""
        manifest = self.bundle.manifest
        level = next(level for level in manifest.levels if 8 * level.payload_bytes >= soft.shape[1])
        soft = soft[:, : level.symbols * manifest.bits_per_symbol]  # whole symbols: what is behind them in the last byte is padding
        found = [np.empty(0, np.int64)]
        for start in range(0, len(soft), CHUNK):
            part = np.pad(soft[start : start + CHUNK], ((0, 0), (0, manifest.bits - soft.shape[1])))
            answer = self._engine.probabilities(part, np.full(len(part), level.number), ber[start : start + CHUNK])
            found.append(answer[manifest.tasks[0].name].argmax(1))
        return np.concatenate(found)
