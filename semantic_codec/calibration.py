"""Calibrated confidence: one temperature per level and BER (Guo et al., arXiv 1706.04599), interpolated over the BER."""

from __future__ import annotations

import numpy as np

from semantic_codec.bundle import Manifest


def temperature(manifest: Manifest, level: np.ndarray, ber: np.ndarray) -> np.ndarray:
    """Divide logits by this before the softmax. ``level`` int (B,), ``ber`` float (B,); returns float32 (B,).

    ``manifest.calibration`` holds ``ber`` (ascending) and ``temperature`` (levels x BERs); linear in between, constant
    outside. Without a table the temperature is 1.
    """
    grid = manifest.calibration.get("ber", [])
    if not grid:
        return np.ones(len(level), np.float32)
    table = np.asarray(manifest.calibration["temperature"], np.float64)
    position = np.interp(ber, grid, np.arange(len(grid)))
    left = np.minimum(position.astype(int), len(grid) - 1)
    right = np.minimum(left + 1, len(grid) - 1)
    share = position - left
    return (table[level, left] * (1 - share) + table[level, right] * share).astype(np.float32)
