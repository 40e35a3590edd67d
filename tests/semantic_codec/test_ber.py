from __future__ import annotations

import numpy as np
import pytest

from semantic_codec.ber import BerEstimator
from semantic_codec.errors import InvalidRequest
from semantic_codec.frame import FrameReader, Header, WireCodec, encode_frame

CODEC = WireCodec(2, bytes(32), (8, 16, 32))
READER = FrameReader([CODEC])


def estimates(bers, links, seed):
    """Mean estimate of many links after each frame, through real frames: float (frames,)."""
    rng = np.random.default_rng(seed)
    clean = np.frombuffer(encode_frame(Header(2, 0, 9, 5), bytes(8), CODEC.encoder_hash), dtype=np.uint8)
    flips = rng.random((links, len(bers), 8 * len(clean))) < np.asarray(bers)[:, None]
    results = READER.read([frame.tobytes() for frame in (np.packbits(flips, axis=2) ^ clean).reshape(-1, len(clean))])
    paths = []
    for link in range(links):
        estimator = BerEstimator()
        path = []
        for result in results[link * len(bers) : (link + 1) * len(bers)]:
            if result.outcome == "ok":
                estimator.update(result.pilot_errors, result.pilot_bits)
            else:
                estimator.failure()
            path.append(estimator.mean)
        paths.append(path)
    return np.mean(paths, axis=0)


@pytest.mark.parametrize("ber", [1e-2, 3e-2, 0.1])
def test_bias_after_32_frames_is_at_most_15_percent(ber):
    assert abs(estimates([ber] * 32, links=60, seed=1)[-1] / ber - 1) <= 0.15


@pytest.mark.parametrize("before, after", [(1e-3, 1e-2), (1e-2, 0.1), (1e-3, 0.1), (0.1, 1e-2)])
def test_half_way_within_16_frames_of_a_step(before, after):
    path = estimates([before] * 64 + [after] * 16, links=40, seed=2)
    assert abs(path[-1] - after) <= abs(after - before) / 2


def test_never_zero():
    estimator = BerEstimator()
    assert estimator.mean > 0
    for _ in range(10_000):
        estimator.update(0, 144)
    assert 0 < estimator.mean < 1e-3


def test_failures_push_it_up():
    estimator = BerEstimator()
    for _ in range(50):
        estimator.update(1, 144)
    quiet = estimator.mean
    estimator.failure()
    assert estimator.mean > quiet
    for _ in range(200):
        estimator.failure()
    assert 0.15 < estimator.mean < 0.2


def test_never_above_a_half():
    estimator = BerEstimator()
    for _ in range(10):
        estimator.update(144, 144)
    assert estimator.mean == 0.5


@pytest.mark.parametrize("forgetting", [0, 1, -0.5, float("nan")])
def test_refuses_a_forgetting_that_forgets_all_or_nothing(forgetting):
    with pytest.raises(InvalidRequest, match="forgetting is"):
        BerEstimator(forgetting)
