"""Viterbi decoding of a rate-1/3 convolutional code whose path ends in the state that it began in.

A state is the last m input bits, the newest in its lowest bit. Soft values are float32, positive for a received 1,
negative for a 0, and 0 where nothing was received; a path costs the sum of |soft| over the coded bits that it
contradicts, so +-1 makes the cost a Hamming distance. The compiled kernels and the NumPy ones below give the same
bits and costs wherever the sums are exact in float32, as they are for whole numbers.
"""

from __future__ import annotations

from functools import cache
from types import ModuleType

import numpy as np

FORBIDDEN = 1e5
"""Added to the cost of a path that contradicts a known bit: far above any true cost, exact in float32 beside them."""

CHUNK = 256
"""Frames that the NumPy kernels take at a time; bounds their memory to about 15 MB at 256 states."""


@cache
def compiled() -> ModuleType | None:
    """The kernels compiled by numba, or None where numba is not installed."""
    try:
        from semantic_codec import viterbi_numba
    except ImportError:
        return None
    return viterbi_numba


def decode_from_state(
    soft: np.ndarray, known: np.ndarray, states: np.ndarray, taps: np.ndarray, list_size: int, use_compiled: bool = True
) -> tuple[np.ndarray, np.ndarray]:
    """The cheapest path from a known state around to the same state, and the runners-up that leave it once.

    Args:
        soft: float32 (B, steps, 3). known: int8 (B, steps), -1 where an input bit is free, else its value.
        states: int64 (B,), the state before the first step and after the last. taps: float32 (3, 2^(m-1)), the coded
        bits of states 0 to 2^(m-1)-1 when a 0 enters; both ends of every generator must be 1.
        list_size: paths to return; the second is exactly the second best, the others are the next best among those
        that leave the best path once (Seshadri and Sundberg 1994 for list Viterbi decoding).

    Returns:
        Input bits uint8 (B, list_size, steps) and costs float32 (B, list_size), cheapest first; FORBIDDEN / 2 or more
        where no such path exists.
    """
    kernels = compiled() if use_compiled else None
    if kernels is not None:
        return kernels.decode_from_state(soft, known, states, taps, list_size)
    parts = [
        _decode_chunk(soft[i : i + CHUNK], known[i : i + CHUNK], states[i : i + CHUNK], taps, list_size)
        for i in range(0, max(1, len(soft)), CHUNK)
    ]
    return np.concatenate([part[0] for part in parts]), np.concatenate([part[1] for part in parts])


def settle(soft: np.ndarray, taps: np.ndarray, laps: int = 2, use_compiled: bool = True) -> np.ndarray:
    """The likely state before the first step, int64 (B,), found by `laps` laps with no state favoured at the start.

    The first half of the wrap-around Viterbi algorithm (Shao, Lin and Fossorier 2003): the metrics of one lap start
    the next, and the survivor of the last lap tells where a path that closes on itself most likely begins.
    """
    kernels = compiled() if use_compiled else None
    if kernels is not None:
        return kernels.settle(soft, taps, laps)
    return np.concatenate(
        [_settle_chunk(soft[i : i + CHUNK], taps, laps) for i in range(0, max(1, len(soft)), CHUNK)]
    )


def _lap(soft: np.ndarray, known: np.ndarray | None, taps: np.ndarray, metric: np.ndarray) -> tuple:
    """One lap: the metrics (B, states) after it and gaps (steps, B, states) = cost by 1 minus cost by 0."""
    count, steps, _ = soft.shape
    half = taps.shape[1]
    gaps = np.empty((steps, count, 2 * half), dtype=np.float32)
    costs = np.maximum(soft, 0).sum(2, keepdims=True) - soft @ taps
    most = np.abs(soft).sum(2, keepdims=True)
    for step in range(steps):
        cost = costs[:, step]
        other = most[:, step] - cost
        below, above = metric[:, :half], metric[:, half:]
        gap = gaps[step]
        metric = np.empty_like(gap)
        for parity, by_zero, by_one in ((0, cost, other), (1, other, cost)):
            path0, path1 = below + by_zero, above + by_one
            gap[:, parity::2] = path1 - path0
            metric[:, parity::2] = np.minimum(path0, path1)
        if known is not None:
            metric += _penalty(known[:, step], half)
    return metric, gaps


def _penalty(known: np.ndarray, half: int) -> np.ndarray:
    """FORBIDDEN on the states whose newest bit contradicts `known` (B,): float32 (B, 2 * half)."""
    even = np.where(known == 1, FORBIDDEN, 0)
    odd = np.where(known == 0, FORBIDDEN, 0)
    return np.tile(np.stack([even, odd], axis=1), (1, half)).astype(np.float32)


def _trace(gaps: np.ndarray, states: np.ndarray, deviation: np.ndarray) -> tuple:
    """Walk back from `states`, taking the other branch at step `deviation`: bits, margins (B, steps), first states."""
    steps, count, size = gaps.shape
    rows = np.arange(count)
    bits = np.empty((count, steps), dtype=np.uint8)
    margins = np.empty((count, steps), dtype=np.float32)
    for step in range(steps - 1, -1, -1):
        bits[:, step] = states & 1
        gap = gaps[step, rows, states]
        margins[:, step] = np.abs(gap)
        states = (states >> 1) + np.where((gap < 0) != (deviation == step), size // 2, 0)
    return bits, margins, states


def _decode_chunk(soft, known, states, taps, list_size):
    count, steps, _ = soft.shape
    rows = np.arange(count)
    metric = np.full((count, 2 * taps.shape[1]), FORBIDDEN, dtype=np.float32)
    metric[rows, states] = 0
    metric, gaps = _lap(soft, known, taps, metric)
    bits = np.zeros((count, list_size, steps), dtype=np.uint8)
    costs = np.full((count, list_size), FORBIDDEN, dtype=np.float32)
    costs[:, 0] = metric[rows, states]
    bits[:, 0], margins, _ = _trace(gaps, states, np.full(count, -1))
    for rank in range(1, list_size):
        deviation = margins.argmin(1)
        margin = margins[rows, deviation]
        exists = margin < FORBIDDEN / 2
        bits[exists, rank] = _trace(gaps, states, deviation)[0][exists]
        costs[exists, rank] = (costs[:, 0] + margin)[exists]
        margins[rows, deviation] = FORBIDDEN
    return bits, costs


def _settle_chunk(soft, taps, laps):
    metric = np.zeros((len(soft), 2 * taps.shape[1]), dtype=np.float32)
    for _ in range(laps):
        metric, gaps = _lap(soft, None, taps, metric)
    return _trace(gaps, metric.argmin(1), np.full(len(soft), -1))[2]
