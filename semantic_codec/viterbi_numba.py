"""The Viterbi kernels of `semantic_codec.viterbi`, compiled. Importing this module needs numba."""

from __future__ import annotations

import numpy as np
from numba import njit

from semantic_codec.viterbi import FORBIDDEN

LIMIT = np.float32(FORBIDDEN)
HALF_LIMIT = np.float32(FORBIDDEN / 2)


def compile_kernel(function):
    """Cache the machine code beside the package or in the user's cache; where neither can be written, go without."""
    try:
        return njit(cache=True, nogil=True)(function)
    except RuntimeError:
        return njit(nogil=True)(function)


@compile_kernel
def _lap(soft, known, taps, metric, spare, gaps):
    """One lap over the trellis: adds to `metric` in place, fills gaps[step, state] = cost by 1 minus cost by 0."""
    half = taps.shape[1]
    zero = np.float32(0)
    current, following = metric, spare
    for step in range(soft.shape[0]):
        soft0, soft1, soft2 = soft[step, 0], soft[step, 1], soft[step, 2]
        most = abs(soft0) + abs(soft1) + abs(soft2)
        base = max(soft0, zero) + max(soft1, zero) + max(soft2, zero)
        gap = gaps[step]
        for low in range(half):
            cost = base - soft0 * taps[0, low] - soft1 * taps[1, low] - soft2 * taps[2, low]
            other = most - cost
            below, above = current[low], current[low + half]
            even0, even1 = below + cost, above + other
            odd0, odd1 = below + other, above + cost
            gap[2 * low] = even1 - even0
            gap[2 * low + 1] = odd1 - odd0
            following[2 * low] = min(even0, even1)
            following[2 * low + 1] = min(odd0, odd1)
        if known[step] >= 0:
            for low in range(half):
                following[2 * low + 1 - known[step]] += LIMIT
        current, following = following, current
    if soft.shape[0] % 2:
        metric[:] = current


@compile_kernel
def _trace(gaps, state, deviation, bits, margins):
    """Walk back from `state`, with the other branch at step `deviation`; fills bits and margins, returns the start."""
    top = gaps.shape[1] // 2
    for step in range(gaps.shape[0] - 1, -1, -1):
        bits[step] = state & 1
        gap = gaps[step, state]
        margins[step] = abs(gap)
        state = (state >> 1) + (top if (gap < 0) != (step == deviation) else 0)
    return state


@compile_kernel
def decode_from_state(soft, known, states, taps, list_size):
    count, steps, _ = soft.shape
    size = 2 * taps.shape[1]
    bits = np.zeros((count, list_size, steps), np.uint8)
    costs = np.full((count, list_size), LIMIT, np.float32)
    gaps = np.empty((steps, size), np.float32)
    metric, spare = np.empty(size, np.float32), np.empty(size, np.float32)
    margins, unused = np.empty(steps, np.float32), np.empty(steps, np.float32)
    for row in range(count):
        metric[:] = LIMIT
        metric[states[row]] = 0
        _lap(soft[row], known[row], taps, metric, spare, gaps)
        costs[row, 0] = metric[states[row]]
        _trace(gaps, states[row], -1, bits[row, 0], margins)
        for rank in range(1, list_size):
            deviation = np.argmin(margins)
            if margins[deviation] >= HALF_LIMIT:
                break
            costs[row, rank] = costs[row, 0] + margins[deviation]
            margins[deviation] = LIMIT
            _trace(gaps, states[row], deviation, bits[row, rank], unused)
    return bits, costs


@compile_kernel
def settle(soft, taps, laps):
    count, steps, _ = soft.shape
    size = 2 * taps.shape[1]
    states = np.empty(count, np.int64)
    gaps = np.empty((steps, size), np.float32)
    metric, spare = np.empty(size, np.float32), np.empty(size, np.float32)
    known = np.full(steps, -1, np.int8)
    bits, margins = np.empty(steps, np.uint8), np.empty(steps, np.float32)
    for row in range(count):
        metric[:] = 0
        for _ in range(laps):
            _lap(soft[row], known, taps, metric, spare, gaps)
        states[row] = _trace(gaps, np.argmin(metric), -1, bits, margins)
    return states
