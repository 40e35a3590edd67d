"""Which bit pattern each level of a quantizer gets, so that a flipped bit does little harm.

    index_map[level] = symbol        levels in ascending order of their centers

The harm is the mean squared jump: the squared distance between the center that was sent and the one that arrives when one
bit is flipped, averaged over the levels as they are used and over the bits (pseudo-Gray coding; Zeger and Gersho, IEEE
Trans. Communications 38(12), 1990). Which map is best depends on centers and usage: for eight uniform levels natural binary
has 7, Gray's code 9.
"""

from __future__ import annotations

from itertools import permutations

import numpy as np

from semantic_codec.errors import ConfigError

KINDS = ("searched", "natural", "gray", "random")
EXHAUSTIVE_LEVELS = 8  # 40,320 maps


def make_index_map(kind: str, centers: np.ndarray, usage: np.ndarray, seed: int = 0) -> np.ndarray:
    """int64 (K,), a permutation; ``centers`` and ``usage`` float (K,), K a power of two. ConfigError: no such kind."""
    count = len(centers)
    if kind == "natural":
        return np.arange(count)
    if kind == "gray":
        return np.arange(count) ^ np.arange(count) >> 1
    if kind == "random":
        return np.random.default_rng(seed).permutation(count)
    if kind == "searched":
        return _exhaustive(centers, usage) if count <= EXHAUSTIVE_LEVELS else _by_swaps(centers, usage)
    raise ConfigError(f"index map is {kind!r}", allowed=", ".join(KINDS), fix="name one of these")


def mean_squared_jump(index_map: np.ndarray, centers: np.ndarray, usage: np.ndarray) -> float:
    """Of one flipped bit, in squared units of the centers."""
    return float(_jumps(np.argsort(index_map)[None], centers, usage)[0])


def _jumps(levels: np.ndarray, centers: np.ndarray, usage: np.ndarray) -> np.ndarray:
    """``levels`` int (M, K): the level behind each symbol, of M maps. Returns float (M,)."""
    symbols = np.arange(levels.shape[1])
    bits = len(symbols).bit_length() - 1
    values, share = centers[levels], (usage / usage.sum())[levels]
    return sum((share * (values - values[:, symbols ^ 1 << bit]) ** 2).sum(1) for bit in range(bits)) / bits


def _exhaustive(centers: np.ndarray, usage: np.ndarray) -> np.ndarray:
    levels = np.array(list(permutations(range(len(centers)))))
    return np.argsort(levels[_jumps(levels, centers, usage).argmin()])


def _by_swaps(centers: np.ndarray, usage: np.ndarray) -> np.ndarray:
    """From natural binary, the best swap of two symbols again and again until none helps: a local optimum."""
    count = len(centers)
    levels = np.arange(count)
    pairs = [(a, b) for a in range(count) for b in range(a)]
    least = _jumps(levels[None], centers, usage)[0]
    while True:
        tried = np.repeat(levels[None], len(pairs), axis=0)
        for row, (a, b) in zip(tried, pairs, strict=True):
            row[[a, b]] = row[[b, a]]
        found = _jumps(tried, centers, usage)
        if found.min() >= least * (1 - 1e-12):
            return np.argsort(levels)
        least, levels = found.min(), tried[found.argmin()]
