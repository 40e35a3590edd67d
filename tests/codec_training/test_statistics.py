import numpy as np
import pytest

from codec_training.flips import flipped
from codec_training.statistics import calibration_error_percent, interval_percent, paired_interval_percent


def test_interval_is_the_binomial_one_for_a_single_draw():
    right = np.random.default_rng(0).random((1, 10_000)) < 0.9
    assert interval_percent(right) == pytest.approx(100 * 1.96 * np.sqrt(0.9 * 0.1 / 10_000), rel=0.05)
    assert interval_percent(np.repeat(right, 3, axis=0)) == pytest.approx(interval_percent(right))


def test_one_image_leaves_everything_open():
    assert interval_percent(np.ones((3, 1))) == 100


def test_paired_interval_is_narrow_where_codecs_err_on_the_same_images():
    rng = np.random.default_rng(0)
    right = rng.random((3, 5000)) < 0.9
    rival = right & (rng.random((3, 5000)) < 0.98)
    low, high = paired_interval_percent(right, rival)
    assert 0 < low < 100 * (right.mean() - rival.mean()) < high < 3


def test_calibration_error_of_honest_and_of_boasting_confidence():
    rng = np.random.default_rng(0)
    confidence = rng.uniform(0.5, 1, 200_000)
    right = rng.random(200_000) < confidence
    assert calibration_error_percent(confidence, right) < 0.5
    assert calibration_error_percent(np.ones(200_000), right) == pytest.approx(25, abs=0.5)


def test_flips_have_their_rate_and_nest_with_the_ber():
    bits = np.zeros((500, 256), np.uint8)
    few, many = flipped(bits, 0.01, 3, 0), flipped(bits, 0.1, 3, 0)
    assert few.mean() == pytest.approx(0.01, abs=0.0015) and many.mean() == pytest.approx(0.1, abs=0.005)
    assert (many[few == 1] == 1).all()
    assert (flipped(bits, 0.1, 3, 1) != many).any() and (flipped(bits, 0.1, 3, 0) == many).all()
    assert flipped(bits, 0, 3, 0).sum() == 0
