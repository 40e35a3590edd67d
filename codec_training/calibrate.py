"""Fits the calibration of a codec's confidence (``semantic_codec/calibration.py``) on its validation split."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from scipy.optimize import minimize_scalar

from codec_training.flips import flipped
from semantic_codec.calibration import calibrated

BERS = (0.0, 1e-3, 1e-2, 3e-2, 5e-2, 0.1, 0.2)
# Far from the seeds that evaluation uses: calibration must not see the flips that it is measured on.
SEED = 1_000_003


def fit_calibration(
    logits: Callable[[np.ndarray, int, float], np.ndarray], sent: np.ndarray, labels: np.ndarray, levels: int, draws: int = 3
) -> dict[str, float | Sequence]:
    """The manifest's calibration table, of the least negative log-likelihood: one floor, a temperature per level and BER.

    ``logits(received uint8 (N, n), level, ber)`` gives float32 (N, classes); ``sent`` are the validation split's bits. The
    floor is fitted on clean bits, over all levels; it lies below 1 / classes.
    """
    clean = [logits(sent, level, 0.0) for level in range(levels)]

    def loss(log_floor: float) -> float:
        floor = float(np.exp(log_floor))
        return sum(_likelihood(part, labels, floor, _temperature(part, labels, floor)) for part in clean)

    classes = clean[0].shape[1]
    found = minimize_scalar(loss, bounds=(np.log(1e-5 / classes), np.log(0.5 / classes)), method="bounded")
    floor = round(float(np.exp(found.x)), 6)
    table = []
    for level in range(levels):
        row = []
        for ber in BERS:
            rounds = [logits(flipped(sent, ber, SEED, draw), level, ber) for draw in range(draws if ber else 1)]
            row.append(round(_temperature(np.concatenate(rounds), np.tile(labels, len(rounds)), floor), 4))
        table.append(row)
    return {"floor": floor, "ber": list(BERS), "temperature": table}


def _temperature(logits: np.ndarray, labels: np.ndarray, floor: float) -> float:
    found = minimize_scalar(
        lambda log: _likelihood(logits, labels, floor, float(np.exp(log))), bounds=(-2.5, 2.5), method="bounded"
    )
    return float(np.exp(found.x))


def _likelihood(logits: np.ndarray, labels: np.ndarray, floor: float, temperature: float) -> float:
    """Mean negative log-likelihood."""
    given = calibrated(logits.astype(np.float64), floor, temperature)[np.arange(len(labels)), labels]
    return float(-np.log(np.maximum(given, 1e-300)).mean())
