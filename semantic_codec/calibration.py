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


class Calibration:
    """A bundle's: ``manifest.calibration`` holds ``floor``, ``ber`` (ascending) and ``temperature`` (levels x BERs), linear
    in between, constant outside. Without a table the temperature is 1."""

    def __init__(self, manifest: Manifest):
        self._floor = manifest.calibration.get("floor", 0.0)
        self._bers = np.asarray(manifest.calibration.get("ber", []), np.float64)
        if not len(self._bers):
            return
        table = np.asarray(manifest.calibration["temperature"], np.float64)
        # One column more, for what is at the last BER or beyond.
        self._temperature = np.concatenate([table, table[:, -1:]], axis=1)
        self._steps = np.diff(self._temperature, axis=1)
        self._columns = np.arange(len(self._bers), dtype=np.float64)

    def probabilities(self, logits: np.ndarray, level: np.ndarray, ber: np.ndarray) -> np.ndarray:
        """Calibrated ``logits`` float (B, classes) at ``level`` int (B,) and ``ber`` float (B,)."""
        return calibrated(logits, self._floor, self.temperature(level, ber)[:, None])

    def temperature(self, level: np.ndarray, ber: np.ndarray) -> np.ndarray:
        """``level`` int (B,), ``ber`` float (B,); returns float32 (B,)."""
        if not len(self._bers):
            return np.ones(len(level), np.float32)
        position = np.interp(ber, self._bers, self._columns)
        left = position.astype(np.intp)
        return (self._temperature[level, left] + (position - left) * self._steps[level, left]).astype(np.float32)
