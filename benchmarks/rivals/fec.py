"""A level of the codec behind an error-correcting code, and what its receiver makes of words that do not decode.

    prefix of the codec's bits -> encode -> [channel] -> decode -> readings of each word -> the codec's network

A word may be read in several ways: the bits that were decided, the received systematic ones, the decoder's own posterior means.
How often decided bits of each degree of trust are wrong is measured beforehand, on random words through the same channel; the
network is told how likely bits are wrong and which are missing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.rivals.channels import Condition
from benchmarks.rivals.codes import CLASSES, frame_error
from semantic_codec.bitstream import posterior_mean

WORDS = 1000
"""Random words per calibration."""
ERROR_FREE = 1e-3
"""Decided bits that are wrong less often than this are told as error-free."""
HOPELESS = 0.9999
"""Where the best code of that length would lose so many words, decoding is not tried."""
CALIBRATION_SEED = 7919
"""Added to the seed of the flips: the calibration must not see those that it is judged by."""
DECIDED, MEANS, SYSTEMATIC = READINGS = ("decided", "means", "systematic")


@dataclass(frozen=True)
class Reading:
    """What the network is given: ``soft`` float32 (N, k), posterior means, 0 where nothing arrived; ``ber`` float32 (N,)."""

    soft: np.ndarray
    ber: np.ndarray


@dataclass(frozen=True)
class Received:
    """``readings`` by name, of all words each; ``trust`` int (N,); ``certain`` bool (N,), where the decided bits are told as
    error-free; ``decoded`` bool (N,), where they are."""

    readings: dict[str, Reading]
    trust: np.ndarray
    certain: np.ndarray
    decoded: np.ndarray

    def read(self, names: Sequence[str]) -> Reading:
        """Each word in the reading that ``names`` (`CLASSES`,) has for its trust."""
        chosen = np.array([READINGS.index(name) for name in names])[self.trust]
        soft, ber = (np.empty_like(getattr(self.readings[SYSTEMATIC], part)) for part in ("soft", "ber"))
        for name, reading in self.readings.items():
            rows = chosen == READINGS.index(name)
            soft[rows], ber[rows] = reading.soft[rows], reading.ber[rows]
        return Reading(soft, ber)


def residual_ber(code, condition: Condition, seed: int) -> np.ndarray | None:
    """How often a decided bit is wrong by trust, float (`CLASSES`,); None where decoding is hopeless.

    A class that was hardly seen counts as undecoded.
    """
    if code.decodes_words and condition.channel == "bsc" and frame_error(code.info_bits, code.coded_bits, condition.ber) > HOPELESS:
        return None
    info = np.random.default_rng([seed, CALIBRATION_SEED]).integers(0, 2, (WORDS, code.info_bits), dtype=np.uint8)
    flips, erased = condition.draw(WORDS, code.coded_bits, code.coded_bits, seed + CALIBRATION_SEED, 0)
    decoded = code.decode(code.encode(info) ^ flips, erased, condition.ber)
    errors = np.bincount(decoded.trust, (decoded.info != info).sum(axis=1), CLASSES)
    bits = code.info_bits * np.bincount(decoded.trust, minlength=CLASSES)
    # One more word with as many errors as the channel makes: what was never seen is trusted no more than that.
    channel = max(condition.ber, condition.erased / 2)
    residual = (errors + channel * code.info_bits) / (bits + code.info_bits)
    return np.where(residual < ERROR_FREE, 0.0, residual)


def receive(code, info: np.ndarray, flips: np.ndarray, erased: np.ndarray, ber: float, residual: np.ndarray | None) -> Received:
    """Send ``info`` uint8 (N, k) through ``code`` and the channel's ``flips`` and ``erased`` bool (N, n).

    ``residual`` None: only the systematic bits are read.
    """
    arrived = code.encode(info) ^ flips
    sent = code.places >= 0
    told = np.full(len(info), ber, np.float32)
    readings = {SYSTEMATIC: Reading(posterior_mean(arrived[:, code.places], told, erased[:, code.places] | ~sent), told)}
    if residual is None:
        nothing = np.zeros(len(info), bool)
        return Received(readings, nothing.astype(np.int64), nothing, nothing)
    decoded = code.decode(arrived, erased, ber)
    wrong = residual[decoded.trust].clip(0, 0.5).astype(np.float32)
    readings[DECIDED] = Reading(posterior_mean(decoded.info, wrong), wrong)
    if decoded.means is not None:
        readings[MEANS] = Reading(decoded.means, (1 - np.abs(decoded.means).mean(axis=1)) / 2)
    return Received(readings, decoded.trust, wrong == 0, (decoded.info == info).all(axis=1))
