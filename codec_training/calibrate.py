"""Fits the confidence temperatures of a codec on its validation split (Guo et al., arXiv 1706.04599)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from scipy.optimize import minimize_scalar

from codec_training.flips import flipped

BERS = (0.0, 1e-3, 1e-2, 3e-2, 5e-2, 0.1, 0.2)
# Far from the seeds that evaluation uses: calibration must not see the flips that it is measured on.
SEED = 1_000_003


def fit_temperatures(
    logits: Callable[[np.ndarray, int, float], np.ndarray], sent: np.ndarray, labels: np.ndarray, levels: int, draws: int = 3
) -> dict[str, Sequence]:
    """The manifest's calibration table: for each level and BER the temperature of the least negative log-likelihood.

    ``logits(received uint8 (N, n), level, ber)`` gives float32 (N, classes); ``sent`` are the validation split's bits.
    """
    table = []
    for level in range(levels):
        row = []
        for ber in BERS:
            rounds = [logits(flipped(sent, ber, SEED, draw), level, ber) for draw in range(draws if ber else 1)]
            row.append(round(_temperature(np.concatenate(rounds), np.tile(labels, len(rounds))), 4))
        table.append(row)
    return {"ber": list(BERS), "temperature": table}


def _temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    def loss(log_temperature: float) -> float:
        scaled = logits / np.exp(log_temperature)
        top = scaled.max(axis=1)
        total = top + np.log(np.exp(scaled - top[:, None]).sum(axis=1))
        return float((total - scaled[np.arange(len(labels)), labels]).mean())

    return float(np.exp(minimize_scalar(loss, bounds=(-2.5, 2.5), method="bounded").x))
