"""Figures of merit on whole splits."""

from __future__ import annotations

import numpy as np


def interval_percent(right: np.ndarray) -> float:
    """Half width of the 95 % interval of the mean accuracy, in points, over images.

    ``right`` bool or float (draws, N): one image's draws are one observation, since its flips differ but it does not.
    """
    per_image = right.mean(axis=0)
    if len(per_image) < 2:
        return 100.0  # one image tells nothing of others
    return float(100 * 1.96 * per_image.std(ddof=1) / np.sqrt(len(per_image)))


def paired_interval_percent(right: np.ndarray, rival: np.ndarray, resamples: int = 2000, seed: int = 0) -> tuple[float, float]:
    """95 % bootstrap interval of the difference in accuracy, in points, both (draws, N) on the same images and flips."""
    difference = right.mean(axis=0) - rival.mean(axis=0)
    rng = np.random.default_rng(seed)
    # Resampling N images with replacement gives each image a multinomial weight.
    weights = rng.multinomial(len(difference), np.full(len(difference), 1 / len(difference)), size=resamples)
    low, high = np.percentile(100 * weights @ difference / len(difference), [2.5, 97.5])
    return float(low), float(high)


def calibration_error_percent(confidence: np.ndarray, right: np.ndarray, bins: int = 15) -> float:
    """Expected calibration error in points (Naeini et al., AAAI 2015): equal-width bins of the top-1 confidence."""
    index = np.minimum((confidence * bins).astype(int), bins - 1)
    weight = np.bincount(index, minlength=bins)
    gap = np.abs(np.bincount(index, confidence, bins) - np.bincount(index, right, bins))
    return float(100 * gap[weight > 0].sum() / len(confidence))
