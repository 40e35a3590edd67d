"""A level of the codec behind an error-correcting code, and what its receiver makes of words that do not decode.

    prefix of the codec's bits -> encode -> [channel] -> decode -> decided bits, or the systematic ones -> the codec's network

The receiver gets its best chance: how often decided bits of each degree of trust are wrong is measured beforehand, on random
words through the same channel; per word it takes the decided or the received systematic bits, whichever tell more, and the
network is told how likely those are wrong and which are missing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from benchmarks.rivals.channels import Condition
from benchmarks.rivals.codes import CLASSES, entropy, frame_error

WORDS = 1000
"""Random words per calibration."""
ERROR_FREE = 1e-3
"""Decided bits that are wrong less often than this are told as error-free."""
HOPELESS = 0.9999
"""Where the best code of that length would lose so many words, decoding is not tried."""
CALIBRATION_SEED = 7919
"""Added to the seed of the flips: the calibration must not see those that it is judged by."""


@dataclass(frozen=True)
class Received:
    """What the network is given: ``bits`` uint8 (N, k), ``ber`` float (N,), ``erased`` bool (N, k); ``decoded`` bool (N,)."""

    bits: np.ndarray
    ber: np.ndarray
    erased: np.ndarray
    decoded: np.ndarray


def residual_ber(code, condition: Condition, seed: int) -> np.ndarray | None:
    """How often a decided bit is wrong by trust, float (`CLASSES`,); None where decoding is hopeless.

    A class that was hardly seen counts as undecoded.
    """
    if condition.channel == "bsc" and frame_error(code.info_bits, code.coded_bits, condition.ber) > HOPELESS:
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
    """Send ``info`` uint8 (N, k) through ``code`` and the channel's ``flips`` and ``erased`` bool (N, n)."""
    arrived = code.encode(info) ^ flips
    sent = code.places >= 0
    missing = erased[:, code.places] | ~sent
    systematic = arrived[:, code.places] * sent
    if residual is None:
        decided, wrong = systematic, np.full(len(info), 0.5)
    else:
        decoded = code.decode(arrived, erased, ber)
        decided, wrong = decoded.info, residual[decoded.trust]
    trusted = 1 - entropy(wrong) >= (1 - entropy(ber)) * (1 - missing.mean(axis=1))
    return Received(
        np.where(trusted[:, None], decided, systematic).astype(np.uint8),
        np.where(trusted, wrong, ber).clip(0, 0.5),
        missing & ~trusted[:, None],
        (decided == info).all(axis=1),
    )
