"""The error-correcting codes that stand behind an error-free codec.

Each code has ``name``, ``info_bits``, ``coded_bits``, ``places`` int (k,), the coded bit that is each information bit itself
or -1 where that is not sent, ``decodes_words``, False where every bit is decided by itself, and

    encode(info)                       uint8 (N, k) -> uint8 (N, n)
    decode(received, erased, ber)      uint8 (N, n), bool (N, n), float -> Decoded
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import norm

from semantic_codec.errors import ConfigError
from semantic_codec.header_code import HeaderCode

CLASSES = 16
"""How many degrees of trust a decoder tells apart at most."""

MOST_RATIO = 20.0
"""The log-likelihood ratio of a bit that is certain."""


@dataclass(frozen=True)
class Decoded:
    """``info`` uint8 (N, k) and ``trust`` int (N,) below `CLASSES`: how far the decoder itself believes each word.

    ``means`` float32 (N, k): the decoder's own posterior means of the bits, +1 for a certain 1; None where it has none.
    """

    info: np.ndarray
    trust: np.ndarray
    means: np.ndarray | None = None


class Ldpc5g:
    """3GPP TS 38.212's LDPC code by Sionna, rate matching included; belief propagation, trusted where every check holds.

    The standard never sends the first 2Z information bits: the codec's least important ones are put there, and those stay
    without a systematic bit. Words that fail after a few iterations are decoded again with more.
    """

    name = "ldpc-5g"
    decodes_words = True
    ITERATIONS = (3, 8, 20)
    BATCH = 200  # words at a time: their messages stay in the cache

    def __init__(self, info_bits: int, coded_bits: int):
        try:
            from sionna.phy.fec.ldpc import LDPC5GEncoder, LDPCBPDecoder
        except ImportError as error:
            raise ConfigError(
                "the LDPC code needs Sionna, which is not installed", allowed="the extra bench",
                fix="pip install 'weaklink[bench]'",
            ) from error  # fmt: skip
        self.info_bits, self.coded_bits = info_bits, coded_bits
        self._encoder = LDPC5GEncoder(info_bits, coded_bits, device="cpu")
        self._hidden = 2 * self._encoder.z
        first_parity = self._encoder.k_ldpc
        self._parity = slice(first_parity, first_parity + coded_bits - (info_bits - self._hidden))
        # Parity bits that are not sent hang on one check each beyond the core of four: they and it tell nothing.
        columns = max(self._parity.stop, first_parity + 4 * self._encoder.z)
        self._checks = self._encoder.pcm[: columns - first_parity, :columns].astype(np.int32)
        self._decoder = LDPCBPDecoder(self._checks, cn_update="boxplus", hard_out=False, llr_max=MOST_RATIO, device="cpu")
        places = np.arange(info_bits) - self._hidden
        self.places = np.maximum(places, -1)[::-1]

    def encode(self, info: np.ndarray) -> np.ndarray:
        import torch

        with torch.inference_mode():
            return self._encoder(torch.from_numpy(info[:, ::-1].astype(np.float32))).numpy().astype(np.uint8)

    def decode(self, received: np.ndarray, erased: np.ndarray, ber: float) -> Decoded:
        soft = likelihood_ratios(received, erased, ber)
        means = np.empty((len(received), self.info_bits), np.float32)
        trust = np.empty(len(received), np.int64)
        for start in range(0, len(soft), self.BATCH):
            rows = slice(start, start + self.BATCH)
            means[rows], trust[rows] = self._propagate(soft[rows])
        return Decoded((means > 0).astype(np.uint8), trust, means)

    def _propagate(self, soft: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        means, good = np.empty((len(soft), self.info_bits), np.float32), np.zeros(len(soft), bool)
        for iterations in self.ITERATIONS:
            left = np.flatnonzero(~good)
            if len(left):
                means[left], good[left] = self._iterate(soft[left], iterations)
        return means[:, ::-1], good.astype(np.int64)

    def _iterate(self, soft: np.ndarray, iterations: int) -> tuple[np.ndarray, np.ndarray]:
        import torch

        sent_info = self.info_bits - self._hidden
        whole = np.zeros((len(soft), self._checks.shape[1]), np.float32)
        whole[:, self._hidden : self.info_bits] = soft[:, :sent_info]
        whole[:, self.info_bits : self._encoder.k_ldpc] = -MOST_RATIO  # filler bits are 0
        whole[:, self._parity] = soft[:, sent_info:]
        with torch.inference_mode():
            ratios = self._decoder(torch.from_numpy(whole), num_iter=iterations).numpy()
        word = ratios > 0
        good = ~((self._checks @ word.T.astype(np.int32)) % 2).any(axis=0)
        info = slice(self.info_bits)
        return np.where(good[:, None], 2.0 * word[:, info] - 1, np.tanh(ratios[:, info] / 2)), good


class TailBiting:
    """LTE's convolutional code (3GPP TS 36.212, 5.1.3.1: K = 7, generators 133, 171, 165, tail-biting), made systematic.

    The three streams are sent one after the other, and from the start again where there is room. Information bits are
    those of the first stream, which changes no codeword: so a word that the Viterbi decoder does not believe leaves its
    systematic bits. Trust is the margin of the best path over the runner-up, in contradicted bits: it costs no CRC.
    """

    name = "convolutional-k7"
    decodes_words = True
    GENERATORS = (0o133, 0o171, 0o165)

    def __init__(self, info_bits: int, coded_bits: int):
        self.info_bits, self.coded_bits = info_bits, coded_bits
        self._code = HeaderCode(info_bits, 3 * info_bits, self.GENERATORS)
        place = np.arange(coded_bits)
        self._taken = place % info_bits * 3 + place // info_bits % 3
        self._first = self._code.matrix[:, 0::3].astype(np.uint8)
        self._solve = invert(self._first)
        self.places = np.where(np.arange(info_bits) < coded_bits, np.arange(info_bits), -1)

    def encode(self, info: np.ndarray) -> np.ndarray:
        return self._code.encode(_times(info, self._solve))[:, self._taken]

    def decode(self, received: np.ndarray, erased: np.ndarray, ber: float) -> Decoded:
        soft = np.zeros((len(received), 3 * self.info_bits), np.float32)
        weights = np.where(erased, 0, 2.0 * received - 1).astype(np.float32)
        for start in range(0, self.coded_bits, 3 * self.info_bits):
            part = self._taken[start : start + 3 * self.info_bits]
            soft[:, part] += weights[:, start : start + len(part)]
        inputs, costs = self._code.decode(soft, list_size=2)
        margin = np.minimum(costs[:, 1] - costs[:, 0], CLASSES - 1).astype(np.int64)
        return Decoded(_times(inputs[:, 0], self._first), margin)


class Repetition:
    """The word sent as often as it fits; the receiver adds up what its arrivals say of each bit (soft combining).

    A weak code of a word, and the best of these where the channel carries no word: what it says of a bit needs no other bit.
    """

    name = "repetition"
    decodes_words = False

    def __init__(self, info_bits: int, coded_bits: int):
        self.info_bits, self.coded_bits = info_bits, coded_bits
        self._taken = np.arange(coded_bits) % info_bits
        self.places = np.arange(info_bits)

    def encode(self, info: np.ndarray) -> np.ndarray:
        return info[:, self._taken]

    def decode(self, received: np.ndarray, erased: np.ndarray, ber: float) -> Decoded:
        soft = likelihood_ratios(received, erased, ber)
        ratios = np.zeros((len(received), self.info_bits), np.float32)
        for start in range(0, self.coded_bits, self.info_bits):
            arrival = soft[:, start : start + self.info_bits]
            ratios[:, : arrival.shape[1]] += arrival
        return Decoded((ratios > 0).astype(np.uint8), np.zeros(len(received), np.int64), np.tanh(ratios / 2))


def likelihood_ratios(received: np.ndarray, erased: np.ndarray, ber: float) -> np.ndarray:
    """Log-likelihood ratios float32 (N, n) of bits uint8 (N, n), above 0 where a 1 is likelier, 0 where ``erased``."""
    ratio = min(MOST_RATIO, np.log((1 - ber) / ber)) if ber else MOST_RATIO
    return np.where(erased, 0, (2.0 * received - 1) * ratio).astype(np.float32)


CODES = {code.name: code for code in (Ldpc5g, TailBiting, Repetition)}


def _times(bits: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """bits @ matrix over GF(2), uint8."""
    return (bits.astype(np.float32) @ matrix.astype(np.float32) % 2).astype(np.uint8)


def invert(matrix: np.ndarray) -> np.ndarray:
    """Inverse over GF(2) of uint8 (k, k) by Gauss and Jordan. ConfigError: it has none."""
    size = len(matrix)
    work = np.concatenate([matrix.astype(bool), np.eye(size, dtype=bool)], axis=1)
    for column in range(size):
        pivots = column + np.flatnonzero(work[column:, column])
        if not len(pivots):
            raise ConfigError(f"{size} information bits", allowed="a length that the generator divides no word of", fix="take another prefix")
        work[[column, pivots[0]]] = work[[pivots[0], column]]
        others = work[:, column].copy()
        others[column] = False
        work[others] ^= work[column]
    return work[:, size:].astype(np.uint8)


def frame_error(info_bits: float | np.ndarray, coded_bits: float | np.ndarray, ber: float) -> np.ndarray:
    """Word error rate of the best code by the normal approximation, on a binary symmetric channel that the code knows.

    Q((n C - k + log2(n) / 2) / sqrt(n V)) with C = 1 - h(p), V = p (1 - p) log2((1 - p) / p)^2; Polyanskiy, Poor and
    Verdu, "Channel coding rate in the finite blocklength regime", IEEE Trans. IT 56 (2010), theorem 52.
    """
    info_bits, coded_bits = np.asarray(info_bits, float), np.asarray(coded_bits, float)
    if ber == 0:
        return np.where(info_bits <= coded_bits, 0.0, 1.0)
    dispersion = ber * (1 - ber) * np.log2((1 - ber) / ber) ** 2
    spare = coded_bits * (1 - entropy(ber)) - info_bits + np.log2(coded_bits) / 2
    return norm.sf(spare / np.sqrt(coded_bits * dispersion))


def entropy(ber: float | np.ndarray) -> np.ndarray:
    """Binary entropy in bits."""
    p = np.clip(ber, 1e-15, 1 - 1e-15)
    return -p * np.log2(p) - (1 - p) * np.log2(1 - p)
