"""Calibrated confidence: what label smoothing added is taken away, then one temperature per level and BER.

A network trained towards smoothed labels (or by a teacher that was) gives every class a floor of probability, so that its
confidences crowd below one; no temperature (Guo et al., arXiv 1706.04599) undoes that.
"""

from __future__ import annotations

import numpy as np

from semantic_codec.bundle import Manifest

# Width of the soft corner at the floor, as a share of it: small, yet the order of the classes below the floor survives float32.
CORNER = 0.1


def calibrated(logits: np.ndarray, floor: float, temperature: np.ndarray | float) -> np.ndarray:
    """Probabilities float (B, classes) of ``logits`` float (B, classes), their order kept.

    softmax(logits) less ``floor``, by a softplus so that nothing falls to 0, to the power 1 / ``temperature`` (scalar, or
    float (B, 1)), made to sum to 1.
    """
    score = logits - logits.max(axis=1, keepdims=True)
    if floor > 0:
        share = np.exp(score)
        share /= share.sum(axis=1, keepdims=True)
        corner = CORNER * floor
        score = np.log(np.logaddexp(0, (share - floor) / corner))
        score -= score.max(axis=1, keepdims=True)
    raised = np.exp(score / temperature)
    return raised / raised.sum(axis=1, keepdims=True)


def probabilities(manifest: Manifest, logits: np.ndarray, level: np.ndarray, ber: np.ndarray) -> np.ndarray:
    """The bundle's calibration of ``logits`` float (B, classes) at ``level`` int (B,) and ``ber`` float (B,)."""
    return calibrated(logits, manifest.calibration.get("floor", 0.0), temperature(manifest, level, ber)[:, None])


def temperature(manifest: Manifest, level: np.ndarray, ber: np.ndarray) -> np.ndarray:
    """``level`` int (B,), ``ber`` float (B,); returns float32 (B,).

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
