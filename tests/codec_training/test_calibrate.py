import numpy as np
import pytest

from codec_training.calibrate import fit_calibration
from codec_training.statistics import calibration_error_percent
from semantic_codec.calibration import calibrated

CLASSES = 10


@pytest.fixture
def smoothed():
    """Logits whose softmax is the true class probability, smoothed by a floor of 0.01, at a temperature of 1."""
    rng = np.random.default_rng(3)
    truth = rng.dirichlet(np.full(CLASSES, 0.15), size=20_000)
    labels = (truth.cumsum(axis=1) < rng.random((len(truth), 1))).sum(axis=1).clip(max=CLASSES - 1)
    return np.log(0.9 * truth + 0.01).astype(np.float32), labels


def test_the_floor_of_smoothed_labels_is_found(smoothed):
    logits, labels = smoothed
    bits = np.zeros((len(labels), 8), np.uint8)
    found = fit_calibration(lambda received, level, ber: logits, bits, labels, levels=2, draws=1)
    assert 0.006 < found["floor"] < 0.014
    assert np.shape(found["temperature"]) == (2, len(found["ber"]))

    def error(floor: float, temperature: float) -> float:
        given = calibrated(logits, floor, temperature)
        return calibration_error_percent(given.max(axis=1), given.argmax(axis=1) == labels)

    assert error(found["floor"], found["temperature"][0][0]) < 1.5 < 3 < error(0.0, 1.0)


def test_each_level_and_rate_has_the_temperature_that_it_needs():
    rng = np.random.default_rng(3)
    truth = rng.dirichlet(np.full(CLASSES, 0.5), size=4000)
    labels = (truth.cumsum(axis=1) < rng.random((len(truth), 1))).sum(axis=1).clip(max=CLASSES - 1)

    def logits(received, level, ber):
        assert received.mean() == pytest.approx(ber, abs=0.02)
        return ((1 + level) * (1 + 10 * ber) * np.log(truth + 1e-6)).astype(np.float32)

    found = fit_calibration(logits, np.zeros((4000, 8), np.uint8), labels, levels=2, draws=1)
    first, second = np.array(found["temperature"])
    assert (np.diff(first) > 0).all() and second == pytest.approx(2 * first, rel=0.15)  # the floor, of clean bits, bends them a little
